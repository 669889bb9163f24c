//! A real controller in this process against a scripted agent that shares nothing with the real
//! one but the protocol's types.

mod agent;
mod bulk;
mod cloned;
mod cluster;
mod enrol;
mod given_up;
mod hostile;
mod jobs;
mod keeping;
mod late;
mod recover;
mod renew;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_controller::app::App;
use hostler_controller::clock::Clock;
use hostler_controller::config::{Config, DesiredConfig};
use hostler_controller::domain::decide::job::{JobInput, new_job};
use hostler_controller::domain::{
    CacheFlag, Change, Decision, EnrolmentToken, Environment, EnvironmentState, EventKind, Host,
    Job, Micros, NewEvent, Scope, Site, Subject,
};
use hostler_controller::pki::HOST_SECS;
use hostler_controller::store::{DatabaseUrl, EventFilter};
use hostler_controller::telemetry::LogFormat;
use hostler_controller::views::{Revocation, RevokeHost};
use hostler_controller::{Listeners, Ready, RunError};
use hostler_protocol::id::{EnrolmentTokenId, EnvironmentId, HostId, JobId};
use hostler_protocol::job::{
    AppKind, EnvironmentDoc, FastcgiDoc, HealthDoc, JobType, KEY_FORMAT_DEFAULT, NginxDoc,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Seconds anything awaited here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running controller on ports of its own.
struct Controller {
    ready: Ready,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

fn config(dir: &Path) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    Config {
        data_dir: dir.to_owned(),
        listen: any,
        agent_listen: any,
        metrics_listen: None,
        database: DatabaseUrl::Sqlite(dir.join("hostler.db")),
        log_format: LogFormat::Text,
        agent_addresses: Vec::new(),
        insecure_no_auth: false,
        require_tokens: false,
        open_desired_state: false,
        host_certificate_secs: HOST_SECS,
        desired: DesiredConfig::default(),
    }
}

impl Controller {
    async fn start(dir: &Path) -> Self {
        Self::start_with(dir, Clock::system()).await
    }

    async fn start_with(dir: &Path, clock: Clock) -> Self {
        Self::start_as(config(dir), clock).await
    }

    async fn start_as(config: Config, clock: Clock) -> Self {
        let (tell, told) = oneshot::channel();
        let listeners = Listeners { clock, ready: Some(tell), ..Listeners::bind(&config).unwrap() };
        let shutdown = CancellationToken::new();
        let mut task = tokio::spawn(hostler_controller::run(config, listeners, shutdown.clone()));
        let ready = tokio::select! {
            ready = told => ready.expect("the controller must tell when it serves"),
            ended = &mut task => panic!("the controller did not start: {ended:?}"),
        };
        Self { ready, shutdown, task }
    }

    fn app(&self) -> &App {
        &self.ready.app
    }

    /// Stops it and waits for its end.
    async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("the controller must stop in time").unwrap().unwrap();
    }

    /// A new enrolment token and its secret.
    async fn token(&self, host_name: Option<&str>) -> (EnrolmentTokenId, Vec<u8>) {
        let app = self.app();
        let secret: [u8; 32] = app.clock.random().unwrap();
        let now = app.clock.now();
        let token = EnrolmentToken {
            id: app.clock.new_enrolment_token_id().unwrap(),
            secret_sha256: hex::encode(Sha256::digest(secret)),
            host_name: host_name.map(str::to_owned),
            created_at: now,
            expires_at: now.plus_secs(900),
            used_at: None,
            used_by_key_sha256: None,
            host_id: None,
        };
        let id = token.id.clone();
        change(app, EventKind::EnrolmentTokenCreated, vec![Change::InsertEnrolmentToken(token)])
            .await;
        (id, secret.to_vec())
    }

    /// A site with one environment on the host.
    async fn environment(&self, host: &HostId) -> EnvironmentId {
        let clock = &self.app().clock;
        let now = clock.now();
        let site =
            Site { id: clock.new_site_id().unwrap(), name: "shop".to_owned(), created_at: now };
        let id = clock.new_environment_id().unwrap();
        let environment = Environment {
            id: id.clone(),
            site_id: site.id.clone(),
            host_id: host.clone(),
            state: EnvironmentState::Active,
            doc: environment_doc(id.clone()),
            fastcgi: Some(CacheFlag {
                desired: true,
                applied: None,
                applied_at: None,
                last_error: None,
            }),
            redis: None,
            labels: std::collections::BTreeMap::new(),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let changes =
            vec![Change::InsertSite(site), Change::InsertEnvironment(Box::new(environment))];
        change(self.app(), EventKind::EnvironmentCreated, changes).await;
        id
    }

    /// Queues a job of the environment.
    async fn enqueue(
        &self,
        host: &HostId,
        environment: &EnvironmentId,
        job_type: JobType,
    ) -> JobId {
        let request = match job_type {
            JobType::CachePurge => serde_json::json!({ "caches": ["fastcgi"] }),
            JobType::EnvCacheToggle
            | JobType::EnvCheck
            | JobType::EnvDelete
            | JobType::CacheWarm
            | JobType::CacheFacts
            | JobType::CacheExplain
            | JobType::StackSync
            | JobType::StackDown
            | JobType::StackPlan => {
                serde_json::json!({})
            }
        };
        self.enqueue_as(host, environment, job_type, request).await
    }

    /// Queues a job of the environment with this request.
    async fn enqueue_as(
        &self,
        host: &HostId,
        environment: &EnvironmentId,
        job_type: JobType,
        request: serde_json::Value,
    ) -> JobId {
        let app = self.app();
        let id = app.clock.new_job_id().unwrap();
        let input = JobInput {
            id: id.clone(),
            host_id: host.clone(),
            site_id: None,
            environment_id: Some(environment.clone()),
            stack_id: None,
            request,
            request_id: None,
            retry_of: None,
            parent_id: None,
            executor: None,
        };
        let job = new_job(input, &app.templates.for_type(job_type), app.clock.now());
        change(app, EventKind::JobQueued, vec![Change::EnqueueJob(Box::new(job))]).await;
        id
    }

    /// Revokes the host as the API does.
    async fn revoke(&self, host: &HostId, kind: Revocation) {
        let revoked = self.app().revoke_host(host.clone(), RevokeHost { kind }).await;
        revoked.expect("the revocation must be written");
    }

    async fn host(&self, host: &HostId) -> Host {
        self.app().store.host(host).await.unwrap().expect("the host is there")
    }

    /// The kinds of the events about a host, oldest first.
    async fn told(&self, host: &HostId) -> Vec<&'static str> {
        let filter = EventFilter { host: Some(host.clone()), ..EventFilter::default() };
        let events = self.app().store.events_after(0, 1000, &filter).await.unwrap();
        events.iter().map(|event| event.event.kind.as_str()).collect()
    }

    async fn job(&self, id: &JobId) -> Job {
        self.app().store.job(id).await.unwrap().expect("the job is there")
    }

    /// Waits until the job is as wished.
    async fn until(&self, id: &JobId, what: &str, wished: impl Fn(&Job) -> bool) -> Job {
        let mut committed = self.app().store.committed();
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                committed.mark_unchanged();
                let job = self.job(id).await;
                if wished(&job) {
                    return job;
                }
                committed.changed().await.unwrap();
            }
        });
        match waited.await {
            Ok(job) => job,
            Err(_) => panic!("the job never became {what}: {:?}", self.job(id).await),
        }
    }
}

async fn change(app: &App, kind: EventKind, changes: Vec<Change>) {
    let at = app.clock.now();
    let written = app
        .store
        .transact("test", Scope::default(), move |_| {
            let subject = Subject::default();
            let event = NewEvent { at, kind, subject, document: serde_json::json!({}) };
            Ok(Decision { changes: changes.clone(), events: vec![event], reply: () })
        })
        .await;
    written.expect("the test's own rows must be written");
}

fn environment_doc(id: EnvironmentId) -> EnvironmentDoc {
    let file = |name: &str| format!("/etc/nginx/hostler/{name}.conf");
    EnvironmentDoc {
        id,
        site: "shop".to_owned(),
        name: "production".to_owned(),
        domain: "shop.example".to_owned(),
        kind: AppKind::Php,
        docroot: "/srv/shop".to_owned(),
        user: "www-data".to_owned(),
        nginx: NginxDoc {
            http_file: file("http"),
            server_file: file("server"),
            location_file: file("location"),
            probe_origin: "http://127.0.0.1:80".to_owned(),
        },
        fastcgi: Some(FastcgiDoc {
            cache_dir: "/var/cache/shop".to_owned(),
            key_format: KEY_FORMAT_DEFAULT.to_owned(),
            zone_mib: 1,
            size_mib_max: 10,
            inactive_secs: 60,
            valid_secs: 60,
        }),
        redis: None,
        health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 1000 },
        executor: None,
    }
}

/// A directory of the test's own.
fn directory() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}

fn now_micros() -> Micros {
    Clock::system().now()
}
