//! Bundles from a real controller to the agent's own fetcher, over QUIC on loopback.

mod broken;
mod cut;
mod elsewhere;
mod fetching;
mod full;
mod keeping;
mod memory;
mod relay;
mod traffic;
mod whose;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hostler_agent::bulk::{Bulk, CACHE_BYTES_MAX};
use hostler_agent::clock::Clock as AgentClock;
use hostler_agent::identity::{self, Card};
use hostler_agent::net::Way;
use hostler_agent::steps::bundle::BundleSource as _;
use hostler_controller::bundles::{Bundles, sha256_hex};
use hostler_controller::domain::decide::job::{JobInput, new_job};
use hostler_controller::domain::desired::{Applied, StackHost};
use hostler_controller::domain::{Change, EventKind};
use hostler_protocol::bulk::{Answer, Ask, payload_bytes};
use hostler_protocol::bundle::{File, FileKind, Manifest};
use hostler_protocol::codec;
use hostler_protocol::id::{HostId, JobId, StackId};
use hostler_protocol::job::JobType;
use quinn::{Connection, RecvStream};
use tokio::sync::watch;

use super::agent::{Identity, new_host, soon};
use super::{Controller, change, directory};

/// A controller with a store of bundles, and one host.
struct Depot {
    _dir: tempfile::TempDir,
    path: PathBuf,
    controller: Controller,
    identity: Identity,
}

impl Depot {
    async fn new() -> Self {
        let (dir, path) = directory();
        let controller = Controller::start(&path).await;
        let identity = new_host(&controller, "web-1").await;
        Self { _dir: dir, path, controller, identity }
    }

    fn host(&self) -> &HostId {
        &self.identity.enrolled.host
    }

    /// A bundle that the host runs.
    async fn bundle(&self, files: &[(&str, &[u8])]) -> String {
        let name = store(bundles(&self.controller), files).await;
        applied(&self.controller, self.host(), &name).await;
        name
    }

    /// What fetches for the host, from the controller.
    fn fetcher(&self) -> Fetcher {
        Fetcher::new(&way(&self.identity, Some(self.controller.ready.agents)))
    }

    /// Where a blob is in the controller's store.
    fn blob(&self, sha256: &str) -> PathBuf {
        self.path.join("bundles/blobs").join(&sha256[..2]).join(&sha256[2..])
    }

    /// A connection for bundles on which nothing was asked, as an agent's: one that hears of nothing
    /// asks whether the other side is there.
    async fn dial(&self) -> Connection {
        let to = self.controller.ready.agents;
        let way = way(&self.identity, Some(to));
        let dialled = hostler_agent::net::dial("the controller", to, &way.config).await;
        let (_endpoint, connection) = dialled.unwrap();
        connection
    }
}

fn bundles(controller: &Controller) -> &Bundles {
    controller.app().desired.bundles().expect("the controller keeps bundles")
}

/// Stores a bundle; its name.
async fn store(bundles: &Bundles, files: &[(&str, &[u8])]) -> String {
    let mut manifest = Manifest::default();
    for (path, content) in files {
        let (path, bytes) = ((*path).to_owned(), content.len() as u64);
        let sha256 = bundles.put(content.to_vec()).await.unwrap();
        manifest.files.push(File { path, kind: FileKind::File, sha256, bytes });
    }
    manifest.files.sort_by(|one, other| one.path.cmp(&other.path));
    bundles.put_manifest(&manifest).await.unwrap()
}

/// Makes a stack of its own whose bundle the host runs.
async fn applied(controller: &Controller, host: &HostId, bundle: &str) -> StackId {
    let stack = controller.app().clock.new_stack_id().unwrap();
    let applied = Applied {
        project: None,
        desired: "d".repeat(64),
        bundle: bundle.to_owned(),
        revision: "r".repeat(40),
        at_us: 1,
        compose_hash: None,
        directory: String::new(),
        compose_files: vec!["docker-compose.yml".to_owned()],
    };
    let row = StackHost {
        applied: Some(applied),
        version: 1,
        ..StackHost::new(stack.clone(), host.clone())
    };
    let changes = vec![Change::PutStackHosts(vec![row])];
    change(controller.app(), EventKind::StackStatusChanged, changes).await;
    stack
}

/// Queues a sync of that bundle on the host.
async fn sync_job(controller: &Controller, host: &HostId, bundle: &str) -> JobId {
    let app = controller.app();
    let id = app.clock.new_job_id().unwrap();
    let input = JobInput {
        id: id.clone(),
        host_id: host.clone(),
        site_id: None,
        environment_id: None,
        stack_id: Some(app.clock.new_stack_id().unwrap()),
        request: serde_json::json!({ "spec": { "bundle": bundle } }),
        request_id: None,
        retry_of: None,
        parent_id: None,
        executor: None,
    };
    let template = app.templates.for_type(JobType::StackSync);
    let job = new_job(input, &template, app.clock.now());
    change(app, EventKind::JobQueued, vec![Change::EnqueueJob(Box::new(job))]).await;
    id
}

/// How a host with that identity reaches a controller for bundles.
fn way(identity: &Identity, first: Option<SocketAddr>) -> Way {
    let enrolled = &identity.enrolled;
    let key = rustls::pki_types::PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let identity = identity::Identity {
        card: Card {
            host: enrolled.host.clone(),
            name: enrolled.name.clone(),
            controllers: Vec::new(),
            issued_at_us: None,
        },
        chain: enrolled.chain.iter().cloned().map(Into::into).collect(),
        root: enrolled.root.clone().into(),
        key,
    };
    let config = identity::tls::bulk_config(&identity, &AgentClock::system()).unwrap();
    Way { config, first, controllers: Vec::new() }
}

/// The agent's side, with a cache of its own.
struct Fetcher {
    bulk: Bulk,
    ways: watch::Sender<Option<Way>>,
    dir: tempfile::TempDir,
}

impl Fetcher {
    fn new(way: &Way) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (bulk, ways) = fetching_into(dir.path(), way);
        Self { bulk, ways, dir }
    }

    /// An agent that starts anew on the same disk.
    fn again(self, way: &Way) -> Self {
        let (bulk, ways) = fetching_into(self.dir.path(), way);
        Self { bulk, ways, dir: self.dir }
    }

    /// Whether a bundle's file is here, as it should be.
    fn has(&self, content: &[u8]) -> bool {
        let path = self.bulk.blob(&sha256_hex(content));
        std::fs::read(path).is_ok_and(|found| found == content)
    }

    /// Bytes of what is coming just now.
    fn staged_bytes(&self) -> u64 {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join("staged")) else { return 0 };
        let length = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.metadata().ok();
        entries.filter_map(length).map(|metadata| metadata.len()).sum()
    }
}

fn fetching_into(dir: &Path, way: &Way) -> (Bulk, watch::Sender<Option<Way>>) {
    let ways = watch::Sender::new(Some(way.clone()));
    let bulk = Bulk::new(dir.to_owned(), CACHE_BYTES_MAX, ways.subscribe(), AgentClock::system());
    (bulk, ways)
}

/// Bytes that no two calls with different seeds have in common, and that do not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// Asks by hand; the answer, and the stream with what follows it.
async fn ask(connection: &Connection, ask: &Ask) -> (Answer, RecvStream) {
    soon("an answer", async {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&codec::encode(ask).unwrap()).await.unwrap();
        send.finish().unwrap();
        let mut header = [0; 4];
        receive.read_exact(&mut header).await.unwrap();
        let mut payload = vec![0; payload_bytes(header).unwrap()];
        receive.read_exact(&mut payload).await.unwrap();
        (codec::decode(&payload).unwrap(), receive)
    })
    .await
}

/// The code of a refusal.
fn refused(answer: &Answer) -> &str {
    match answer {
        Answer::Refused { code, .. } => code,
        Answer::Found { bytes } => panic!("{bytes} bytes were given"),
    }
}
