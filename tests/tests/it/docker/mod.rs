//! Stacks on one host: a real engine, and both generations of compose where they are installed.

mod bundles;
mod down;
mod faults;
mod plan;
mod refuse;
mod rollback;
mod secrets;
mod stops;
mod sync;
mod watch;
mod whole;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hostler_agent::actions::{ActionSettings, Actions};
use hostler_agent::clock::Clock;
use hostler_agent::host::fake::Faults;
use hostler_agent::policy::{DockerPolicy, Policy};
use hostler_protocol::id::StackId;
use hostler_protocol::job::{
    JobSpec, Outcome, PullPolicy, ServiceAction, StackDoc, StackDownSpec, StackPlanSpec,
    StackSyncResult, StackSyncSpec, UserStopped,
};
use hostler_tests::servers::directory;
use hostler_tests::servers::docker::{Compose, DockerServer, config_dir};
use serde_json::Value;

use self::bundles::Bundles;
use crate::stand::{context, result};

/// A web server that is healthy as long as its page is there, and a neighbour with nothing mounted.
const TWO: &str = "services:\n  web:\n    image: hostler-test/web:1\n    volumes:\n    \
    - ./www:/www:ro\n  other:\n    image: hostler-test/sleeper:1\n";

/// Seconds services have to become healthy here.
const HEALTH_SECS: u32 = 30;

pub(crate) struct Host {
    pub(crate) engine: Arc<DockerServer>,
    pub(crate) bundles: Arc<Bundles>,
    pub(crate) faults: Faults,
    pub(crate) compose: Compose,
    pub(crate) stack: StackDoc,
    actions: Actions,
    policy: Policy,
    dir: tempfile::TempDir,
}

impl Host {
    /// A host of its own on the shared engine, with a stack nobody else has.
    pub(crate) fn new(compose: Compose) -> Self {
        Self::on(DockerServer::shared().unwrap(), compose)
    }

    pub(crate) fn on(engine: Arc<DockerServer>, compose: Compose) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = directory("stacks").unwrap();
        let policy = Policy {
            docker: DockerPolicy {
                socket: engine.sock(),
                compose: vec![compose.program().unwrap().to_str().unwrap().to_owned()],
                config_dir: config_dir(),
                stacks_dir: dir.path().join("stacks"),
            },
            ..Policy::default()
        };
        let bundles = Arc::new(Bundles::new(&dir.path().join("bundles")));
        let faults = Faults::armed();
        let actions = actions(&dir, &policy, &bundles, &faults);
        let stack = StackDoc {
            id: StackId::from_parts(1, [u8::try_from(number).unwrap(); 10]),
            path: format!("stacks/{number}"),
            project: format!("it{number}"),
        };
        Self { engine, bundles, faults, compose, stack, actions, policy, dir }
    }

    /// The agent once more, as after a restart.
    pub(crate) fn restart(&mut self) {
        self.faults.clear();
        self.actions = actions(&self.dir, &self.policy, &self.bundles, &self.faults);
    }

    /// The actions, to be used beside this host.
    pub(crate) fn actions(&self) -> Actions {
        self.actions.clone()
    }

    /// Where the stack's files are.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("stacks").join(&self.stack.project)
    }

    /// Everything this host has, its stack's files and the agent's own.
    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Gives this host a key as `age-keygen` makes it; answers what to encrypt to.
    pub(crate) fn age_key(&self) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let (text, recipient) = hostler_tests::servers::age::keygen().unwrap();
        let path = age_key_file(&self.dir);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        recipient
    }

    /// A sync of these files, the compose file among them.
    pub(crate) fn spec(&self, files: &[(&str, &str)]) -> StackSyncSpec {
        let bundle = self.bundles.add(files);
        StackSyncSpec {
            stack: self.stack.clone(),
            desired: format!("desired-{bundle}"),
            bundle,
            directory: String::new(),
            compose_files: vec!["docker-compose.yml".to_owned()],
            pull: PullPolicy::Missing,
            health_secs: HEALTH_SECS,
            user_stopped: UserStopped::Start,
            adopt: false,
            force: false,
        }
    }

    pub(crate) async fn run(&self, spec: JobSpec) -> Outcome {
        self.actions.run(spec.into(), context().0).await
    }

    pub(crate) async fn sync(&self, spec: &StackSyncSpec) -> Outcome {
        self.run(JobSpec::StackSync(Box::new(spec.clone()))).await
    }

    /// A sync that succeeds.
    pub(crate) async fn synced(&self, spec: &StackSyncSpec) -> StackSyncResult {
        result(&self.sync(spec).await)
    }

    pub(crate) async fn planned(&self, spec: &StackSyncSpec) -> StackSyncResult {
        result(&self.run(JobSpec::StackPlan(Box::new(StackPlanSpec(spec.clone())))).await)
    }

    pub(crate) async fn down(&self, volumes: bool) -> Outcome {
        let stack = self.stack.clone();
        self.run(JobSpec::StackDown(StackDownSpec { stack, volumes })).await
    }

    /// Runs a sync until it begins `step`, then forgets it, as a kill would.
    pub(crate) async fn kill_at(&self, step: &str, spec: &StackSyncSpec) {
        self.faults.crash_at(step);
        tokio::select! {
            outcome = self.sync(spec) => panic!("the job never came to {step}: {outcome:?}"),
            () = self.faults.crashed() => {}
        }
    }

    /// The ids of the project's containers.
    pub(crate) fn ids(&self) -> Vec<String> {
        let listed = self.engine.containers(&self.stack.project).unwrap();
        listed.iter().map(|own| own["Id"].as_str().unwrap().to_owned()).collect()
    }

    /// Service, id and start of each of the project's containers, as the engine tells them.
    pub(crate) fn running(&self) -> Vec<(String, String, String)> {
        let listed = self.engine.containers(&self.stack.project).unwrap();
        let one = |own: &Value| {
            let id = own["Id"].as_str().unwrap().to_owned();
            let answer = self.engine.api("GET", &format!("/containers/{id}/json"), None).unwrap();
            let told: Value = serde_json::from_str(&answer.body).unwrap();
            let service = own["Labels"]["com.docker.compose.service"].as_str().unwrap().to_owned();
            (service, id, told["State"]["StartedAt"].as_str().unwrap().to_owned())
        };
        let mut all: Vec<_> = listed.iter().map(one).collect();
        all.sort();
        all
    }

    /// What a command in a service's container prints.
    pub(crate) fn inside(&self, service: &str, command: &[&str]) -> String {
        let running = self.running();
        let id = &running.iter().find(|(own, ..)| own == service).unwrap().1;
        self.engine.docker(&[&["exec", id], command].concat()).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The engine is shared: what is left of a project would take its address range.
        let label = format!("label=com.docker.compose.project={}", self.stack.project);
        let listed = self.engine.docker(&["ps", "-aq", "--filter", &label]).unwrap_or_default();
        for id in listed.split_whitespace() {
            self.engine.docker(&["rm", "-f", id]).ok();
        }
        self.engine.docker(&["network", "prune", "-f", "--filter", &label]).ok();
    }
}

fn age_key_file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("age.key")
}

fn actions(
    dir: &tempfile::TempDir,
    policy: &Policy,
    bundles: &Arc<Bundles>,
    faults: &Faults,
) -> Actions {
    let settings = ActionSettings {
        state_dir: dir.path().join("state"),
        bundles: Some(bundles.clone()),
        age_key: age_key_file(dir),
        faults: faults.clone(),
        ..ActionSettings::default()
    };
    Actions::new(policy.clone(), settings, Clock::system())
}

/// A host for each generation of compose this machine has.
pub(crate) fn hosts() -> Vec<Host> {
    Compose::installed().unwrap().into_iter().map(Host::new).collect()
}

/// What was done to each service.
pub(crate) fn done(result: &StackSyncResult) -> Vec<(&str, ServiceAction)> {
    result.services.iter().map(|own| (own.service.as_str(), own.action)).collect()
}

/// Why it was done to that service.
pub(crate) fn why<'a>(result: &'a StackSyncResult, service: &str) -> &'a [String] {
    &result.services.iter().find(|own| own.service == service).unwrap().reasons
}
