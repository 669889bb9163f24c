//! One "host" for tests of the agent's actions: a real nginx, PHP-FPM and, where asked, Redis.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hostler_agent::actions::{ActionSettings, Actions, JobContext, ProgressSink};
use hostler_agent::clock::Clock;
use hostler_agent::host::ansible::Ansible;
use hostler_agent::host::fake::Faults;
use hostler_agent::policy::Policy;
use hostler_protocol::id::{EnvironmentId, JobId};
use hostler_protocol::job::{
    AppKind, CacheSet, CheckSpec, EnvironmentDoc, ExplainResult, ExplainSpec, FactsResult,
    FactsSpec, FastcgiDoc, FastcgiPurge, HealthDoc, JobDoc, JobSpec, KEY_FORMAT_DEFAULT, NginxDoc,
    Outcome, OutcomeState, Progress, PurgeMode, PurgeResult, PurgeScope, PurgeSpec, RedisDoc,
    RemoveSpec, StepState, ToggleResult, ToggleSpec,
};
use hostler_protocol::message::AttemptRef;
use hostler_tests::servers::nginx::{Nginx, Vhost};
use hostler_tests::servers::php::PhpFpm;
use hostler_tests::servers::tls::Tls;
use hostler_tests::servers::{directory, get, write};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

const PAGE: &str = "<?php\nif (isset($_GET['vary'])) header('Vary: X-Variant');\n\
    if (isset($_GET['private'])) header('Cache-Control: no-store');\n\
    $own = dirname(__DIR__) . '/pages/' . rawurlencode(strtok($_SERVER['REQUEST_URI'], '?'));\n\
    if (is_file($own)) include $own;\n\
    echo $_SERVER['REQUEST_URI'], ' made at ', hrtime(true), \"\\n\";\n";

/// Longest wait of this agent for a new nginx configuration to answer.
pub(crate) const RELOAD_SECS_MAX: u64 = 6;

pub(crate) struct Stand {
    pub(crate) nginx: Nginx,
    pub(crate) faults: Faults,
    pub(crate) actions: Actions,
    php: PhpFpm,
    dir: tempfile::TempDir,
    generation: std::cell::Cell<u64>,
    sites: std::cell::Cell<u8>,
}

/// How a site differs from the usual one.
#[derive(Default)]
pub(crate) struct Options<'a> {
    pub(crate) server_lines: &'a str,
    pub(crate) location_lines: &'a str,
    /// Served with TLS alone, there.
    pub(crate) tls: Option<&'a Tls>,
    /// The vhost includes files from a directory nobody writes to.
    pub(crate) includes_elsewhere: bool,
}

impl Stand {
    pub(crate) fn start(http_lines: &str) -> Self {
        Self::with_workers(http_lines, 2)
    }

    /// The same with so many PHP workers.
    pub(crate) fn with_workers(http_lines: &str, workers: u32) -> Self {
        let nginx = Nginx::start(http_lines).unwrap();
        let php = PhpFpm::start(workers).unwrap();
        let dir = directory("stand").unwrap();
        std::fs::create_dir(nginx.dir().join("cache")).unwrap();
        let faults = Faults::armed();
        let actions = actions(&nginx, &[dir.path()], &faults, ansible(dir.path()));
        let (generation, sites) = Default::default();
        Self { nginx, faults, actions, php, dir, generation, sites }
    }

    /// The agent once more, as after a restart.
    pub(crate) fn restart(&mut self) {
        self.faults.clear();
        let ansible = ansible(self.dir.path());
        self.use_ansible(ansible);
    }

    /// From now on playbooks are run like that.
    pub(crate) fn use_ansible(&mut self, ansible: Ansible) {
        self.actions = actions(&self.nginx, &[self.dir.path()], &self.faults, ansible);
    }

    /// From now on the agent may work below `root` too.
    pub(crate) fn permit(&mut self, root: &Path) {
        let roots = [self.dir.path(), root];
        self.actions = actions(&self.nginx, &roots, &self.faults, ansible(self.dir.path()));
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn site(&self, name: &str, options: &Options<'_>) -> EnvironmentDoc {
        let root = self.dir.path().join(name);
        let docroot = root.join("public");
        write(&docroot.join("index.php"), PAGE).unwrap();
        std::fs::create_dir_all(root.join("nginx")).unwrap();
        let included = if options.includes_elsewhere { "elsewhere" } else { "nginx" };
        self.nginx
            .add_vhost(&Vhost {
                domain: &format!("{name}.test"),
                docroot: &docroot,
                php_socket: &self.php.socket,
                hostler_dir: &root.join(included),
                server_lines: options.server_lines,
                location_lines: options.location_lines,
                tls: options.tls,
            })
            .unwrap();
        self.sites.set(self.sites.get() + 1);
        let file = |name: &str| text(&root.join("nginx").join(name));
        EnvironmentDoc {
            id: EnvironmentId::from_parts(1, [self.sites.get(); 10]),
            site: name.to_owned(),
            name: "production".to_owned(),
            domain: format!("{name}.test"),
            kind: AppKind::Php,
            docroot: text(&docroot),
            user: "www-data".to_owned(),
            nginx: NginxDoc {
                http_file: file("http.conf"),
                server_file: file("server.conf"),
                location_file: file("location.conf"),
                probe_origin: format!("http://127.0.0.1:{}", self.nginx.port),
            },
            fastcgi: Some(FastcgiDoc {
                cache_dir: text(&self.nginx.dir().join("cache").join(name)),
                key_format: KEY_FORMAT_DEFAULT.to_owned(),
                zone_mib: 1,
                size_mib_max: 64,
                inactive_secs: 3600,
                valid_secs: 600,
            }),
            redis: None,
            health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 5000 },
            executor: None,
        }
    }

    /// The same environment with an object cache on that port.
    pub(crate) fn with_redis(
        &self,
        mut environment: EnvironmentDoc,
        port: u16,
        password: &str,
        prefix: &str,
    ) -> EnvironmentDoc {
        let file = self.dir.path().join("redis-password");
        write(&file, &format!("{password}\n")).unwrap();
        environment.redis = Some(RedisDoc {
            url: format!("redis://127.0.0.1:{port}/0"),
            password_file: Some(text(&file)),
            prefix: prefix.to_owned(),
            switch_file: Some(text(&self.dir.path().join("redis-switch.json"))),
        });
        environment
    }

    pub(crate) fn toggle_spec(
        &self,
        environment: &EnvironmentDoc,
        fastcgi_enabled: Option<bool>,
        redis_enabled: Option<bool>,
    ) -> JobSpec {
        self.generation.set(self.generation.get() + 1);
        JobSpec::EnvCacheToggle(ToggleSpec {
            environment: environment.clone(),
            fastcgi_enabled,
            redis_enabled,
            generation: self.generation.get(),
        })
    }

    pub(crate) async fn toggle(&self, environment: &EnvironmentDoc, enabled: bool) -> Outcome {
        self.run(self.toggle_spec(environment, Some(enabled), None)).await
    }

    /// Brings the page cache to where it is off and its files are in force; takes two generations.
    pub(crate) async fn settle_off(&self, environment: &EnvironmentDoc) {
        for enabled in [true, false] {
            let outcome = self.toggle(environment, enabled).await;
            assert_eq!(outcome.state, OutcomeState::Succeeded, "{outcome:#?}");
        }
    }

    pub(crate) async fn switch(&self, environment: &EnvironmentDoc, enabled: bool) -> Outcome {
        self.run(self.toggle_spec(environment, None, Some(enabled))).await
    }

    pub(crate) async fn purge(
        &self,
        environment: &EnvironmentDoc,
        scope: PurgeScope,
        dry_run: bool,
    ) -> Outcome {
        let mut spec = purge_spec(environment, scope, PurgeMode::Hard);
        if let JobSpec::CachePurge(purge) = &mut spec {
            purge.dry_run = dry_run;
        }
        self.run(spec).await
    }

    /// A purge in that mode that succeeds: what it says of the page cache.
    pub(crate) async fn purged(
        &self,
        environment: &EnvironmentDoc,
        scope: PurgeScope,
        mode: PurgeMode,
    ) -> FastcgiPurge {
        let outcome = self.run(purge_spec(environment, scope, mode)).await;
        result::<PurgeResult>(&outcome).fastcgi.unwrap()
    }

    pub(crate) async fn facts(&self, environment: &EnvironmentDoc) -> FactsResult {
        let environment = environment.clone();
        result(&self.run(JobSpec::CacheFacts(FactsSpec { environment })).await)
    }

    pub(crate) async fn explain(&self, environment: &EnvironmentDoc, path: &str) -> ExplainResult {
        let url = format!("http://{}{path}", environment.domain);
        let environment = environment.clone();
        result(&self.run(JobSpec::CacheExplain(ExplainSpec { environment, url })).await)
    }

    /// A usual site with its page cache on.
    pub(crate) async fn cached_site(&self, name: &str) -> EnvironmentDoc {
        let environment = self.site(name, &Options::default());
        result::<ToggleResult>(&self.toggle(&environment, true).await);
        environment
    }

    /// Has PHP run these lines whenever it makes the page of that path.
    pub(crate) fn page(&self, environment: &EnvironmentDoc, path: &str, lines: &str) {
        let pages = self.pages(environment);
        let name = path.bytes().fold(String::new(), |name, byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => name + &char::from(byte).to_string(),
            other => format!("{name}%{other:02X}"),
        });
        write(&pages.join(name), &format!("<?php {lines}\n")).unwrap();
    }

    /// A directory of the site that PHP may write to.
    pub(crate) fn pages(&self, environment: &EnvironmentDoc) -> PathBuf {
        let pages = self.dir.path().join(&environment.site).join("pages");
        std::fs::create_dir_all(&pages).unwrap();
        std::fs::set_permissions(&pages, std::fs::Permissions::from_mode(0o777)).unwrap();
        pages
    }

    pub(crate) fn php_socket(&self) -> &Path {
        &self.php.socket
    }

    /// A visitor's request for a page that may answer with any status: that and the cache's word.
    pub(crate) fn visit(&self, environment: &EnvironmentDoc, path: &str) -> (u16, String) {
        let answer = get(self.nginx.port, &environment.domain, path, &[]).unwrap();
        (answer.status, answer.header("X-Hostler-Cache").unwrap_or("none").to_owned())
    }

    pub(crate) async fn check(&self, environment: &EnvironmentDoc) -> Outcome {
        self.run(JobSpec::EnvCheck(CheckSpec { environment: environment.clone() })).await
    }

    pub(crate) fn remove_spec(&self, environment: &EnvironmentDoc) -> JobSpec {
        self.generation.set(self.generation.get() + 1);
        let generation = self.generation.get();
        JobSpec::EnvDelete(RemoveSpec { environment: environment.clone(), generation })
    }

    pub(crate) async fn remove(&self, environment: &EnvironmentDoc) -> Outcome {
        self.run(self.remove_spec(environment)).await
    }

    pub(crate) async fn run(&self, spec: JobSpec) -> Outcome {
        self.run_doc(spec.into()).await
    }

    pub(crate) async fn run_doc(&self, doc: JobDoc) -> Outcome {
        self.actions.run(doc, context().0).await
    }

    /// Runs a job that is cancelled the moment it begins `step`.
    pub(crate) async fn cancel_at(&self, step: &str, doc: impl Into<JobDoc>) -> Outcome {
        self.cancel_when(step, || (), doc).await
    }

    /// The same, after something else has happened.
    pub(crate) async fn cancel_when(
        &self,
        step: &str,
        happens: impl Fn(),
        doc: impl Into<JobDoc>,
    ) -> Outcome {
        let (context, mut progress) = context();
        let cancel = context.cancel.clone();
        let watch = async {
            while let Some(told) = progress.recv().await {
                if told.step == step && !cancel.is_cancelled() {
                    happens();
                    cancel.cancel();
                }
            }
        };
        tokio::join!(self.actions.run(doc.into(), context), watch).0
    }

    /// Runs a job during which nginx ends, the moment it begins `step`.
    pub(crate) async fn stop_nginx_at(&mut self, step: &str, spec: JobSpec) -> Outcome {
        let (context, mut progress) = context();
        let nginx = &mut self.nginx;
        let watch = async {
            while let Some(told) = progress.recv().await {
                if told.step == step && told.state == StepState::Started {
                    nginx.stop();
                }
            }
        };
        tokio::join!(self.actions.run(spec.into(), context), watch).0
    }

    /// Runs a job until it begins `step`, then forgets it, as a kill would.
    pub(crate) async fn kill_at(&self, step: &str, spec: JobSpec) {
        self.faults.crash_at(step);
        tokio::select! {
            outcome = self.run(spec) => panic!("the job never came to {step}: {outcome:?}"),
            () = self.faults.crashed() => {}
        }
    }

    pub(crate) fn status(&self, environment: &EnvironmentDoc, path: &str) -> String {
        self.status_with(environment, path, &[])
    }

    pub(crate) fn status_with(
        &self,
        environment: &EnvironmentDoc,
        path: &str,
        headers: &[(&str, &str)],
    ) -> String {
        let answer = get(self.nginx.port, &environment.domain, path, headers).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}\n{}", self.nginx.error_log());
        answer.header("X-Hostler-Cache").unwrap_or("none").to_owned()
    }

    /// As [`Stand::status`], of a visitor who speaks TLS.
    pub(crate) async fn status_tls(&self, tls: &Tls, domain: &str, path: &str) -> String {
        let answer = tls.get(domain, path).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}\n{}", self.nginx.error_log());
        answer.cache.unwrap_or_else(|| "none".to_owned())
    }
}

/// A purge of all caches the environment has.
pub(crate) fn purge_spec(
    environment: &EnvironmentDoc,
    scope: PurgeScope,
    mode: PurgeMode,
) -> JobSpec {
    let caches = CacheSet { fastcgi: true, redis: environment.redis.is_some() };
    let environment = environment.clone();
    JobSpec::CachePurge(PurgeSpec { environment, caches, scope, mode, dry_run: false })
}

/// The repository's playbooks, run by whatever `ansible-playbook` the system has.
pub(crate) fn ansible(dir: &Path) -> Ansible {
    let playbook_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ansible");
    let playbook_dir = playbook_dir.canonicalize().unwrap();
    Ansible { playbook_dir, runs_dir: dir.join("state/runs"), ..Ansible::default() }
}

/// The agent's own files are in the first of its roots.
fn actions(nginx: &Nginx, dirs: &[&Path], faults: &Faults, ansible: Ansible) -> Actions {
    let mut roots = vec![nginx.dir().to_owned()];
    roots.extend(dirs.iter().map(|dir| (*dir).to_owned()));
    let policy = Policy {
        roots,
        nginx_command: nginx.command_line().unwrap(),
        nginx_pid_file: nginx.pid_file(),
        nginx_error_log: nginx.dir().join("error.log"),
        ..Policy::default()
    };
    let (state_dir, faults) = (dirs[0].join("state"), faults.clone());
    let reload_secs_max = RELOAD_SECS_MAX;
    let settings =
        ActionSettings { state_dir, reload_secs_max, ansible, faults, ..ActionSettings::default() };
    Actions::new(policy, settings, Clock::system())
}

pub(crate) fn context() -> (JobContext, Receiver<Progress>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(256);
    let context = JobContext {
        attempt: AttemptRef { job: JobId::from_parts(1, [7; 10]), attempt: 1 },
        cancel: CancellationToken::new(),
        progress: ProgressSink(sender),
    };
    (context, receiver)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The result document of a job that succeeded.
pub(crate) fn result<T: serde::de::DeserializeOwned>(outcome: &Outcome) -> T {
    assert_eq!(outcome.state, OutcomeState::Succeeded, "{outcome:#?}");
    serde_json::from_value(outcome.result.clone().unwrap()).unwrap()
}

/// The error code and message of a job that failed.
pub(crate) fn error(outcome: &Outcome) -> (String, String) {
    assert_eq!(outcome.state, OutcomeState::Failed, "{outcome:#?}");
    let error = outcome.error.clone().unwrap();
    (error.code, error.message)
}

/// What the three nginx files say.
pub(crate) fn files(environment: &EnvironmentDoc) -> Vec<Option<String>> {
    let nginx = &environment.nginx;
    [&nginx.http_file, &nginx.server_file, &nginx.location_file]
        .map(|path| std::fs::read_to_string(path).ok())
        .to_vec()
}

/// Exactly these URLs.
pub(crate) fn urls(urls: &[&str]) -> PurgeScope {
    PurgeScope::Urls { urls: urls.iter().map(|url| (*url).to_owned()).collect() }
}

/// Files below a directory that look like cache entries.
pub(crate) fn entries(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(dir)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found
}
