//! What the suite works with: an empty store on either database, and the rows it needs.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use hostler_controller::domain::decide::job::{JobInput, new_job};
use hostler_controller::domain::template::{Executor, LaneKind, OnInterrupt};
use hostler_controller::domain::{
    CacheFlag, Change, Decision, Environment, EnvironmentState, Host, Job, Lane, Micros, NewJob,
    Scope, Site, Template,
};
use hostler_controller::store::{
    AttemptRef, ClaimHost, Claimed, DatabaseUrl, EnqueueAnswer, SettleAnswer, Settlement, Store,
};
use hostler_protocol::id::{ControllerId, EnvironmentId, HostId, JobId, SiteId};
use hostler_protocol::job::{
    AppKind, Code, EnvironmentDoc, HealthDoc, JobError, JobType, NginxDoc, Outcome, OutcomeState,
    RedisDoc,
};
use hostler_tests::rows;
use hostler_tests::servers::postgres::Postgres;
use serde_json::json;

/// When everything in the suite begins.
pub(crate) const NOW: Micros = Micros(1_700_000_000_000_000);

/// An empty database of its own, and a store that has it open.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) url: DatabaseUrl,
    place: Place,
}

pub(crate) enum Place {
    Sqlite { _dir: tempfile::TempDir },
    Postgres { server: Arc<Postgres>, name: String },
}

/// The server all tests that run at the same time share; it stops with the last of them.
static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

pub(crate) fn server() -> Arc<Postgres> {
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Postgres::start().unwrap_or_else(|error| panic!("{error}")));
    *shared = Arc::downgrade(&server);
    server
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let url = DatabaseUrl::Sqlite(dir.path().join("hostler.db"));
        Self { store: open(&url).await, url, place: Place::Sqlite { _dir: dir } }
    }

    pub(crate) async fn postgres(test: &str) -> Self {
        let server = server();
        let name = format!("hostler_test_{}_{test}", std::process::id());
        let name = name.chars().take(63).collect::<String>();
        let text = server.create_database(&name).unwrap_or_else(|error| panic!("{error}"));
        let url: DatabaseUrl = text.parse().expect("the server's own URL");
        Self { store: open(&url).await, url, place: Place::Postgres { server, name } }
    }

    /// Another store on the same database, as another controller would open it.
    pub(crate) async fn another(&self) -> Store {
        open(&self.url).await
    }

    /// The PostgreSQL server and this world's database on it.
    pub(crate) fn server(&self) -> Option<(&Postgres, &str)> {
        match &self.place {
            Place::Sqlite { .. } => None,
            Place::Postgres { server, name } => Some((server, name)),
        }
    }

    pub(crate) async fn end(self) {
        self.store.close().await;
        if let Place::Postgres { server, name } = &self.place {
            server.drop_database(name).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Writes rows through the one door.
    pub(crate) async fn write(&self, changes: Vec<Change>) {
        let decide =
            move |_: &_| Ok(Decision { changes: changes.clone(), events: Vec::new(), reply: () });
        let written = self.store.transact("test_write", Scope::default(), decide).await;
        written.unwrap_or_else(|error| panic!("writing the test's rows: {error:?}"));
    }

    /// `count` hosts, each with one environment of one site, each connected.
    pub(crate) async fn hosts(&self, count: u8) -> Vec<Connected> {
        let site = site(1);
        let mut changes = vec![Change::InsertSite(site.clone())];
        for n in 1..=count {
            changes.push(Change::InsertHost(Box::new(host(n))));
            let environment = environment(n, &site, &host(n).id);
            changes.push(Change::InsertEnvironment(Box::new(environment)));
        }
        self.write(changes).await;
        let mut connected = Vec::new();
        for n in 1..=count {
            connected.push(self.connect(n).await);
        }
        connected
    }

    pub(crate) async fn connect(&self, n: u8) -> Connected {
        let host = host(n);
        let opening = rows::opening(&host, &controller(1), NOW);
        let epoch = self.store.session_open(opening).await.expect("an enrolled host connects");
        Connected { host: host.id, environment: environment_id(n), epoch }
    }

    pub(crate) async fn enqueue(&self, jobs: &[NewJob]) {
        let answers = self.store.enqueue(jobs, NOW).await.expect("jobs are queued");
        for answer in answers {
            assert!(matches!(answer, EnqueueAnswer::Queued { .. }), "a test's job was known");
        }
    }

    pub(crate) async fn claim(&self, hosts: &[&Connected], now: Micros) -> Vec<Claimed> {
        let hosts: Vec<ClaimHost> = hosts.iter().map(|host| host.with_slots(100)).collect();
        self.store.claim(&hosts, now, 100).await.expect("a claim is answered")
    }

    pub(crate) async fn job(&self, id: &JobId) -> Job {
        self.store.job(id).await.expect("a job is read").expect("the job is there")
    }

    pub(crate) async fn settle(&self, claimed: &Claimed, outcome: Outcome) -> SettleAnswer {
        let one = settlement(claimed, outcome);
        let answers = self.store.settle(&[one], NOW).await.expect("settling is answered");
        answers.into_iter().next().expect("one answer per settlement")
    }
}

async fn open(url: &DatabaseUrl) -> Store {
    Store::open(url).await.unwrap_or_else(|error| panic!("opening {url}: {error:?}"))
}

/// A host with an open session.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    pub(crate) host: HostId,
    pub(crate) environment: EnvironmentId,
    pub(crate) epoch: u64,
}

impl Connected {
    pub(crate) fn with_slots(&self, slots: u32) -> ClaimHost {
        ClaimHost { host: self.host.clone(), epoch: self.epoch, slots }
    }
}

pub(crate) fn host_id(n: u8) -> HostId {
    HostId::from_parts(u64::from(n), [n; 10])
}

pub(crate) fn environment_id(n: u8) -> EnvironmentId {
    EnvironmentId::from_parts(u64::from(n), [n; 10])
}

pub(crate) fn controller(n: u8) -> ControllerId {
    ControllerId::from_parts(u64::from(n), [n; 10])
}

pub(crate) fn job_id(n: u64) -> JobId {
    JobId::from_parts(n, [0; 10])
}

pub(crate) fn site(n: u8) -> Site {
    let id = SiteId::from_parts(u64::from(n), [n; 10]);
    Site { id, name: format!("site-{n}"), created_at: NOW }
}

pub(crate) fn host(n: u8) -> Host {
    let host = rows::host(host_id(n), &format!("host-{n}.test"), &format!("{n:064x}"), NOW);
    Host { certificate_expires_at: NOW.plus_secs(86_400), ..host }
}

pub(crate) fn environment(n: u8, site: &Site, host: &HostId) -> Environment {
    let id = environment_id(n);
    Environment {
        id: id.clone(),
        site_id: site.id.clone(),
        host_id: host.clone(),
        state: EnvironmentState::Active,
        doc: EnvironmentDoc {
            id,
            site: site.name.clone(),
            name: format!("env-{n}"),
            domain: format!("{n}.test"),
            kind: AppKind::Php,
            docroot: format!("/srv/{n}"),
            user: "www-data".to_owned(),
            nginx: NginxDoc {
                http_file: format!("/etc/nginx/hostler/{n}/http.conf"),
                server_file: format!("/etc/nginx/hostler/{n}/server.conf"),
                location_file: format!("/etc/nginx/hostler/{n}/location.conf"),
                probe_origin: "http://127.0.0.1:80".to_owned(),
            },
            fastcgi: None,
            redis: Some(RedisDoc {
                url: "redis://cache.test:6379/0".to_owned(),
                password_file: None,
                prefix: format!("{n}:"),
                switch_file: None,
            }),
            health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 1000 },
            executor: None,
        },
        fastcgi: None,
        redis: Some(CacheFlag {
            desired: true,
            applied: None,
            applied_at: None,
            last_error: Some(json!({"code": "REDIS_FAILED"})),
        }),
        labels: std::collections::BTreeMap::new(),
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn template() -> Template {
    Template {
        namespace: "hostler".to_owned(),
        name: "cache_purge".to_owned(),
        version: "1".to_owned(),
        job_type: JobType::CachePurge,
        executor: Executor::Native,
        timeout_secs: 60,
        retry_after_secs: vec![60, 300, 900],
        lane: LaneKind::Environment,
        may_pass_waiting: false,
        supersedes_queued: false,
        on_interrupt: OnInterrupt::Rerun,
        crashes_max: 3,
        ttl_secs: 3600,
        priority: 0,
    }
}

/// A job of a host's environment, in the environment's lane.
pub(crate) fn purge(n: u64, on: &Connected) -> NewJob {
    with_template(n, on, &template())
}

pub(crate) fn with_template(n: u64, on: &Connected, template: &Template) -> NewJob {
    let input = JobInput {
        id: job_id(n),
        host_id: on.host.clone(),
        site_id: Some(site(1).id),
        environment_id: Some(on.environment.clone()),
        stack_id: None,
        request: json!({"n": n, "text": "q\"uo'te\u{0}"}),
        request_id: None,
        retry_of: None,
        parent_id: None,
        executor: None,
    };
    new_job(input, template, NOW)
}

pub(crate) fn in_lanes(mut job: NewJob, lanes: &[&str]) -> NewJob {
    job.lanes = lanes.iter().map(|lane| Lane((*lane).to_owned())).collect();
    job
}

pub(crate) fn attempt(claimed: &Claimed) -> AttemptRef {
    AttemptRef { job: claimed.job.id.clone(), attempt: claimed.job.attempt }
}

pub(crate) fn settlement(claimed: &Claimed, outcome: Outcome) -> Settlement {
    Settlement {
        attempt: attempt(claimed),
        host: claimed.job.host_id.clone(),
        outcome,
        template: Arc::new(Template { job_type: claimed.job.job_type, ..template() }),
        warm_template: None,
    }
}

pub(crate) fn succeeded() -> Outcome {
    outcome(OutcomeState::Succeeded, None)
}

pub(crate) fn failed(code: Code) -> Outcome {
    outcome(OutcomeState::Failed, Some(code))
}

fn outcome(state: OutcomeState, code: Option<Code>) -> Outcome {
    Outcome {
        state,
        result: None,
        error: code.map(|code| JobError::new(code, "it went wrong")),
        steps: Vec::new(),
        started_at_us: 1,
        finished_at_us: 2,
    }
}

pub(crate) fn ids(claimed: &[Claimed]) -> Vec<JobId> {
    claimed.iter().map(|one| one.job.id.clone()).collect()
}
