//! A first enrolment: the pin is verified in the handshake, before the secret leaves the host.

use std::path::Path;
use std::time::Duration;

use hostler_protocol::codec::{self, Decoder, FrameError};
use hostler_protocol::join::Join;
use hostler_protocol::message::{EnrolRequest, Enrolled, ToAgent, ToController, close};
use hostler_protocol::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Card, Identity, IdentityError, files, key, tls};
use crate::net::{self, DialError};

/// How long the controller may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What an enrolment needs.
#[derive(Debug)]
pub struct Enrolment<'a> {
    pub join: &'a Join,
    pub state_dir: &'a Path,
    pub hostname: String,
    /// The facts document.
    pub facts: Vec<u8>,
    /// Replace an identity the host already has.
    pub replace: bool,
}

/// Why a host could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It has an identity already.
    #[error("this host is already enrolled; pass --replace to give it a new identity")]
    AlreadyEnrolled,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No address answered, or what answered is not the controller the join string names.
    #[error("no controller could be reached")]
    Dial(#[source] DialError),
    /// The connection broke; running the same command again is safe.
    #[error("the connection broke before the controller answered; try the same command again")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time; running the same command again is safe.
    #[error("the controller did not answer in time; try the same command again")]
    TimedOut,
    /// The controller answered with something else.
    #[error("the controller's answer cannot be understood")]
    Answer(#[source] FrameError),
    /// The controller answered out of turn.
    #[error("the controller answered with something else than an identity")]
    Unexpected,
    /// The controller refused.
    #[error("the controller refused: {message} ({code})")]
    Refused { code: String, message: String },
    /// The identity does not fit the pin.
    #[error("the controller gave a root that is not the one the join string names")]
    OtherRoot,
    /// The identity does not fit this host's key; what the host had before stays.
    #[error("the controller gave an identity this host cannot use")]
    Unfit(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Enrols this host and stores its identity.
///
/// # Errors
/// [`EnrolError`]; the candidate key stays, so that a retry asks for the same identity.
pub async fn enrol(enrolment: Enrolment<'_>) -> Result<Card, EnrolError> {
    let Enrolment { join, state_dir, hostname, facts, replace } = enrolment;
    if files::is_enrolled(state_dir) && !replace {
        return Err(EnrolError::AlreadyEnrolled);
    }
    let key_pem = files::candidate_key(state_dir)?;
    let request = EnrolRequest {
        version_min: PROTOCOL_VERSION_MIN,
        version_max: PROTOCOL_VERSION,
        token: join.token.clone(),
        secret: join.secret.to_vec(),
        csr: key::request(&key_pem)?,
        hostname,
        facts,
    };
    let (config, seen) = tls::enrolment_config(join.pin)?;
    let (endpoint, connection) =
        net::dial_any(&join.addresses, &config).await.map_err(EnrolError::Dial)?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask(&connection, request)).await;
    connection.close(close::DONE.into(), b"");
    let enrolled = answer.map_err(|_| EnrolError::TimedOut)??;
    net::settle(&endpoint).await;

    let pinned = tls::pin_of(&enrolled.root) == Some(join.pin);
    if !pinned || seen.get().as_deref() != Some(enrolled.root.as_slice()) {
        return Err(EnrolError::OtherRoot);
    }
    let card =
        Card { host: enrolled.host, name: enrolled.name, controllers: join.addresses.clone() };
    // It must be fit for use before it takes the place of an identity that is.
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| EnrolError::Unfit(Box::new(error)))?;
    let identity = Identity {
        card,
        chain: enrolled.chain.iter().cloned().map(CertificateDer::from).collect(),
        root: enrolled.root.clone().into(),
        key,
    };
    tls::session_config(&identity).map_err(|error| EnrolError::Unfit(Box::new(error)))?;
    files::commit(state_dir, &identity.card, &enrolled.chain, &enrolled.root)?;
    Ok(identity.card)
}

async fn ask(
    connection: &quinn::Connection,
    request: EnrolRequest,
) -> Result<Enrolled, EnrolError> {
    let lost = |error: Box<dyn std::error::Error + Send + Sync>| EnrolError::Lost(error);
    let frame = codec::encode(&ToController::Enrol(request)).map_err(EnrolError::Answer)?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|e| lost(e.into()))?;
    send.write_all(&frame).await.map_err(|e| lost(e.into()))?;
    let mut decoder = Decoder::new();
    let mut bytes = vec![0; 16 * 1024];
    loop {
        if let Some(payload) = decoder.next_payload().map_err(EnrolError::Answer)? {
            return match codec::decode(&payload).map_err(EnrolError::Answer)? {
                ToAgent::Enrolled(enrolled) => Ok(enrolled),
                ToAgent::EnrolRefused { code, message } => {
                    Err(EnrolError::Refused { code, message })
                }
                ToAgent::Welcome(_)
                | ToAgent::Refused { .. }
                | ToAgent::HeartbeatAck { .. }
                | ToAgent::Run { .. }
                | ToAgent::Cancel { .. }
                | ToAgent::Ack { .. }
                | ToAgent::Drain { .. } => Err(EnrolError::Unexpected),
            };
        }
        match receive.read(&mut bytes).await.map_err(|e| lost(e.into()))? {
            Some(read) => decoder.ingest(&bytes[..read]),
            None => {
                decoder.finish().map_err(EnrolError::Answer)?;
                return Err(lost("the controller ended the stream".into()));
            }
        }
    }
}
