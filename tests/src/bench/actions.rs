//! The agent's actions alone, in this process, on a real host: no controller, no queue, no wire.

use std::path::{Path, PathBuf};

use hostler_agent::actions::{ActionSettings, Actions, JobContext, ProgressSink};
use hostler_agent::clock::Clock;
use hostler_agent::host::ansible::Ansible;
use hostler_agent::policy::Policy;
use hostler_protocol::id::{EnvironmentId, JobId};
use hostler_protocol::job::{
    AppKind, CacheSet, EnvironmentDoc, Executor, FactsResult, FactsSpec, FastcgiDoc, HealthDoc,
    JobDoc, JobSpec, KEY_FORMAT_DEFAULT, NginxDoc, OutcomeState, PurgeMode, PurgeResult,
    PurgeScope, PurgeSpec, RedisDoc, ToggleSpec, WarmResult, WarmSpec,
};
use hostler_protocol::message::AttemptRef;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Res;
use super::clock::Watch;
use super::http::Visitor;
use crate::servers::nginx::{Nginx, Vhost};
use crate::servers::php::PhpFpm;
use crate::servers::write;

const PROGRESS_LINES: usize = 256;
const PLAYBOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ansible");

/// nginx, PHP-FPM and the agent's actions.
#[derive(Debug)]
pub struct ActionHost {
    pub actions: Actions,
    nginx: Nginx,
    php: PhpFpm,
    dir: PathBuf,
    jobs: std::sync::atomic::AtomicU64,
}

impl ActionHost {
    /// Starts the servers; the agent's own files are in `dir`.
    ///
    /// # Errors
    /// If a server does not come up.
    pub fn start(dir: &Path) -> Res<Self> {
        Self::start_with(dir, "", 2)
    }

    /// The same with more lines in nginx's `http {}` block, and so many PHP workers.
    ///
    /// # Errors
    /// If a server does not come up.
    pub fn start_with(dir: &Path, http_lines: &str, php_workers: u32) -> Res<Self> {
        let lines = format!("access_log off; keepalive_requests 1000000; {http_lines}");
        let nginx = Nginx::start(&lines)?;
        let php = PhpFpm::start(php_workers)?;
        let policy = Policy {
            roots: vec![dir.to_owned(), nginx.dir().to_owned(), php.dir().to_owned()],
            nginx_command: nginx.command_line()?,
            nginx_pid_file: nginx.pid_file(),
            nginx_error_log: nginx.dir().join("error.log"),
            ..Policy::default()
        };
        let state_dir = dir.join("agent");
        let ansible = Ansible {
            playbook_dir: std::fs::canonicalize(PLAYBOOKS)?,
            runs_dir: state_dir.join("runs"),
            ..Ansible::default()
        };
        let settings = ActionSettings { state_dir, ansible, ..Default::default() };
        let actions = Actions::new(policy, settings, Clock::system());
        Ok(Self { actions, nginx, php, dir: dir.to_owned(), jobs: 0.into() })
    }

    /// A site whose pages say when they were made, its FastCGI cache on.
    ///
    /// # Errors
    /// If the toggle fails; with its error.
    pub async fn site(&self, name: &str) -> Res<EnvironmentDoc> {
        let page = "<?php echo $_SERVER['REQUEST_URI'], ' made at ', hrtime(true), \"\\n\";\n";
        self.site_of(name, page).await
    }

    /// A site of that one PHP page, its FastCGI cache on.
    ///
    /// # Errors
    /// If the toggle fails; with its error.
    pub async fn site_of(&self, name: &str, page: &str) -> Res<EnvironmentDoc> {
        let root = self.php.dir().join(name);
        let files = root.join("nginx");
        std::fs::create_dir_all(&files)?;
        std::fs::create_dir_all(self.nginx.dir().join("cache"))?;
        write(&root.join("public/index.php"), page)?;
        let domain = format!("{name}.test");
        self.nginx.add_vhost(&Vhost {
            domain: &domain,
            docroot: &root.join("public"),
            php_socket: &self.php.socket,
            hostler_dir: &files,
            server_lines: "",
            location_lines: "",
            tls: None,
        })?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let environment = EnvironmentDoc {
            id: EnvironmentId::from_parts(self.next(), [0; 10]),
            site: name.to_owned(),
            name: "production".to_owned(),
            domain,
            kind: AppKind::Php,
            docroot: text(root.join("public")),
            user: "www-data".to_owned(),
            nginx: NginxDoc {
                http_file: text(files.join("http.conf")),
                server_file: text(files.join("server.conf")),
                location_file: text(files.join("location.conf")),
                probe_origin: format!("http://127.0.0.1:{}", self.nginx.port),
            },
            fastcgi: Some(FastcgiDoc {
                cache_dir: text(self.nginx.dir().join("cache").join(name)),
                key_format: KEY_FORMAT_DEFAULT.to_owned(),
                zone_mib: 32,
                size_mib_max: 10_240,
                inactive_secs: 86_400,
                valid_secs: 3_600,
            }),
            redis: None,
            health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 5_000 },
            executor: None,
        };
        self.toggle_by(Executor::Native, &environment, true).await?;
        Ok(environment)
    }

    /// Switches a page cache; says how many seconds that took with its proof.
    ///
    /// # Errors
    /// If it does not succeed.
    pub async fn toggle_by(
        &self,
        executor: Executor,
        environment: &EnvironmentDoc,
        enabled: bool,
    ) -> Res<f64> {
        let spec = JobSpec::EnvCacheToggle(ToggleSpec {
            environment: environment.clone(),
            fastcgi_enabled: Some(enabled),
            redis_enabled: None,
            generation: self.next(),
        });
        Ok(self.run(JobDoc { executor, probe: false, spec }).await?.0)
    }

    /// The same environment with Redis keys of its own and nothing else to purge.
    #[must_use]
    pub fn with_redis(&self, mut environment: EnvironmentDoc, url: &str) -> EnvironmentDoc {
        environment.redis = Some(RedisDoc {
            url: url.to_owned(),
            password_file: None,
            prefix: format!("{}:", environment.site),
            switch_file: Some(self.dir.join("redis.json").to_string_lossy().into_owned()),
        });
        environment
    }

    /// Runs a purge; says how many seconds it took and what it found.
    ///
    /// # Errors
    /// If it does not succeed.
    pub async fn purge(
        &self,
        environment: &EnvironmentDoc,
        caches: CacheSet,
        scope: PurgeScope,
    ) -> Res<(f64, PurgeResult)> {
        self.purge_in(PurgeMode::Hard, environment, caches, scope).await
    }

    /// The same in another mode.
    ///
    /// # Errors
    /// If it does not succeed.
    pub async fn purge_in(
        &self,
        mode: PurgeMode,
        environment: &EnvironmentDoc,
        caches: CacheSet,
        scope: PurgeScope,
    ) -> Res<(f64, PurgeResult)> {
        let environment = environment.clone();
        let spec = PurgeSpec { environment, caches, scope, mode, dry_run: false };
        let (secs, result) = self.run(JobSpec::CachePurge(spec).into()).await?;
        Ok((secs, serde_json::from_value(result)?))
    }

    /// Purges one page, which has to be stored, and checks that it was removed; says how many
    /// seconds it took.
    ///
    /// # Errors
    /// If it does not succeed.
    pub async fn purge_page_by(
        &self,
        executor: Executor,
        environment: &EnvironmentDoc,
        uri: &str,
    ) -> Res<f64> {
        let spec = JobSpec::CachePurge(PurgeSpec {
            environment: environment.clone(),
            caches: CacheSet { fastcgi: true, redis: false },
            scope: PurgeScope::Urls { urls: vec![format!("http://{}{uri}", environment.domain)] },
            mode: PurgeMode::Hard,
            dry_run: false,
        });
        let (secs, result) = self.run(JobDoc { executor, probe: false, spec }).await?;
        let result: PurgeResult = serde_json::from_value(result)?;
        match result.fastcgi.map(|purged| purged.removed) {
            Some(1) => Ok(secs),
            other => Err(format!("{uri}: {other:?} entries were removed, not one").into()),
        }
    }

    /// Warms pages; says how many seconds it took.
    ///
    /// # Errors
    /// If it does not succeed.
    pub async fn warm(
        &self,
        environment: &EnvironmentDoc,
        urls: Vec<String>,
    ) -> Res<(f64, WarmResult)> {
        let environment = environment.clone();
        let wanted_at_us = Clock::system().now_us();
        let spec = WarmSpec { environment, urls, wanted_at_us, sent_at_us: None };
        let (secs, result) = self.run(JobSpec::CacheWarm(spec).into()).await?;
        Ok((secs, serde_json::from_value(result)?))
    }

    /// Counts what is in a cache; says how many seconds that took.
    ///
    /// # Errors
    /// If it does not succeed.
    pub async fn facts(&self, environment: &EnvironmentDoc) -> Res<(f64, FactsResult)> {
        let spec = FactsSpec { environment: environment.clone() };
        let (secs, result) = self.run(JobSpec::CacheFacts(spec).into()).await?;
        Ok((secs, serde_json::from_value(result)?))
    }

    /// Where PHP listens, and the directory its sites live in.
    #[must_use]
    pub fn php(&self) -> (&Path, &Path) {
        (&self.php.socket, self.php.dir())
    }

    /// A visitor of a site.
    ///
    /// # Errors
    /// If nginx does not answer.
    pub fn visitor(&self, environment: &EnvironmentDoc) -> Res<Visitor> {
        Visitor::connect(([127, 0, 0, 1], self.nginx.port).into(), &environment.domain)
    }

    /// What nginx logged.
    #[must_use]
    pub fn error_log(&self) -> String {
        self.nginx.error_log()
    }

    fn next(&self) -> u64 {
        self.jobs.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }

    async fn run(&self, doc: JobDoc) -> Res<(f64, serde_json::Value)> {
        // Nobody reads the progress: what does not fit is dropped, as with a slow controller.
        let (progress, _lines) = mpsc::channel(PROGRESS_LINES);
        let context = JobContext {
            attempt: AttemptRef { job: JobId::from_parts(self.next(), [0; 10]), attempt: 1 },
            cancel: CancellationToken::new(),
            progress: ProgressSink(progress),
        };
        let watch = Watch::start();
        let outcome = self.actions.run(doc, context).await;
        let secs = watch.secs();
        match (outcome.state, outcome.result, outcome.error) {
            (OutcomeState::Succeeded, Some(result), _) => Ok((secs, result)),
            (_, _, error) => Err(format!("the action did not succeed: {error:?}").into()),
        }
    }
}
