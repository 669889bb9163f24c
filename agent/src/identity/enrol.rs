//! A first enrolment: the pin is verified in the handshake, before the secret leaves the host.

use std::path::Path;

use hostler_protocol::join::Join;
use hostler_protocol::message::{EnrolRequest, Enrolled, ToAgent, ToController, close};
use hostler_protocol::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::exchange::{Exchange, ExchangeError};
use super::{Card, Identity, IdentityError, files, key, tls};
use crate::clock::Clock;
use crate::net::{self, DialError};

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
    pub clock: Clock,
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
    /// No answer came; running the same command again is safe.
    #[error("no identity was received; try the same command again")]
    Exchange(#[from] ExchangeError),
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
/// [`EnrolError`]; the new key stays, so that a retry asks for the same identity.
pub async fn enrol(enrolment: Enrolment<'_>) -> Result<Card, EnrolError> {
    let Enrolment { join, state_dir, hostname, facts, replace, clock } = enrolment;
    if files::is_enrolled(state_dir) && !replace {
        return Err(EnrolError::AlreadyEnrolled);
    }
    let key_pem = files::enrolment_key(state_dir)?;
    let request = EnrolRequest {
        version_min: PROTOCOL_VERSION_MIN,
        version_max: PROTOCOL_VERSION,
        token: join.token.clone(),
        secret: join.secret.to_vec(),
        csr: key::request(&key_pem)?,
        hostname,
        facts,
    };
    let (config, seen) = tls::enrolment_config(join.pin, &clock)?;
    let (endpoint, connection) =
        net::dial_any(&join.addresses, &config).await.map_err(EnrolError::Dial)?;
    let answer = ask(&connection, request).await;
    connection.close(close::DONE.into(), b"");
    let enrolled = answer?;
    net::settle(&endpoint).await;

    let pinned = tls::pin_of(&enrolled.root) == Some(join.pin);
    if !pinned || seen.get().as_deref() != Some(enrolled.root.as_slice()) {
        return Err(EnrolError::OtherRoot);
    }
    let card = Card {
        host: enrolled.host,
        name: enrolled.name,
        controllers: join.addresses.clone(),
        issued_at_us: Some(clock.now_us()),
    };
    // It must be fit for use before it takes the place of an identity that is.
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| EnrolError::Unfit(Box::new(error)))?;
    let identity = Identity {
        card,
        chain: enrolled.chain.into_iter().map(CertificateDer::from).collect(),
        root: enrolled.root.into(),
        key,
    };
    tls::session_config(&identity, &clock).map_err(|error| EnrolError::Unfit(Box::new(error)))?;
    files::commit_enrolment(state_dir, &identity.card, &identity.chain, &identity.root)?;
    Ok(identity.card)
}

async fn ask(
    connection: &quinn::Connection,
    request: EnrolRequest,
) -> Result<Enrolled, EnrolError> {
    let mut exchange = Exchange::open(connection).await?;
    match exchange.ask(&ToController::Enrol(request)).await? {
        ToAgent::Enrolled(enrolled) => Ok(enrolled),
        ToAgent::EnrolRefused { code, message } => Err(EnrolError::Refused { code, message }),
        ToAgent::Welcome(_)
        | ToAgent::Refused { .. }
        | ToAgent::HeartbeatAck { .. }
        | ToAgent::Run { .. }
        | ToAgent::Cancel { .. }
        | ToAgent::Ack { .. }
        | ToAgent::Drain { .. }
        | ToAgent::Renewed(_)
        | ToAgent::RenewRefused { .. }
        | ToAgent::Challenge(_) => Err(EnrolError::Unexpected),
    }
}
