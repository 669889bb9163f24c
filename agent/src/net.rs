//! Dialling: names resolved anew each time, every address tried.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hostler_protocol::CONTROLLER_NAME;

/// A connection to a controller.
pub type Connection = quinn::Connection;

/// How bundles are fetched from controllers, as the session knows it.
#[derive(Debug, Clone)]
pub struct Way {
    /// Settings that show this host's identity.
    pub config: quinn::ClientConfig,
    /// Where the controller of the session is.
    pub first: Option<SocketAddr>,
    /// `host:port` of all of them.
    pub controllers: Vec<String>,
}

/// How long one address may take to complete a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 16;
/// How long a closed endpoint may take to say so.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(300);

/// Why no connection stands. Names the last thing tried.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There is nothing to dial.
    #[error("no controller address is known")]
    Nowhere,
    #[error("cannot resolve {name}")]
    Resolve {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot open a UDP socket")]
    Socket(#[source] std::io::Error),
    #[error("cannot dial {address}")]
    Dial {
        address: SocketAddr,
        #[source]
        source: quinn::ConnectError,
    },
    #[error("no connection to {name} ({address})")]
    Handshake {
        name: String,
        address: SocketAddr,
        #[source]
        source: quinn::ConnectionError,
    },
    #[error("no answer from {name} ({address}) over UDP")]
    Silent { name: String, address: SocketAddr },
}

impl DialError {
    /// How the connection ended, if one was begun.
    #[must_use]
    pub fn connection_error(&self) -> Option<&quinn::ConnectionError> {
        match self {
            Self::Handshake { source, .. } => Some(source),
            Self::Nowhere
            | Self::Resolve { .. }
            | Self::Socket(_)
            | Self::Dial { .. }
            | Self::Silent { .. } => None,
        }
    }

    /// The application close code, if the controller gave one.
    #[must_use]
    pub fn close_code(&self) -> Option<u32> {
        self.connection_error().and_then(close_code)
    }
}

/// The application close code of a connection that ended, if the other side gave one.
#[must_use]
pub fn close_code(error: &quinn::ConnectionError) -> Option<u32> {
    match error {
        quinn::ConnectionError::ApplicationClosed(closed) => {
            u32::try_from(closed.error_code.into_inner()).ok()
        }
        quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::TimedOut
        | quinn::ConnectionError::LocallyClosed
        | quinn::ConnectionError::CidsExhausted => None,
    }
}

/// TLS's word for a certificate that has ended or does not hold yet (RFC 8446, section 6.2).
const ALERT_CERTIFICATE_EXPIRED: u8 = 45;
/// TLS's word for a side that speaks none of the protocols offered (RFC 7301).
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

/// Whether the other side ended the connection because our certificate has ended.
#[must_use]
pub fn is_our_certificate_ended(error: &quinn::ConnectionError) -> bool {
    alert_of_peer(error) == Some(quinn::TransportErrorCode::crypto(ALERT_CERTIFICATE_EXPIRED))
}

/// Whether the other side does not know what we wanted to speak with it.
#[must_use]
pub fn is_unknown_there(error: &quinn::ConnectionError) -> bool {
    alert_of_peer(error) == Some(quinn::TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL))
}

/// Whether this side ended the connection because of the time the other's certificate holds.
#[must_use]
pub fn is_their_certificate_ended(error: &quinn::ConnectionError) -> bool {
    let ended = quinn::TransportErrorCode::crypto(ALERT_CERTIFICATE_EXPIRED);
    matches!(error, quinn::ConnectionError::TransportError(local) if local.code == ended)
}

fn alert_of_peer(error: &quinn::ConnectionError) -> Option<quinn::TransportErrorCode> {
    if let quinn::ConnectionError::ConnectionClosed(closed) = error {
        Some(closed.error_code)
    } else {
        None
    }
}

/// A connection that stands.
#[derive(Debug)]
pub struct Dialled {
    pub endpoint: quinn::Endpoint,
    pub connection: quinn::Connection,
    /// Which of the controllers named answered.
    pub place: usize,
}

/// Connects to the first of these controllers that answers, beginning at the `first`-th and going
/// round. Each name is resolved anew.
///
/// # Errors
/// [`DialError`] of the last address tried.
pub async fn dial_from(
    first: usize,
    controllers: &[String],
    config: &quinn::ClientConfig,
) -> Result<Dialled, DialError> {
    let mut last = DialError::Nowhere;
    for turn in 0..controllers.len() {
        let place = (first % controllers.len() + turn) % controllers.len();
        let Some(name) = controllers.get(place) else { continue };
        match dial_name(name, config).await {
            Ok((endpoint, connection)) => return Ok(Dialled { endpoint, connection, place }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// As [`dial_from`], beginning at the first.
///
/// # Errors
/// [`DialError`] of the last address tried.
pub async fn dial_any(
    controllers: &[String],
    config: &quinn::ClientConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), DialError> {
    let Dialled { endpoint, connection, .. } = dial_from(0, controllers, config).await?;
    Ok((endpoint, connection))
}

async fn dial_name(
    name: &str,
    config: &quinn::ClientConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), DialError> {
    let mut last = DialError::Nowhere;
    for address in resolve(name).await? {
        match dial(name, address, config).await {
            Ok(connected) => return Ok(connected),
            Err(error) => {
                tracing::debug!(%error, "an address does not answer");
                last = error;
            }
        }
    }
    Err(last)
}

/// The addresses of `host:port`.
///
/// # Errors
/// [`DialError::Resolve`].
pub async fn resolve(name: &str) -> Result<Vec<SocketAddr>, DialError> {
    let failed = |source| DialError::Resolve { name: name.to_owned(), source };
    let addresses = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(name))
        .await
        .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    let addresses: Vec<SocketAddr> = addresses.take(ADDRESSES_MAX).collect();
    match addresses.is_empty() {
        false => Ok(addresses),
        true => Err(failed(std::io::ErrorKind::NotFound.into())),
    }
}

/// Connects to one address.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    name: &str,
    address: SocketAddr,
    config: &quinn::ClientConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), DialError> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let endpoint = quinn::Endpoint::client(SocketAddr::new(any, 0)).map_err(DialError::Socket)?;
    let connecting = endpoint
        .connect_with(config.clone(), address, CONTROLLER_NAME)
        .map_err(|source| DialError::Dial { address, source })?;
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok((endpoint, connection)),
        Ok(Err(source)) => Err(DialError::Handshake { name: name.to_owned(), address, source }),
        Err(_) => Err(DialError::Silent { name: name.to_owned(), address }),
    }
}

/// Gives a closed endpoint a moment to tell the other side.
pub async fn settle(endpoint: &quinn::Endpoint) {
    if tokio::time::timeout(SETTLE_TIMEOUT, endpoint.wait_idle()).await.is_err() {
        tracing::debug!("the other side did not confirm the end of the connection");
    }
}
