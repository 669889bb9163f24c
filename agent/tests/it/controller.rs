//! A controller of few words: a real QUIC endpoint with a real certificate authority, which says
//! exactly what a test tells it to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hostler_protocol::codec::{self, Decoder};
use hostler_protocol::id::{ControllerId, EnrolmentTokenId};
use hostler_protocol::join::Join;
use hostler_protocol::message::{
    AttemptRef, Challenge, EnrolRequest, Enrolled, Hello, RecoverProof, RecoverRequest, Renewed,
    ToAgent, ToController, Verdict, Welcome,
};
use hostler_protocol::{
    ALPN_ENROL, ALPN_RENEW, ALPN_SESSION, CERTIFICATE_BACKDATE_SECS, CONTROLLER_NAME,
};
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    PublicKeyData as _,
};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::FromDer as _;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must come.
pub(crate) async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

pub(crate) struct Controller {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) address: SocketAddr,
    pub(crate) root: CertificateDer<'static>,
    issuing: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// Seconds since the Unix epoch by this machine's clock.
pub(crate) fn now_secs() -> u64 {
    let now_us = hostler_agent::clock::Clock::system().now_us();
    u64::try_from(now_us / 1_000_000).unwrap()
}

/// As a certificate writes a time.
macro_rules! date {
    ($secs:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs($secs)
    };
}

/// What tells a key from another.
fn key_of_csr(csr: &[u8]) -> Vec<u8> {
    let csr = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
    csr.public_key.subject_public_key_info()
}

impl Controller {
    /// A controller on a free loopback port.
    pub(crate) fn start() -> Self {
        Self::with_alpn(&[ALPN_SESSION, ALPN_ENROL, ALPN_RENEW])
    }

    /// A controller that speaks just these protocols.
    pub(crate) fn with_alpn(alpn: &[&[u8]]) -> Self {
        let now = now_secs();
        Self::with(alpn, (now - 300, now + 7 * 86_400))
    }

    /// A controller whose own certificate holds from then to then.
    pub(crate) fn with_validity(secs: (u64, u64)) -> Self {
        Self::with(&[ALPN_SESSION, ALPN_ENROL, ALPN_RENEW], secs)
    }

    fn with(alpn: &[&[u8]], validity_secs: (u64, u64)) -> Self {
        let ca = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params
        };
        let root_key = KeyPair::generate().unwrap();
        let root = ca("root").self_signed(&root_key).unwrap().der().clone();
        let root_issuer = Issuer::new(ca("root"), root_key);
        let issuing_key = KeyPair::generate().unwrap();
        let issuing = ca("issuing").signed_by(&issuing_key, &root_issuer).unwrap().der().clone();
        let issuer = Issuer::new(ca("issuing"), issuing_key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![CONTROLLER_NAME.to_owned()]).unwrap();
        (leaf.not_before, leaf.not_after) = (date!(validity_secs.0), date!(validity_secs.1));
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let chain = vec![leaf.der().clone(), issuing.clone(), root.clone()];

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let crypto = QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.local_addr().unwrap();
        Self { endpoint, address, root, issuing, issuer }
    }

    /// A join string for this controller.
    pub(crate) fn join(&self) -> Join {
        Join {
            addresses: vec![self.address.to_string()],
            pin: hostler_agent::identity::tls::pin_of(&self.root).unwrap(),
            token: EnrolmentTokenId::from_parts(1, [1; 10]),
            secret: [9; 32],
        }
    }

    async fn connection(&self) -> quinn::Connection {
        let incoming = soon("a connection", self.endpoint.accept()).await.unwrap();
        soon("a handshake", incoming.into_future()).await.unwrap()
    }

    /// Takes one enrolment request and answers it.
    pub(crate) async fn enrol(
        &self,
        answer: impl FnOnce(&EnrolRequest) -> Option<ToAgent>,
    ) -> EnrolRequest {
        let connection = self.connection().await;
        assert!(connection.peer_identity().is_none(), "an enrolment shows no certificate");
        let (send, receive) = soon("a stream", connection.accept_bi()).await.unwrap();
        let mut stream = Stream { send, receive, decoder: Decoder::new() };
        let ToController::Enrol(request) = stream.next().await.unwrap() else {
            panic!("an enrolment stream carries Enrol first");
        };
        if let Some(answer) = answer(&request) {
            stream.say(&answer).await;
            connection.closed().await;
        }
        request
    }

    /// A certificate for a key that holds for so long.
    pub(crate) fn chain(&self, csr: &[u8], secs: u64) -> Vec<Vec<u8>> {
        let mut csr = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        let now = now_secs();
        csr.params.not_before = date!(now - CERTIFICATE_BACKDATE_SECS);
        csr.params.not_after = date!(now + secs);
        let leaf = csr.signed_by(&self.issuer).unwrap();
        vec![leaf.der().to_vec(), self.issuing.to_vec()]
    }

    /// The identity a request asks for, good for longer than any test.
    pub(crate) fn certify(&self, request: &EnrolRequest) -> ToAgent {
        self.certify_for(request, 7 * 86_400)
    }

    /// The identity a request asks for, good for so long.
    pub(crate) fn certify_for(&self, request: &EnrolRequest, secs: u64) -> ToAgent {
        ToAgent::Enrolled(Enrolled {
            host: "host_00000000000000000000000001".parse().unwrap(),
            name: "web-1".to_owned(),
            chain: self.chain(&request.csr, secs),
            root: self.root.to_vec(),
        })
    }

    /// Whatever connects next, by what it wants to speak; `None`: it did not get through the
    /// handshake, or was not taken.
    pub(crate) async fn next(&self) -> Option<Coming> {
        let incoming = soon("a connection", self.endpoint.accept()).await.unwrap();
        let connection = soon("a handshake", incoming.into_future()).await.ok()?;
        let data = connection.handshake_data().unwrap().downcast::<HandshakeData>().unwrap();
        if data.protocol.as_deref() == Some(ALPN_RENEW) {
            assert!(connection.peer_identity().is_none(), "a return shows no certificate");
            let (send, receive) = soon("a stream", connection.accept_bi()).await.ok()?;
            let mut stream = Stream { send, receive, decoder: Decoder::new() };
            let ToController::Recover(asked) = stream.next().await? else {
                panic!("a return begins with Recover");
            };
            return Some(Coming::Return(Return { connection, stream, asked }));
        }
        let (send, receive) = soon("the control stream", connection.accept_bi()).await.ok()?;
        let mut control = Stream { send, receive, decoder: Decoder::new() };
        let ToController::Hello(hello) = control.next().await? else {
            panic!("the control stream carries Hello first");
        };
        Some(Coming::Session(Box::new(Peer { connection, control, hello })))
    }

    /// The next session, whatever fails before it; a return is not expected.
    pub(crate) async fn next_session(&self) -> Peer {
        loop {
            match self.next().await {
                Some(Coming::Session(peer)) => return *peer,
                Some(Coming::Return(_)) => panic!("a return where a session was expected"),
                None => {}
            }
        }
    }

    /// The next return, whatever fails before it; a session is not expected.
    pub(crate) async fn next_return(&self) -> Return {
        loop {
            match self.next().await {
                Some(Coming::Return(coming)) => return coming,
                Some(Coming::Session(_)) => panic!("a session where a return was expected"),
                None => {}
            }
        }
    }

    /// Takes a session as far as its `Hello`.
    pub(crate) async fn session(&self) -> Peer {
        let connection = self.connection().await;
        assert!(connection.peer_identity().is_some(), "a session shows a certificate");
        let (send, receive) = soon("the control stream", connection.accept_bi()).await.unwrap();
        let mut control = Stream { send, receive, decoder: Decoder::new() };
        let ToController::Hello(hello) = control.next().await.unwrap() else {
            panic!("the control stream carries Hello first");
        };
        Peer { connection, control, hello }
    }

    /// Takes a session and welcomes it, all that runs going on.
    pub(crate) async fn welcomed(&self, epoch: u64) -> Peer {
        let mut peer = self.session().await;
        peer.welcome_all(1, epoch).await;
        peer
    }
}

/// Who connected.
pub(crate) enum Coming {
    Session(Box<Peer>),
    Return(Return),
}

/// A host that wants to come back, and has said who it is.
pub(crate) struct Return {
    pub(crate) connection: quinn::Connection,
    pub(crate) stream: Stream,
    pub(crate) asked: RecoverRequest,
}

impl Return {
    /// Challenges it; its proof, and the public key that it proves.
    pub(crate) async fn proof(&mut self) -> (RecoverProof, Vec<u8>) {
        let nonce = [7; 32];
        let clock_us = hostler_agent::clock::Clock::system().now_us();
        let challenge = Challenge { nonce: nonce.to_vec(), clock_us };
        self.stream.say(&ToAgent::Challenge(challenge)).await;
        let Some(ToController::Prove(proof)) = self.stream.next().await else {
            panic!("a challenge is answered with a proof");
        };
        let mut keying = [0; hostler_protocol::recovery::EXPORTER_BYTES];
        let label = hostler_protocol::recovery::EXPORTER_LABEL;
        self.connection.export_keying_material(&mut keying, label, b"").unwrap();
        let statement =
            hostler_protocol::recovery::statement(&keying, &nonce, &self.asked.host, &proof.csr);
        let (_, key) =
            x509_parser::x509::SubjectPublicKeyInfo::from_der(&proof.public_key).unwrap();
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            key.subject_public_key.data,
        );
        key.verify(&statement, &proof.signature).expect("the proof is the key's");
        let public_key = proof.public_key.clone();
        (proof, public_key)
    }

    pub(crate) async fn answer(mut self, answer: &ToAgent) {
        self.stream.say(answer).await;
        self.connection.closed().await;
    }
}

/// One session, as the controller sees it.
pub(crate) struct Peer {
    pub(crate) connection: quinn::Connection,
    pub(crate) control: Stream,
    pub(crate) hello: Hello,
}

impl Peer {
    pub(crate) async fn welcome(&mut self, epoch: u64, verdicts: Vec<(AttemptRef, Verdict)>) {
        self.welcome_in(1, epoch, verdicts).await;
    }

    /// Welcomes it in that version of the protocol, all that runs going on.
    pub(crate) async fn welcome_all(&mut self, version: u16, epoch: u64) {
        let running = self.hello.running.clone();
        let verdicts = running.into_iter().map(|a| (a, Verdict::Continue)).collect();
        self.welcome_in(version, epoch, verdicts).await;
    }

    async fn welcome_in(&mut self, version: u16, epoch: u64, verdicts: Vec<(AttemptRef, Verdict)>) {
        let controller = ControllerId::from_parts(1, [1; 10]);
        let welcome = Welcome { version, controller, epoch, verdicts };
        self.control.say(&ToAgent::Welcome(welcome)).await;
    }

    /// The public key info of the certificate it shows.
    pub(crate) fn key(&self) -> Vec<u8> {
        let shown = self.connection.peer_identity().expect("a session shows a certificate");
        let chain = shown.downcast::<Vec<CertificateDer<'static>>>().unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        leaf.tbs_certificate.subject_pki.raw.to_vec()
    }

    /// Waits until it asks for a certificate; the request, and its key.
    pub(crate) async fn renew(&mut self) -> (Vec<u8>, Vec<u8>) {
        loop {
            match self.control.next().await {
                Some(ToController::Renew { csr }) => {
                    let key = key_of_csr(&csr);
                    return (csr, key);
                }
                Some(ToController::Heartbeat { sequence, .. }) => {
                    self.control.say(&ToAgent::HeartbeatAck { sequence }).await;
                }
                other => panic!("a request for a certificate was expected, not {other:?}"),
            }
        }
    }

    pub(crate) async fn renewed(&mut self, chain: Vec<Vec<u8>>) {
        self.control.say(&ToAgent::Renewed(Renewed { chain })).await;
    }

    /// Ends it as a controller does that knows nobody of this certificate.
    pub(crate) fn refuse(self) {
        let code = hostler_protocol::message::close::UNAUTHENTICATED;
        self.connection.close(code.into(), b"no certificate of an enrolled host");
    }

    /// Opens a job stream and says `Run`.
    pub(crate) async fn run(
        &self,
        attempt: &AttemptRef,
        spec: Vec<u8>,
        timeout_secs: u32,
    ) -> Stream {
        let (send, receive) = self.connection.open_bi().await.unwrap();
        let mut stream = Stream { send, receive, decoder: Decoder::new() };
        stream.say(&ToAgent::Run { attempt: attempt.clone(), timeout_secs, spec }).await;
        stream
    }

    /// The next job stream the agent opens.
    pub(crate) async fn opened(&self) -> Stream {
        let (send, receive) = soon("a job stream", self.connection.accept_bi()).await.unwrap();
        Stream { send, receive, decoder: Decoder::new() }
    }
}

/// One stream of frames.
pub(crate) struct Stream {
    pub(crate) send: quinn::SendStream,
    receive: quinn::RecvStream,
    decoder: Decoder,
}

impl Stream {
    pub(crate) async fn say(&mut self, message: &ToAgent) {
        self.send.write_all(&codec::encode(message).unwrap()).await.unwrap();
    }

    /// The next message, or `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<ToController> {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            if let Some(payload) = self.decoder.next_payload().unwrap() {
                return Some(codec::decode(&payload).unwrap());
            }
            let read = soon("a frame", self.receive.read(&mut bytes)).await.unwrap()?;
            self.decoder.ingest(&bytes[..read]);
        }
    }
}
