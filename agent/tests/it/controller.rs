//! A controller of few words: a real QUIC endpoint with a real certificate authority, which says
//! exactly what a test tells it to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hostler_protocol::codec::{self, Decoder};
use hostler_protocol::id::{ControllerId, EnrolmentTokenId};
use hostler_protocol::join::Join;
use hostler_protocol::message::{
    AttemptRef, EnrolRequest, Enrolled, Hello, ToAgent, ToController, Verdict, Welcome,
};
use hostler_protocol::{ALPN_ENROL, ALPN_SESSION, CONTROLLER_NAME};
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

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

impl Controller {
    /// A controller on a free loopback port.
    pub(crate) fn start() -> Self {
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
        let leaf = CertificateParams::new(vec![CONTROLLER_NAME.to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
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
        tls.alpn_protocols = vec![ALPN_SESSION.to_vec(), ALPN_ENROL.to_vec()];
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

    /// The identity a request asks for.
    pub(crate) fn certify(&self, request: &EnrolRequest) -> ToAgent {
        let csr = CertificateSigningRequestParams::from_der(&request.csr.clone().into()).unwrap();
        let leaf = csr.signed_by(&self.issuer).unwrap();
        ToAgent::Enrolled(Enrolled {
            host: "host_00000000000000000000000001".parse().unwrap(),
            name: "web-1".to_owned(),
            chain: vec![leaf.der().to_vec(), self.issuing.to_vec()],
            root: self.root.to_vec(),
        })
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
        let running = peer.hello.running.clone();
        let verdicts = running.into_iter().map(|a| (a, Verdict::Continue)).collect();
        peer.welcome(epoch, verdicts).await;
        peer
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
        let controller = ControllerId::from_parts(1, [1; 10]);
        let welcome = Welcome { version: 1, controller, epoch, verdicts };
        self.control.say(&ToAgent::Welcome(welcome)).await;
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
