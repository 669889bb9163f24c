//! Many hosts in one process that do as they are told: each takes jobs, works a moment, and keeps
//! its outcomes until they are acknowledged, over as many sessions as it takes. Runs as
//! `bench fleet <file of join strings> <file for what was begun>`.
//!
//! What a real agent has on disk these hosts have in memory: the process never ends before the
//! measurement does. The rules are the same: an attempt begins once, and an outcome is said again
//! until the controller has it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hostler_agent::clock::Clock;
use hostler_agent::identity::{Identity, tls};
use hostler_protocol::codec::{self, Decoder};
use hostler_protocol::id::BootId;
use hostler_protocol::job::{Outcome, OutcomeState};
use hostler_protocol::join::Join;
use hostler_protocol::message::{AttemptRef, Hello, ToAgent, ToController};
use hostler_protocol::{
    CONTROLLER_NAME, IDLE_SECS, KEEP_ALIVE_SECS, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN,
};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::Res;
use super::swarm::{AT_ONCE, ENDPOINTS, FACTS, enrol};

/// Longest a job takes, in milliseconds; each takes something up to it.
const WORK_MS: u64 = 200;
/// Back-off as the agent's: anything within the window, which doubles.
const WINDOW_MS: (u64, u64) = (1_000, 60_000);
const READ_BYTES: usize = 4 * 1024;

#[derive(Default)]
struct Work {
    running: BTreeSet<AttemptRef>,
    /// Finished and not acknowledged; `true`: said in this session.
    kept: BTreeMap<AttemptRef, bool>,
    settled: BTreeSet<AttemptRef>,
}

struct Host {
    identity: Identity,
    work: Mutex<Work>,
    /// Something is there to be said.
    news: Notify,
    clock: Clock,
    begun: Arc<Mutex<std::fs::File>>,
}

/// Enrols and connects one host per line of `joins`, says so, and works until it is killed.
///
/// # Errors
/// If a host cannot enrol.
pub async fn run(joins: &Path, begun: &Path) -> Res<()> {
    let text = std::fs::read_to_string(joins)?;
    let joins: Vec<Join> = text.lines().map(Join::parse).collect::<Result<_, _>>()?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoints: Vec<quinn::Endpoint> =
        (0..ENDPOINTS).map(|_| quinn::Endpoint::client(any)).collect::<Result<_, _>>()?;
    let begun = Arc::new(Mutex::new(std::fs::File::create(begun)?));
    let (limit, count) = (Arc::new(Semaphore::new(AT_ONCE)), joins.len());
    let (connected, mut hosts) = (Arc::new(Semaphore::new(0)), JoinSet::new());
    for (number, join) in joins.into_iter().enumerate() {
        let endpoint = endpoints[number % ENDPOINTS].clone();
        let (limit, connected) = (Arc::clone(&limit), Arc::clone(&connected));
        let begun = Arc::clone(&begun);
        hosts.spawn(async move {
            let turn = limit.acquire().await?;
            let identity = enrol(&join, number).await?;
            drop(turn);
            let (work, news, clock) = (Mutex::default(), Notify::new(), Clock::system());
            let host = Arc::new(Host { identity, work, news, clock, begun });
            live(host, endpoint, &connected).await
        });
    }
    let everybody = connected.acquire_many(u32::try_from(count)?);
    tokio::select! {
        all = everybody => {
            all?.forget();
            writeln!(std::io::stdout().lock(), "{count} connected")?;
        }
        Some(ended) = hosts.join_next() => return ended?,
    }
    match hosts.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

/// One session after another, for ever.
async fn live(host: Arc<Host>, endpoint: quinn::Endpoint, connected: &Semaphore) -> Res<()> {
    let mut window_ms = WINDOW_MS.0;
    let mut first = true;
    loop {
        let opened = session(&host, &endpoint, || {
            if std::mem::take(&mut first) {
                connected.add_permits(1);
            }
        });
        if opened.await.is_ok() {
            window_ms = WINDOW_MS.0;
        }
        let wait_ms = u64::from_le_bytes(host.clock.random()) % window_ms;
        window_ms = (2 * window_ms).min(WINDOW_MS.1);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

/// A session to its end; an error if it was never welcomed.
async fn session(host: &Arc<Host>, endpoint: &quinn::Endpoint, welcomed: impl FnOnce()) -> Res<()> {
    let config = tls::session_config(&host.identity, &host.clock)?;
    let address: SocketAddr =
        host.identity.card.controllers.first().ok_or("no address")?.parse()?;
    let connecting = endpoint.connect_with(config, address, CONTROLLER_NAME)?;
    let connection = tokio::time::timeout(Duration::from_secs(5), connecting).await??;
    let mut control = Stream::open(&connection).await?;
    control.say(&ToController::Hello(hello(host))).await?;
    let ToAgent::Welcome(_) = control.hear().await? else {
        return Err("the controller did not welcome a host".into());
    };
    welcomed();
    host.news.notify_one();
    let mut beat = tokio::time::interval(Duration::from_secs(KEEP_ALIVE_SECS));
    let mut sequence = 0;
    loop {
        tokio::select! {
            _ = connection.closed() => return Ok(()),
            stream = connection.accept_bi() => match stream {
                Ok((send, receive)) => {
                    let (host, stream) = (Arc::clone(host), Stream::over(send, receive));
                    tokio::spawn(async move { take(&host, stream).await });
                }
                Err(_) => return Ok(()),
            },
            () = host.news.notified() => {
                for attempt in to_say(host) {
                    let (host, connection) = (Arc::clone(host), connection.clone());
                    tokio::spawn(async move { deliver(&host, &connection, attempt).await });
                }
            }
            _ = beat.tick() => {
                sequence += 1;
                let running = lock(&host.work).running.iter().cloned().collect();
                let said = control.say(&ToController::Heartbeat { sequence, running }).await;
                let heard = tokio::time::timeout(Duration::from_secs(IDLE_SECS), control.hear());
                if said.is_err() || !matches!(heard.await, Ok(Ok(_))) {
                    return Ok(());
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hello(host: &Host) -> Hello {
    let mut work = lock(&host.work);
    work.kept.values_mut().for_each(|said| *said = false);
    Hello {
        version_min: PROTOCOL_VERSION_MIN,
        version_max: PROTOCOL_VERSION,
        build: "fleet".to_owned(),
        boot: BootId::from_parts(1, host.clock.random()),
        clock_us: host.clock.now_us(),
        running: work.running.iter().cloned().collect(),
        unacknowledged: work.kept.keys().cloned().collect(),
        facts: FACTS.to_vec(),
    }
}

/// Outcomes nobody has been told in this session.
fn to_say(host: &Host) -> Vec<AttemptRef> {
    let mut work = lock(&host.work);
    let fresh = |(attempt, said): (&AttemptRef, &mut bool)| {
        (!std::mem::replace(said, true)).then(|| attempt.clone())
    };
    work.kept.iter_mut().filter_map(fresh).collect()
}

/// A job the controller hands over.
async fn take(host: &Arc<Host>, mut stream: Stream) {
    while let Ok(message) = stream.hear().await {
        let ToAgent::Run { attempt, .. } = message else { continue };
        let fresh = {
            let mut work = lock(&host.work);
            let known = work.kept.contains_key(&attempt) || work.settled.contains(&attempt);
            !known && work.running.insert(attempt.clone())
        };
        if fresh {
            let line = format!("{} {} {}\n", host.identity.card.host, attempt.job, attempt.attempt);
            let written = lock(&host.begun).write_all(line.as_bytes());
            tokio::spawn(work_on(Arc::clone(host), attempt.clone(), written.is_ok()));
        }
        // Said again on the next session if nobody hears it.
        drop(stream.say(&ToController::Accepted { attempt }).await);
    }
}

async fn work_on(host: Arc<Host>, attempt: AttemptRef, noted: bool) {
    let took_ms = u64::from_le_bytes(host.clock.random()) % WORK_MS;
    tokio::time::sleep(Duration::from_millis(took_ms)).await;
    {
        let mut work = lock(&host.work);
        work.running.remove(&attempt);
        // What could not be noted never counts as done.
        work.kept.insert(attempt, !noted);
    }
    host.news.notify_one();
}

async fn deliver(host: &Host, connection: &quinn::Connection, attempt: AttemptRef) {
    let told = async {
        let mut stream = Stream::open(connection).await?;
        let outcome = hostler_protocol::job::write(&Outcome {
            state: OutcomeState::Succeeded,
            result: Some(json!({ "findings": [] })),
            error: None,
            steps: Vec::new(),
            started_at_us: host.clock.now_us(),
            finished_at_us: host.clock.now_us(),
        });
        stream.say(&ToController::Finished { attempt: attempt.clone(), outcome }).await?;
        loop {
            if let ToAgent::Ack { attempt: known } = stream.hear().await?
                && known == attempt
            {
                return Res::Ok(());
            }
        }
    };
    if told.await.is_ok() {
        let mut work = lock(&host.work);
        work.kept.remove(&attempt);
        work.settled.insert(attempt);
    }
}

struct Stream {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    decoder: Decoder,
}

impl Stream {
    async fn open(connection: &quinn::Connection) -> Res<Self> {
        let (send, receive) = connection.open_bi().await?;
        Ok(Self::over(send, receive))
    }

    fn over(send: quinn::SendStream, receive: quinn::RecvStream) -> Self {
        Self { send, receive, decoder: Decoder::new() }
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
                None => return Err("the stream has ended".into()),
            }
        }
    }
}
