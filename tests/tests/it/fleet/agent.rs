//! A scripted agent: speaks the protocol over quinn, does no work.

use std::net::SocketAddr;
use std::sync::Arc;

use hostler_protocol::codec::{self, Decoder};
use hostler_protocol::id::{BootId, EnrolmentTokenId};
use hostler_protocol::message::{
    AttemptRef, EnrolRequest, Enrolled, Hello, ToAgent, ToController, Welcome,
};
use hostler_protocol::{ALPN_ENROL, ALPN_SESSION, CONTROLLER_NAME};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

use super::{Controller, PATIENCE};

/// A key and, once enrolled, what the controller gave for it.
pub(super) struct Identity {
    pub(super) key: KeyPair,
    pub(super) enrolled: Enrolled,
}

/// Bounds any wait of a test.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

pub(super) fn new_key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(super) fn key_sha256(key: &KeyPair) -> String {
    hex::encode(Sha256::digest(key.subject_public_key_info()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Trusts a chain whose root has the pinned key.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in intermediates {
            let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
            if <[u8; 32]>::from(Sha256::digest(parsed.tbs_certificate.subject_pki.raw)) == self.pin
            {
                roots.add(certificate.clone().into_owned())?;
            }
        }
        if roots.is_empty() {
            return Err(rustls::Error::General("no certificate has the pinned key".to_owned()));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Connects under an ALPN, with or without a client certificate.
pub(super) async fn connect(
    to: SocketAddr,
    pin: [u8; 32],
    alpn: &[u8],
    certificate: Option<(Vec<Vec<u8>>, &KeyPair)>,
) -> Result<Connection, ConnectionError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pin }));
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = chain.into_iter().map(CertificateDer::from).collect();
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    soon("a handshake", endpoint.connect(to, CONTROLLER_NAME).unwrap()).await
}

pub(super) fn request(token: &EnrolmentTokenId, secret: &[u8], key: &KeyPair) -> EnrolRequest {
    EnrolRequest {
        version_min: 1,
        version_max: 1,
        token: token.clone(),
        secret: secret.to_vec(),
        csr: csr(key),
        hostname: "web-1".to_owned(),
        facts: br#"{"os":"test"}"#.to_vec(),
    }
}

/// Enrols; the error is the refusal's code.
pub(super) async fn enrol(
    controller: &Controller,
    request: EnrolRequest,
) -> Result<Enrolled, String> {
    enrol_or_why(controller, request).await.map_err(|(code, _)| code)
}

/// The same; the error is the refusal's code and message.
pub(super) async fn enrol_or_why(
    controller: &Controller,
    request: EnrolRequest,
) -> Result<Enrolled, (String, String)> {
    let pin = controller.app().join.pin;
    let connection = connect(controller.ready.agents, pin, ALPN_ENROL, None).await.unwrap();
    let mut stream = Stream::open(&connection).await;
    stream.send(&ToController::Enrol(request)).await;
    match stream.next().await {
        Some(ToAgent::Enrolled(enrolled)) => Ok(enrolled),
        Some(ToAgent::EnrolRefused { code, message }) => Err((code, message)),
        other => panic!("an enrolment must be answered, got {other:?}"),
    }
}

/// A new host of that name.
pub(super) async fn new_host(controller: &Controller, name: &str) -> Identity {
    let (token, secret) = controller.token(Some(name)).await;
    let key = new_key();
    let enrolled = enrol(controller, request(&token, &secret, &key)).await.unwrap();
    Identity { key, enrolled }
}

/// One bidirectional stream of frames.
pub(super) struct Stream {
    pub(super) send: SendStream,
    receive: RecvStream,
    decoder: Decoder,
}

impl Stream {
    pub(super) async fn open(connection: &Connection) -> Self {
        let (send, receive) = connection.open_bi().await.unwrap();
        Self { send, receive, decoder: Decoder::new() }
    }

    /// The next stream the controller opens.
    pub(super) async fn accept(connection: &Connection) -> Self {
        let (send, receive) =
            soon("a job's stream", connection.accept_bi()).await.expect("the connection stands");
        Self { send, receive, decoder: Decoder::new() }
    }

    pub(super) async fn send(&mut self, message: &ToController) {
        self.send.write_all(&codec::encode(message).unwrap()).await.unwrap();
    }

    /// The next message; `None` when the stream or the connection ends.
    pub(super) async fn next(&mut self) -> Option<ToAgent> {
        soon("a message", async {
            loop {
                if let Some(payload) = self.decoder.next_payload().unwrap() {
                    return Some(codec::decode(&payload).unwrap());
                }
                match self.receive.read_chunk(65_536, true).await {
                    Ok(Some(chunk)) => self.decoder.ingest(&chunk.bytes),
                    Ok(None) | Err(_) => return None,
                }
            }
        })
        .await
    }

    /// Waits for the acknowledgement of an attempt.
    pub(super) async fn acknowledged(&mut self, attempt: &AttemptRef) {
        let expected = ToAgent::Ack { attempt: attempt.clone() };
        assert_eq!(self.next().await, Some(expected), "a committed outcome must be acknowledged");
    }
}

/// The Hello of an agent that can renew its certificate.
pub(super) fn hello_in_2(running: &[AttemptRef]) -> Hello {
    let clock_us = hostler_agent::clock::Clock::system().now_us();
    Hello { version_max: 2, clock_us, ..hello(running, &[]) }
}

pub(super) fn hello(running: &[AttemptRef], unacknowledged: &[AttemptRef]) -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        build: "test".to_owned(),
        boot: BootId::from_parts(1, [1; 10]),
        clock_us: 0,
        running: running.to_vec(),
        unacknowledged: unacknowledged.to_vec(),
        facts: b"{}".to_vec(),
    }
}

/// A signing request for a key.
pub(super) fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

/// Asks for a certificate for a new key over a live session; the error is the refusal's code.
pub(super) async fn renew(session: &mut Session, csr: Vec<u8>) -> Result<Vec<Vec<u8>>, String> {
    session.control.send(&ToController::Renew { csr }).await;
    match session.control.next().await {
        Some(ToAgent::Renewed(renewed)) => Ok(renewed.chain),
        Some(ToAgent::RenewRefused { code, .. }) => Err(code),
        other => panic!("a request for a certificate must be answered, got {other:?}"),
    }
}

/// The same host with another key and certificate.
pub(super) fn with(identity: &Identity, key: KeyPair, chain: Vec<Vec<u8>>) -> Identity {
    Identity { key, enrolled: Enrolled { chain, ..identity.enrolled.clone() } }
}

/// A session that was welcomed.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) control: Stream,
    pub(super) welcome: Welcome,
}

/// Connects with the host's certificate; nothing is said yet.
pub(super) async fn dial(controller: &Controller, identity: &Identity) -> Connection {
    let pin = controller.app().join.pin;
    let certificate = Some((identity.enrolled.chain.clone(), &identity.key));
    connect(controller.ready.agents, pin, ALPN_SESSION, certificate).await.unwrap()
}

pub(super) async fn session(controller: &Controller, identity: &Identity, hello: Hello) -> Session {
    let connection = dial(controller, identity).await;
    let mut control = Stream::open(&connection).await;
    control.send(&ToController::Hello(hello)).await;
    match control.next().await {
        Some(ToAgent::Welcome(welcome)) => Session { connection, control, welcome },
        other => {
            panic!("a Hello must be welcomed, got {other:?}, {:?}", connection.close_reason())
        }
    }
}

/// The code the controller closes the connection with.
pub(super) async fn close_code(connection: &Connection) -> u64 {
    let error = soon("the controller to close", connection.closed()).await;
    let ConnectionError::ApplicationClosed(closed) = error else {
        panic!("expected the controller to close with a code, got {error}");
    };
    closed.error_code.into_inner()
}
