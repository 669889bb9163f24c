//! Many hosts in one process: each enrols as a real one does and then keeps an idle session, with
//! heartbeats, over a few shared sockets. Runs as `bench swarm <file of join strings>`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hostler_agent::clock::Clock;
use hostler_agent::identity::{self, Enrolment, tls};
use hostler_protocol::codec::{self, Decoder};
use hostler_protocol::id::BootId;
use hostler_protocol::join::Join;
use hostler_protocol::message::{Hello, ToAgent, ToController};
use hostler_protocol::{CONTROLLER_NAME, KEEP_ALIVE_SECS, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Res;

/// Handshakes at once: more would only wait for each other on a small machine.
const AT_ONCE: usize = 16;
const ENDPOINTS: usize = 4;
const READ_BYTES: usize = 4 * 1024;
const FACTS: &[u8] = br#"{"hostname":"swarm","os":"linux","arch":"x86_64"}"#;

/// Enrols and connects one host per line of `file`, says so, and stays until it is killed.
///
/// # Errors
/// If a host cannot enrol or connect, or a session ends.
pub async fn run(file: &Path) -> Res<()> {
    let text = std::fs::read_to_string(file)?;
    let joins: Vec<Join> = text.lines().map(Join::parse).collect::<Result<_, _>>()?;
    // Where there is memory to write to, the hosts' files need not wait for a disk.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("hostler-swarm-").tempdir_in(place)?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoints: Vec<quinn::Endpoint> =
        (0..ENDPOINTS).map(|_| quinn::Endpoint::client(any)).collect::<Result<_, _>>()?;

    let (limit, count) = (Arc::new(Semaphore::new(AT_ONCE)), joins.len());
    let (connected, mut sessions) = (Arc::new(Semaphore::new(0)), JoinSet::new());
    for (number, join) in joins.into_iter().enumerate() {
        let state_dir = dir.path().join(number.to_string());
        let endpoint = endpoints[number % ENDPOINTS].clone();
        let (limit, connected) = (Arc::clone(&limit), Arc::clone(&connected));
        sessions.spawn(async move {
            let turn = limit.acquire().await?;
            let mut session = Session::open(&join, &state_dir, &endpoint).await?;
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

struct Session {
    connection: quinn::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    decoder: Decoder,
}

impl Session {
    async fn open(join: &Join, state_dir: &Path, endpoint: &quinn::Endpoint) -> Res<Self> {
        identity::prepare_state_dir(state_dir)?;
        let hostname = "swarm".to_owned();
        let facts = FACTS.to_vec();
        let enrolment = Enrolment { join, state_dir, hostname, facts, replace: false };
        identity::enrol(enrolment).await?;
        let config = tls::session_config(&identity::load(state_dir)?)?;
        std::fs::remove_dir_all(state_dir)?;
        let address: SocketAddr = join.addresses.first().ok_or("no address")?.parse()?;
        let connection = endpoint.connect_with(config, address, CONTROLLER_NAME)?.await?;
        let (send, receive) = connection.open_bi().await?;
        let mut session = Self { connection, send, receive, decoder: Decoder::new() };
        let clock = Clock::system();
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
            | ToAgent::EnrolRefused { .. } => Err("the controller did not welcome a host".into()),
        }
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
