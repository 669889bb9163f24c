//! The return of a host whose certificate has ended: it proves the key of its last certificate,
//! on a connection where it shows none, and gets a certificate for a new key.

use hostler_protocol::id::HostId;
use hostler_protocol::message::{
    Challenge, RecoverProof, RecoverRequest, Renewed, ToAgent, ToController, close,
};
use hostler_protocol::recovery::{EXPORTER_BYTES, EXPORTER_LABEL, NONCE_BYTES, statement};
use hostler_protocol::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use quinn::Connection;
use rustls_pki_types::PrivateKeyDer;

use super::exchange::{Exchange, ExchangeError};
use super::{Identity, IdentityError, key, tls};
use crate::clock::Clock;
use crate::net::{self, DialError};

/// The code of a refusal where the controller does not know the key that was proven.
pub(super) const KEY_NOT_KNOWN: &str = "HOST_UNKNOWN";

/// Why the host is not back.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No address answered.
    #[error("no controller could be reached")]
    Dial(#[source] DialError),
    /// The controller does not know how hosts come back.
    #[error("the controller is too old to take back hosts: upgrade it, or enrol this host again")]
    TooOld,
    #[error("the controller gave no answer")]
    Exchange(#[from] ExchangeError),
    /// The controller answered out of turn.
    #[error("the controller answered with something else than was asked for")]
    Unexpected,
    /// The connection has no keying material to bind the proof to.
    #[error("the connection cannot be proven to be this one")]
    Binding,
    /// The controller refused.
    #[error("the controller refused: {message} ({code})")]
    Refused { code: String, message: String },
}

impl RecoverError {
    /// Whether trying again soon cannot help.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Refused { code, .. } => !matches!(code.as_str(), "RATE_LIMITED" | "UNAVAILABLE"),
            Self::Identity(_) | Self::TooOld => true,
            Self::Dial(_) | Self::Exchange(_) | Self::Unexpected | Self::Binding => false,
        }
    }
}

/// The chain of a certificate for a new key, given for the proof of an old one.
pub(super) async fn recover(
    controllers: &[String],
    identity: &Identity,
    csr: Vec<u8>,
    clock: &Clock,
) -> Result<Vec<Vec<u8>>, RecoverError> {
    let config = tls::return_config(&identity.root, clock)?;
    let (endpoint, connection) =
        net::dial_any(controllers, &config).await.map_err(RecoverError::of_dialling)?;
    let answer = talk(&connection, &identity.card.host, &identity.key, csr).await;
    connection.close(close::DONE.into(), b"");
    net::settle(&endpoint).await;
    answer
}

/// What the controller's clock says, learnt from a challenge that is not answered.
///
/// # Errors
/// [`RecoverError`] if the connection does not get that far.
pub async fn controller_clock_us(
    connection: &Connection,
    host: &HostId,
) -> Result<i64, RecoverError> {
    let mut exchange = Exchange::open(connection).await?;
    Ok(challenge(&mut exchange, host).await?.clock_us)
}

impl RecoverError {
    pub(crate) fn of_dialling(error: DialError) -> Self {
        match error.connection_error() {
            Some(ended) if net::is_unknown_there(ended) => Self::TooOld,
            Some(_) | None => Self::Dial(error),
        }
    }
}

async fn challenge(exchange: &mut Exchange, host: &HostId) -> Result<Challenge, RecoverError> {
    let request = RecoverRequest {
        version_min: PROTOCOL_VERSION_MIN,
        version_max: PROTOCOL_VERSION,
        host: host.clone(),
    };
    match answer(exchange.ask(&ToController::Recover(request)).await?)? {
        Answer::Challenge(challenge) => Ok(challenge),
        Answer::Renewed(_) => Err(RecoverError::Unexpected),
    }
}

async fn talk(
    connection: &Connection,
    host: &HostId,
    old_key: &PrivateKeyDer<'_>,
    csr: Vec<u8>,
) -> Result<Vec<Vec<u8>>, RecoverError> {
    let mut exchange = Exchange::open(connection).await?;
    let challenge = challenge(&mut exchange, host).await?;
    let nonce: [u8; NONCE_BYTES] =
        challenge.nonce.try_into().map_err(|_| RecoverError::Unexpected)?;
    let mut keying = [0; EXPORTER_BYTES];
    connection
        .export_keying_material(&mut keying, EXPORTER_LABEL, b"")
        .map_err(|_| RecoverError::Binding)?;
    let signed = key::sign(old_key, &statement(&keying, &nonce, host, &csr))?;
    let proof = RecoverProof { public_key: signed.public_key, signature: signed.signature, csr };
    match answer(exchange.ask(&ToController::Prove(proof)).await?)? {
        Answer::Renewed(Renewed { chain }) => Ok(chain),
        Answer::Challenge(_) => Err(RecoverError::Unexpected),
    }
}

enum Answer {
    Challenge(Challenge),
    Renewed(Renewed),
}

fn answer(message: ToAgent) -> Result<Answer, RecoverError> {
    match message {
        ToAgent::Challenge(challenge) => Ok(Answer::Challenge(challenge)),
        ToAgent::Renewed(renewed) => Ok(Answer::Renewed(renewed)),
        ToAgent::RenewRefused { code, message } => Err(RecoverError::Refused { code, message }),
        ToAgent::Welcome(_)
        | ToAgent::Refused { .. }
        | ToAgent::HeartbeatAck { .. }
        | ToAgent::Run { .. }
        | ToAgent::Cancel { .. }
        | ToAgent::Ack { .. }
        | ToAgent::Drain { .. }
        | ToAgent::Enrolled(_)
        | ToAgent::EnrolRefused { .. } => Err(RecoverError::Unexpected),
    }
}
