//! A config repository on this disk, and an API that looks at it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::Method;
use hostler_controller::api::Access;
use hostler_controller::app::desired::{Desired, Keeping, Source};
use hostler_controller::bundles::Bundles;
use hostler_controller::domain::Job;
use hostler_controller::git::{
    DeployDir, GitLimits, GitSettings, GitUrl, Mirror, Reference, Secret,
};
use hostler_controller::store::{AttemptRef, ClaimHost, Settlement};
use hostler_controller::tasks::cluster::Place;
use hostler_controller::tasks::refresh::Looking;
use hostler_protocol::id::HostId;
use hostler_protocol::job::{Code, JobError, Outcome, OutcomeState};
use hostler_tests::rows;
use hostler_tests::servers::command;
use serde_json::{Value, json};

use super::rig::{Answer, Rig};
use crate::store::world::World;

/// A compose file for the host `web1`.
pub(crate) const WEB: &str = "services: {web: {image: 'web:1'}}\nx-hostler: {hosts: [web1]}\n";

/// A work tree whose own repository is what the controller looks at.
pub(crate) struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    pub(crate) fn new() -> Self {
        let made = Self { dir: tempfile::tempdir().unwrap() };
        made.git(&["init", "--quiet", "--initial-branch", "main"]);
        made
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Runs git by nobody's settings but its own; what it printed.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let mut git = command("git");
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "Ada & Company");
            git.env(format!("GIT_{role}_EMAIL"), "ada@example.org");
            git.env(format!("GIT_{role}_DATE"), "2026-01-31T12:00:00Z");
        }
        let ran = git.current_dir(self.dir.path()).args(args).output().unwrap();
        assert!(ran.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Nobody finds it any more.
    pub(crate) fn vanish(&self) {
        std::fs::rename(self.dir.path().join(".git"), self.dir.path().join("gone")).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        std::fs::remove_dir_all(self.dir.path().join(path)).unwrap();
    }

    /// Commits everything as it is; the commit's id.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// An API with a repository, a mirror of it, and a store of bundles.
pub(super) struct Kept {
    pub(super) rig: Rig,
    pub(super) repository: Repository,
    pub(super) host: HostId,
    place: World,
    data: tempfile::TempDir,
}

/// Whether the controller looks at the repository when it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    Yes,
    /// What is asked for waits for ever.
    Never,
}

impl Kept {
    /// With two stacks for the host `web1`, one whose compose file is none, and one for no host.
    pub(super) async fn on(place: World) -> Self {
        let repository = Repository::new();
        repository.write("web/docker-compose.yml", WEB);
        repository.write("db/docker-compose.yaml", WEB);
        repository.write("broken/docker-compose.yml", "services: [\n");
        repository.write("idle/docker-compose.yml", "services: {idle: {image: 'idle:1'}}\n");
        repository.commit("Begin");
        Self::of(place, repository, Looks::Yes, &[], Access::Loopback { listen: None }).await
    }

    pub(super) async fn sqlite() -> Self {
        Self::on(World::sqlite().await).await
    }

    /// With these secrets of webhooks.
    pub(super) async fn of(
        place: World,
        repository: Repository,
        looks: Looks,
        secrets: &[&str],
        access: Access,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let desired = desired(data.path(), secrets);
        let rig = Rig::over(access, place.store.clone(), desired);
        if looks == Looks::Yes {
            look(&rig, &repository, data.path());
        }
        let host = rig.host("web1", true).await;
        Self { rig, repository, host, place, data }
    }

    /// Another controller on the same database, with a mirror and bundles of its own.
    pub(super) async fn another(&self) -> (Rig, tempfile::TempDir) {
        let data = tempfile::tempdir().unwrap();
        let access = Access::Loopback { listen: None };
        let store = self.place.another().await;
        let rig = Rig::over(access, store, desired(data.path(), &[]));
        Place::enter(&rig.app, "another".to_owned()).await.unwrap();
        look(&rig, &self.repository, data.path());
        (rig, data)
    }

    /// The controller as it is after a restart, with these parts of what was on its disk.
    pub(super) fn restarted(&self, parts: &[&str]) -> (Rig, tempfile::TempDir) {
        self.rig.stop.cancel();
        let data = tempfile::tempdir().unwrap();
        for part in parts {
            let copied = command("cp")
                .arg("-a")
                .args([self.data.path().join(part), data.path().join(part)])
                .status();
            assert!(copied.unwrap().success());
        }
        let (access, store) = (Access::Loopback { listen: None }, self.rig.app.store.clone());
        let rig = Rig::over(access, store, desired(data.path(), &[]));
        look(&rig, &self.repository, data.path());
        (rig, data)
    }

    /// What the database's server prints; `None` where there is none.
    pub(super) fn sql(&self, sql: &str) -> Option<String> {
        let (server, name) = self.place.server()?;
        Some(server.psql(name, sql).unwrap().trim().to_owned())
    }

    pub(super) async fn end(self) {
        self.rig.stop.cancel();
        drop(self.rig);
        self.place.end().await;
    }

    /// Looks at the repository and waits for the end.
    pub(super) async fn refresh(&self) -> Answer {
        let headers = [("prefer", "wait=60")];
        self.rig.call_with(Method::POST, "/api/refresh", &headers, None).await.expect(200)
    }

    /// Carries stacks on until there is nothing more to do.
    pub(super) async fn carry(&self) {
        while self.rig.app.carry_stacks().await.unwrap() {}
    }

    /// The path of a stack in the API.
    pub(super) async fn stack(&self, path: &str) -> String {
        let found = self.rig.get(&format!("/api/stacks?path={path}")).await.expect(200);
        format!("/api/stacks/{}", found.body["items"][0]["id"].as_str().unwrap())
    }

    pub(super) async fn show(&self, path: &str) -> Value {
        self.rig.get(&self.stack(path).await).await.expect(200).body
    }

    /// Each stack's status, by path.
    pub(super) async fn statuses(&self) -> BTreeMap<String, String> {
        let listed = self.rig.get("/api/stacks?limit=200").await.expect(200);
        let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
        let rows = listed.body["items"].as_array().unwrap().iter();
        rows.map(|row| (text(row, "path"), text(row, "status"))).collect()
    }

    /// Claims what is runnable, as the host's controller does.
    pub(super) async fn claim(&self) -> Vec<Job> {
        let app = &self.rig.app;
        let row = app.store.host(&self.host).await.unwrap().unwrap();
        let opening = rows::opening(&row, &app.controller, app.clock.now());
        let epoch = app.store.session_open(opening).await.unwrap();
        let host = ClaimHost { host: self.host.clone(), epoch, slots: 10 };
        let claimed = app.store.claim(&[host], app.clock.now(), 10).await.unwrap();
        claimed.into_iter().map(|claimed| claimed.job).collect()
    }

    /// Its host's session ends.
    pub(super) async fn leave(&self) {
        let app = &self.rig.app;
        let epoch = app.store.session_of(&self.host).await.unwrap().unwrap();
        assert!(app.store.session_close(&self.host, epoch, app.clock.now()).await.unwrap());
    }

    pub(super) async fn settle(&self, job: &Job, outcome: Outcome) {
        let app = &self.rig.app;
        let settlement = Settlement {
            attempt: AttemptRef { job: job.id.clone(), attempt: job.attempt },
            host: self.host.clone(),
            outcome,
            template: app.templates.for_type(job.job_type),
            warm_template: None,
        };
        app.store.settle(&[settlement], app.clock.now()).await.unwrap();
    }

    /// Does everything that is to be done, the host confirming all of it.
    pub(super) async fn settle_down(&self) {
        self.carry().await;
        loop {
            let jobs = self.claim().await;
            if jobs.is_empty() {
                return;
            }
            for job in &jobs {
                self.settle(job, confirmed(job)).await;
            }
            self.carry().await;
        }
    }
}

/// Has a controller look at the repository.
fn look(rig: &Rig, repository: &Repository, data: &Path) {
    let url = GitUrl::parse(&format!("file://{}", repository.path().display())).unwrap();
    let deploy_dir = DeployDir::parse("/").unwrap();
    let settings = GitSettings::new(url, Reference::parse("main").unwrap(), deploy_dir);
    let mirror = Mirror::open(&data.join("git"), settings, rig.app.clock.clone());
    let (mirror, limits) = (Arc::new(mirror.unwrap()), GitLimits::default());
    let looking = Looking { mirror, limits, poll: None };
    let (app, stop) = (rig.app.clone(), rig.stop.clone());
    tokio::spawn(hostler_controller::tasks::refresh::run(app, looking, stop));
}

fn desired(data: &Path, secrets: &[&str]) -> Desired {
    let source = Source {
        shown: "file:///config#main:/".to_owned(),
        deploy_dir: DeployDir::parse("/").unwrap(),
        reference: "main".to_owned(),
        repository: "config".to_owned(),
    };
    let keeping = Keeping {
        source: Some(source),
        webhook_secrets: secrets.iter().map(|text| Secret::new((*text).to_owned())).collect(),
        ..Keeping::default()
    };
    Desired::new(keeping, Bundles::on_disk(&data.join("bundles")).unwrap())
}

fn ended(state: OutcomeState, result: Option<Value>, error: Option<JobError>) -> Outcome {
    Outcome { state, result, error, steps: Vec::new(), started_at_us: 1, finished_at_us: 2 }
}

/// What a host says that did as it was told.
pub(super) fn confirmed(job: &Job) -> Outcome {
    let spec = &job.request["spec"];
    let result = match spec.is_object() {
        true => json!({
            "desired": spec["desired"], "bundle": spec["bundle"], "changed": true,
            "services": [{"service": "web", "action": "created", "reasons": ["it was not there"]}],
            "files": [{"path": "web/docker-compose.yml", "action": "added"}], "files_more": 0,
            "containers": [{
                "name": "web-web-1", "id": "0123456789ab", "service": "web", "image": "web:1",
                "image_id": "sha256:ab", "state": "running", "health": "healthy", "restarts": 0,
            }],
            "compose": "docker compose 2.26.1",
        }),
        false => json!({ "containers": 1, "volumes_kept": ["web_data"], "files_removed": true }),
    };
    ended(OutcomeState::Succeeded, Some(result), None)
}

pub(super) fn unhealthy() -> Outcome {
    let error = JobError::new(Code::StackUnhealthy, "web was not healthy in time");
    ended(OutcomeState::Failed, None, Some(error))
}

/// A failure that may pass.
pub(super) fn no_image() -> Outcome {
    let error = JobError::new(Code::ImageUnavailable, "no registry has nope:9");
    ended(OutcomeState::Failed, None, Some(error))
}
