//! HTTP/1.1 requests to the web server of this host.
//!
//! A probe connects where the environment says (a loopback address, by policy) and names the
//! domain in `Host`, so it passes no DNS, CDN or load balancer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Most bytes of a body that are kept.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a body that are read at all: nginx stores a page only when it has been read whole.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Name of the header that carries the cache status.
pub const STATUS_HEADER: &str = "x-hostler-cache";
/// What probes call themselves.
pub const USER_AGENT: &str = "hostler-agent";

/// Where probes connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

impl Origin {
    /// Reads `http://127.0.0.1:80`; `None` when it is nothing of the kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority: http::uri::Authority = rest.trim_end_matches('/').parse().ok()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        (!authority.as_str().contains('@')).then_some(Self { tls, host, port })
    }

    /// `http` or `https`, as nginx's `$scheme` will say.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Probe<'a> {
    pub origin: &'a Origin,
    pub domain: &'a str,
    /// Path and query, beginning with `/`.
    pub path: &'a str,
    pub headers: &'a [(&'static str, String)],
    pub timeout: Duration,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The cache status header, if there was one.
    pub cache: Option<String>,
    /// Every header, names in lower case; values that are no text are left out.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The values of a header, by its name in lower case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is a `Vary` header.
    #[must_use]
    pub fn varies(&self) -> bool {
        self.values("vary").next().is_some()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection.
    #[error("{host}:{port} cannot be connected to")]
    Connect {
        host: String,
        port: u16,
        #[source]
        source: std::io::Error,
    },
    /// No TLS.
    #[error("{host}:{port} does not complete a TLS handshake")]
    Tls {
        host: String,
        port: u16,
        #[source]
        source: std::io::Error,
    },
    /// Path, domain or a header cannot stand in a request.
    #[error("this request cannot be written")]
    Request {
        #[source]
        source: http::Error,
    },
    /// The conversation broke.
    #[error("the server at {host}:{port} did not answer in HTTP")]
    Http {
        host: String,
        port: u16,
        #[source]
        source: hyper::Error,
    },
    /// Too slow.
    #[error("no answer within {} ms", timeout.as_millis())]
    TimedOut { timeout: Duration },
}

/// Sends a GET and reads the answer.
///
/// # Errors
/// [`ProbeError`]; a status such as 500 is an answer.
pub async fn get(probe: &Probe<'_>) -> Result<Answer, ProbeError> {
    match tokio::time::timeout(probe.timeout, Box::pin(connect(probe))).await {
        Ok(answer) => answer,
        Err(_) => Err(ProbeError::TimedOut { timeout: probe.timeout }),
    }
}

async fn connect(probe: &Probe<'_>) -> Result<Answer, ProbeError> {
    let Origin { tls, host, port } = probe.origin.clone();
    let stream = match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await,
        Err(_) => TcpStream::connect((host.as_str(), port)).await,
    }
    .map_err(|source| ProbeError::Connect { host: host.clone(), port, source })?;
    if !tls {
        return exchange(probe, stream).await;
    }
    let name = ServerName::try_from(probe.domain.to_owned())
        .or_else(|_| ServerName::try_from(host.clone()))
        .map_err(|error| ProbeError::Tls {
            host: host.clone(),
            port,
            source: std::io::Error::other(error),
        })?;
    let stream = tokio_rustls::TlsConnector::from(tls_config())
        .connect(name, stream)
        .await
        .map_err(|source| ProbeError::Tls { host, port, source })?;
    exchange(probe, stream).await
}

async fn exchange(
    probe: &Probe<'_>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Answer, ProbeError> {
    let fail = |source| ProbeError::Http {
        host: probe.origin.host.clone(),
        port: probe.origin.port,
        source,
    };
    let mut request = Request::builder()
        .uri(probe.path)
        .header(header::HOST, probe.domain)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close");
    for (name, value) in probe.headers {
        request = request.header(*name, value);
    }
    let request =
        request.body(Empty::<Bytes>::new()).map_err(|source| ProbeError::Request { source })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(fail)?;
    let answer = async {
        let mut response = sender.send_request(request).await.map_err(fail)?;
        let (mut body, mut length) = (Vec::new(), 0);
        while length < ANSWER_BYTES_MAX
            && let Some(frame) = response.frame().await
        {
            if let Ok(data) = frame.map_err(fail)?.into_data() {
                length += data.len();
                body.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - body.len())]);
            }
        }
        let text = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers: Vec<_> = response.headers().iter().filter_map(text).collect();
        let cache = headers.iter().find(|(name, _)| name == STATUS_HEADER);
        let cache = cache.map(|(_, value)| value.clone());
        Ok(Answer { status: response.status().as_u16(), cache, headers, body })
    };
    tokio::pin!(answer);
    tokio::select! {
        // The connection has to be driven while the answer is read; its own end tells nothing
        // that the answer does not.
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

fn tls_config() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Loopback(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .expect("ring supports every version rustls has")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
}

/// Takes any certificate. A probe asks the machine it runs on, over an address the local policy
/// names: whoever could answer in nginx's place already has the machine, and a certificate that
/// is about to be renewed or is a CDN's origin certificate must not stop a purge. What a probe
/// sends is no secret beyond this environment's own probe secret.
#[derive(Debug)]
struct Loopback(Arc<CryptoProvider>);

impl ServerCertVerifier for Loopback {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read() {
        let origin = Origin::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!((origin.tls, origin.host.as_str(), origin.port), (false, "127.0.0.1", 8080));
        let origin = Origin::parse("https://[::1]/").unwrap();
        assert_eq!((origin.tls, origin.host.as_str(), origin.port), (true, "::1", 443));
        for bad in ["127.0.0.1", "ftp://a", "http://", "http://a@b", "http://a/b"] {
            assert!(Origin::parse(bad).is_none(), "{bad} was taken for an origin");
        }
    }
}
