//! Many hosts in one process: each enrols as a real one does (from a loopback address of its own,
//! since one address may not enrol a thousand hosts a minute) and then keeps an idle session, with
//! heartbeats, over a few shared sockets. Runs as `bench swarm <file of join strings>`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hostler_agent::clock::Clock;
use hostler_agent::identity::{Card, Identity, tls};
use hostler_protocol::codec::{self, Decoder};
use hostler_protocol::id::BootId;
use hostler_protocol::join::Join;
use hostler_protocol::message::{EnrolRequest, Enrolled, Hello, ToAgent, ToController, close};
use hostler_protocol::{CONTROLLER_NAME, KEEP_ALIVE_SECS, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Res;

/// Handshakes at once: more would only wait for each other on a small machine.
pub(super) const AT_ONCE: usize = 16;
pub(super) const ENDPOINTS: usize = 4;
/// How often, and after which pause, a host asks again when the controller has no time for it.
const TRIES_MAX: usize = 200;
const RATE_LIMITED_PAUSE: Duration = Duration::from_millis(250);
const READ_BYTES: usize = 4 * 1024;
pub(super) const FACTS: &[u8] = br#"{"hostname":"swarm","os":"linux","arch":"x86_64"}"#;

/// Enrols and connects one host per line of `file`, says so, and stays until it is killed.
///
/// # Errors
/// If a host cannot enrol or connect, or a session ends.
pub async fn run(file: &Path) -> Res<()> {
    let text = std::fs::read_to_string(file)?;
    let joins: Vec<Join> = text.lines().map(Join::parse).collect::<Result<_, _>>()?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoints: Vec<quinn::Endpoint> =
        (0..ENDPOINTS).map(|_| quinn::Endpoint::client(any)).collect::<Result<_, _>>()?;

    let (limit, count) = (Arc::new(Semaphore::new(AT_ONCE)), joins.len());
    let (connected, mut sessions) = (Arc::new(Semaphore::new(0)), JoinSet::new());
    for (number, join) in joins.into_iter().enumerate() {
        let endpoint = endpoints[number % ENDPOINTS].clone();
        let (limit, connected) = (Arc::clone(&limit), Arc::clone(&connected));
        sessions.spawn(async move {
            let turn = limit.acquire().await?;
            let identity = enrol(&join, number).await?;
            let mut session = Session::open(&identity, &endpoint).await?;
            drop(turn);
            connected.add_permits(1);
            session.idle().await
        });
    }
    let everybody = connected.acquire_many(u32::try_from(count)?);
    tokio::select! {
        all = everybody => {
            all?.forget();
            writeln!(std::io::stdout().lock(), "{count} connected")?;
        }
        Some(ended) = sessions.join_next() => return ended?,
    }
    match sessions.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

/// Asks for an identity until the controller has time for it.
pub(super) async fn enrol(join: &Join, number: usize) -> Res<Identity> {
    let key = KeyPair::generate()?;
    for _ in 0..TRIES_MAX {
        match ask(join, number, &key).await? {
            ToAgent::Enrolled(Enrolled { host, name, chain, root }) => {
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                return Ok(Identity {
                    card: Card {
                        host,
                        name,
                        controllers: join.addresses.clone(),
                        issued_at_us: None,
                    },
                    chain: chain.into_iter().map(CertificateDer::from).collect(),
                    root: CertificateDer::from(root),
                    key: PrivateKeyDer::Pkcs8(key),
                });
            }
            ToAgent::EnrolRefused { code, .. } if code == "RATE_LIMITED" => {
                tokio::time::sleep(RATE_LIMITED_PAUSE).await;
            }
            other @ (ToAgent::Welcome(_)
            | ToAgent::Refused { .. }
            | ToAgent::HeartbeatAck { .. }
            | ToAgent::Run { .. }
            | ToAgent::Cancel { .. }
            | ToAgent::Ack { .. }
            | ToAgent::Drain { .. }
            | ToAgent::EnrolRefused { .. }
            | ToAgent::Renewed(_)
            | ToAgent::RenewRefused { .. }
            | ToAgent::Challenge(_)) => {
                return Err(format!("the controller did not enrol a host: {other:?}").into());
            }
        }
    }
    Err("the controller never had time to enrol a host".into())
}

async fn ask(join: &Join, number: usize, key: &KeyPair) -> Res<ToAgent> {
    let place = |number: usize| u8::try_from(number % 250 + 1).unwrap_or(1);
    let source = SocketAddr::from(([127, 0, place(number / 250), place(number)], 0));
    let endpoint = quinn::Endpoint::client(source)?;
    let address: SocketAddr = join.addresses.first().ok_or("no address")?.parse()?;
    let (config, _root) = tls::enrolment_config(join.pin, &Clock::system())?;
    let connection = endpoint.connect_with(config, address, CONTROLLER_NAME)?.await?;
    let mut session = Session::over(connection).await?;
    let csr = CertificateParams::new(Vec::<String>::new())?.serialize_request(key)?;
    let request = EnrolRequest {
        version_min: PROTOCOL_VERSION_MIN,
        version_max: PROTOCOL_VERSION,
        token: join.token.clone(),
        secret: join.secret.to_vec(),
        csr: csr.der().to_vec(),
        hostname: "swarm".to_owned(),
        facts: FACTS.to_vec(),
    };
    session.say(&ToController::Enrol(request)).await?;
    let answer = session.hear().await?;
    session.connection.close(close::DONE.into(), b"");
    endpoint.wait_idle().await;
    Ok(answer)
}

struct Session {
    connection: quinn::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    decoder: Decoder,
}

impl Session {
    async fn open(identity: &Identity, endpoint: &quinn::Endpoint) -> Res<Self> {
        let clock = Clock::system();
        let config = tls::session_config(identity, &clock)?;
        let address: SocketAddr = identity.card.controllers.first().ok_or("no address")?.parse()?;
        let connection = endpoint.connect_with(config, address, CONTROLLER_NAME)?.await?;
        let mut session = Self::over(connection).await?;
        let hello = Hello {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION,
            build: "swarm".to_owned(),
            boot: BootId::from_parts(1, clock.random()),
            clock_us: clock.now_us(),
            running: Vec::new(),
            unacknowledged: Vec::new(),
            facts: FACTS.to_vec(),
        };
        session.say(&ToController::Hello(hello)).await?;
        match session.hear().await? {
            ToAgent::Welcome(_) => Ok(session),
            ToAgent::Refused { .. }
            | ToAgent::HeartbeatAck { .. }
            | ToAgent::Run { .. }
            | ToAgent::Cancel { .. }
            | ToAgent::Ack { .. }
            | ToAgent::Drain { .. }
            | ToAgent::Enrolled(_)
            | ToAgent::EnrolRefused { .. }
            | ToAgent::Renewed(_)
            | ToAgent::RenewRefused { .. }
            | ToAgent::Challenge(_) => Err("the controller did not welcome a host".into()),
        }
    }

    async fn over(connection: quinn::Connection) -> Res<Self> {
        let (send, receive) = connection.open_bi().await?;
        Ok(Self { connection, send, receive, decoder: Decoder::new() })
    }

    async fn say(&mut self, message: &ToController) -> Res<()> {
        Ok(self.send.write_all(&codec::encode(message)?).await?)
    }

    async fn hear(&mut self) -> Res<ToAgent> {
        let mut bytes = [0; READ_BYTES];
        loop {
            if let Some(payload) = self.decoder.next_payload()? {
                return Ok(codec::decode(&payload)?);
            }
            match self.receive.read(&mut bytes).await? {
                Some(read) => self.decoder.ingest(&bytes[..read]),
                None => {
                    let why = self.connection.close_reason();
                    return Err(format!("the controller ended a session: {why:?}").into());
                }
            }
        }
    }

    async fn idle(&mut self) -> Res<()> {
        for sequence in 1.. {
            tokio::time::sleep(Duration::from_secs(KEEP_ALIVE_SECS)).await;
            self.say(&ToController::Heartbeat { sequence, running: Vec::new() }).await?;
            self.hear().await?;
        }
        Ok(())
    }
}
