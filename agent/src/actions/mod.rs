//! One file per job type: what it does, in which order, and how it is undone.
//!
//! Actions never import each other; what they share is in [`crate::steps`]. Whatever happens,
//! [`Actions::run`] answers with an outcome.

mod check;
mod explain;
mod facts;
mod probe;
mod purge;
mod recover;
mod remove;
mod stack_down;
mod stack_plan;
mod stack_sync;
mod toggle;
mod warm;
mod warm_playbook;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hostler_protocol::job::{
    Code, EnvironmentDoc, Executor, JobDoc, JobSpec, JobType, Outcome, OutcomeState, StepReport,
    StepState, Subject,
};
use serde_json::Value;
use tokio_util::sync::DropGuard;

use crate::clock::Clock;
use crate::host::ansible::Ansible;
use crate::host::fake::Faults;
use crate::policy::Policy;
use crate::steps::bundle::BundleSource;
use crate::steps::run::{Failure, Run};
pub use crate::steps::run::{JobContext, ProgressSink};
use crate::steps::tools::Tools;
use crate::steps::watch;

/// What actions need to know besides the policy.
#[derive(Debug, Clone)]
pub struct ActionSettings {
    /// Where the agent keeps its own files; made if missing.
    pub state_dir: PathBuf,
    /// Longest wait for a new nginx configuration to answer, in seconds.
    pub reload_secs_max: u64,
    /// How playbooks are run.
    pub ansible: Ansible,
    /// Where bundles come from; without it stacks are refused.
    pub bundles: Option<Arc<dyn BundleSource>>,
    /// The file of keys that encrypted files of bundles are decrypted with.
    pub age_key: PathBuf,
    /// For tests; the default injects nothing.
    pub faults: Faults,
}

impl Default for ActionSettings {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/hostler-agent"),
            // Ten times what a thousand vhosts need.
            reload_secs_max: 15,
            ansible: Ansible::default(),
            bundles: None,
            age_key: PathBuf::from("/etc/hostler/age.key"),
            faults: Faults::default(),
        }
    }
}

/// Runs jobs on this host; cheap to clone.
#[derive(Debug, Clone)]
pub struct Actions {
    tools: Tools,
    ansible: Ansible,
    /// What runs in the background ends with the last clone.
    _background: Arc<DropGuard>,
}

impl Actions {
    /// Actions under that policy.
    #[must_use]
    pub fn new(policy: Policy, settings: ActionSettings, clock: Clock) -> Self {
        let ActionSettings { state_dir, reload_secs_max, ansible, bundles, age_key, faults } =
            settings;
        let reload_timeout = Duration::from_secs(reload_secs_max);
        let mut tools = Tools::new(policy, state_dir, reload_timeout, clock, faults);
        tools.bundles = bundles;
        tools.age_key = age_key;
        let _background = Arc::new(tools.stop.clone().drop_guard());
        Self { tools, ansible, _background }
    }

    /// The host as its jobs see it: whoever else works with it shares their locks.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Runs one attempt to its end. Never panics: that, too, is an outcome.
    pub async fn run(&self, doc: JobDoc, context: JobContext) -> Outcome {
        let clock = &self.tools.clock;
        let started_at_us = clock.now_us();
        let mut run = Run::new(context, clock.clone(), self.tools.faults.clone());
        let work = Box::pin(self.dispatch(&mut run, &doc));
        let ended = AssertUnwindSafe(work).catch_unwind().await;
        let mut put_right = Vec::new();
        if ended.is_err() {
            put_right = self.put_right(&doc.spec.subject()).await;
        }
        let ended = ended.unwrap_or_else(|panic| {
            let what = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a panic without words".to_owned());
            Err(Failure::new(Code::InternalError, format!("the agent failed: {what}")))
        });
        let (state, result, error) = match ended {
            Ok(result) => (OutcomeState::Succeeded, Some(result), None),
            Err(failure) if failure.is_cancelled() => {
                (OutcomeState::Cancelled, None, Some(failure.into_error()))
            }
            Err(failure) => (OutcomeState::Failed, None, Some(failure.into_error())),
        };
        Outcome {
            state,
            result,
            error,
            steps: run.into_reports().into_iter().chain(put_right).collect(),
            started_at_us,
            finished_at_us: clock.now_us(),
        }
    }

    /// Puts back what an attempt left half-changed that was cut off; empty when there is nothing.
    pub async fn put_right(&self, subject: &Subject) -> Vec<StepReport> {
        match subject {
            Subject::Environment(id) => recover::put_right(&self.tools, id).await,
            // What a sync leaves half-done the next one takes up where it is.
            Subject::Stack(_) => Vec::new(),
        }
    }

    /// Asks the host whether it does what an attempt wanted that was cut off, and makes the outcome
    /// that the attempt would have had. `None` when it does not, or nobody can tell.
    pub async fn probe(&self, doc: &JobDoc) -> Option<Outcome> {
        let started_us = self.tools.clock.monotonic_us();
        let result = probe::probe(&self.tools, &doc.spec).await?;
        let now_us = self.tools.clock.now_us();
        let message =
            "the agent was cut off when everything was done: the host proves it".to_owned();
        let took_us = self.tools.clock.monotonic_us().saturating_sub(started_us);
        let step = "probe".to_owned();
        Some(Outcome {
            state: OutcomeState::Succeeded,
            result: Some(result),
            error: None,
            steps: vec![StepReport { step, state: StepState::Done, message, took_us }],
            started_at_us: now_us,
            finished_at_us: now_us,
        })
    }

    /// At the agent's start: puts back what a killed agent left half-changed, clears away what it
    /// left lying about, watches on for what it watched, and tries out in the background what
    /// depends on the nginx that runs. Doing it twice does nothing more.
    pub async fn recover(&self) -> Vec<StepReport> {
        let reports = recover::recover(&self.tools, &self.ansible).await;
        watch::resume(&self.tools).await;
        let tools = self.tools.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tools.stop.cancelled() => {}
                () = recover::try_out(&tools) => {}
            }
        });
        reports
    }

    /// Whether this host lets that executor carry out the job, and whether it could.
    fn permit_executor(&self, doc: &JobDoc) -> Result<(), Failure> {
        let (job_type, executor) = (doc.spec.job_type(), doc.executor);
        if !has_playbook(job_type) {
            if executor == Executor::Native {
                return Ok(());
            }
            let message = format!("there is no playbook for jobs of type {}", job_type.as_str());
            return Err(Failure::new(Code::ModeNotSupported, message));
        }
        if self.tools.policy.executors.contains(&executor) {
            return Ok(());
        }
        let message = format!("this host does not let `{}` carry jobs out", executor.as_str());
        Err(Failure::new(Code::PolicyRefused, message)
            .with_hint("Add it to `executors` in the agent's policy file if it should."))
    }

    async fn dispatch(&self, run: &mut Run, doc: &JobDoc) -> Result<Value, Failure> {
        let spec = &doc.spec;
        run.step("policy", async {
            if !self.tools.policy.allows(spec.job_type()) {
                let name = spec.job_type().as_str();
                let message = format!("this host does not run jobs of type {name}");
                return Err(Failure::new(Code::PolicyRefused, message));
            }
            self.permit_executor(doc)?;
            if let Some(environment) = spec.environment() {
                permit(&self.tools, environment)?;
            }
            Ok(((), "permitted".to_owned()))
        })
        .await?;
        let by = (doc.executor == Executor::Ansible).then_some(&self.ansible);
        match spec {
            JobSpec::EnvCacheToggle(spec) => {
                document(toggle::run(&self.tools, run, spec, by).await?)
            }
            JobSpec::CachePurge(spec) => document(purge::run(&self.tools, run, spec, by).await?),
            JobSpec::EnvCheck(spec) => document(check::run(&self.tools, run, spec).await?),
            JobSpec::EnvDelete(spec) => document(remove::run(&self.tools, run, spec).await?),
            JobSpec::CacheFacts(spec) => document(facts::run(&self.tools, run, spec).await?),
            JobSpec::CacheExplain(spec) => document(explain::run(&self.tools, run, spec).await?),
            JobSpec::CacheWarm(spec) => match by {
                Some(ansible) => {
                    document(warm_playbook::run(&self.tools, run, spec, ansible).await?)
                }
                None => document(warm::run(&self.tools, run, spec).await?),
            },
            JobSpec::StackSync(spec) => {
                document(Box::pin(stack_sync::run(&self.tools, run, spec)).await?)
            }
            JobSpec::StackPlan(spec) => document(stack_plan::run(&self.tools, run, spec).await?),
            JobSpec::StackDown(spec) => document(stack_down::run(&self.tools, run, spec).await?),
        }
    }
}

/// The job types a playbook exists for.
fn has_playbook(job_type: JobType) -> bool {
    match job_type {
        JobType::EnvCacheToggle | JobType::CachePurge | JobType::CacheWarm => true,
        JobType::EnvCheck
        | JobType::EnvDelete
        | JobType::CacheFacts
        | JobType::CacheExplain
        | JobType::StackSync
        | JobType::StackDown
        | JobType::StackPlan => false,
    }
}

/// Whether every path of an environment lies where this host permits; looks at no file.
fn permit(tools: &Tools, environment: &EnvironmentDoc) -> Result<(), Failure> {
    let nginx = &environment.nginx;
    let mut paths =
        vec![&environment.docroot, &nginx.http_file, &nginx.server_file, &nginx.location_file];
    paths.extend(environment.fastcgi.as_ref().map(|fastcgi| &fastcgi.cache_dir));
    if let Some(redis) = &environment.redis {
        paths.extend(redis.password_file.as_ref());
        paths.extend(redis.switch_file.as_ref());
    }
    for path in paths {
        tools.roots.check(path.as_ref())?;
    }
    // What Hostler writes must never be something a web server or a shell would run.
    let switch = environment.redis.as_ref().and_then(|redis| redis.switch_file.as_ref());
    for (path, ending) in [
        (Some(&nginx.http_file), "conf"),
        (Some(&nginx.server_file), "conf"),
        (Some(&nginx.location_file), "conf"),
        (switch, "json"),
    ] {
        let Some(path) = path else { continue };
        if Path::new(path).extension().is_none_or(|found| found != ending) {
            let message = format!("`{path}` does not end in `.{ending}`");
            return Err(Failure::new(Code::SpecInvalid, message));
        }
    }
    if !environment.health.path.starts_with('/') {
        return Err(Failure::new(Code::SpecInvalid, "the health path does not begin with `/`"));
    }
    tools.origin(environment).map(|_| ())
}

fn document(result: impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(result)
        .map_err(|error| Failure::new(Code::InternalError, error.to_string()))
}

#[cfg(test)]
mod tests {
    use hostler_protocol::job::{AppKind, CheckSpec, RemoveSpec, WarmSpec};

    use super::*;
    use crate::steps::render::tests::environment;

    /// Actions of a host that lets only these carry jobs out.
    fn actions(dir: &Path, executors: &[Executor]) -> Actions {
        let policy = Policy { executors: executors.to_vec(), ..Policy::default() };
        let settings = ActionSettings { state_dir: dir.to_owned(), ..ActionSettings::default() };
        Actions::new(policy, settings, Clock::manual(0))
    }

    #[test]
    fn the_host_says_who_may_carry_jobs_out() {
        let dir = tempfile::tempdir().unwrap();
        let environment = environment(AppKind::Php);
        let check = JobSpec::EnvCheck(CheckSpec { environment: environment.clone() });
        let remove =
            JobSpec::EnvDelete(RemoveSpec { environment: environment.clone(), generation: 1 });
        let warm = JobSpec::CacheWarm(WarmSpec {
            environment,
            urls: Vec::new(),
            wanted_at_us: 0,
            sent_at_us: None,
        });
        let cases = [
            (&warm, Executor::Native, &[Executor::Native][..], None),
            (&warm, Executor::Ansible, &[Executor::Native], Some("POLICY_REFUSED")),
            (&warm, Executor::Native, &[Executor::Ansible], Some("POLICY_REFUSED")),
            (&warm, Executor::Ansible, &[Executor::Ansible], None),
            // There is nobody else to do these.
            (&check, Executor::Native, &[Executor::Ansible], None),
            (&remove, Executor::Ansible, &[Executor::Ansible], Some("MODE_NOT_SUPPORTED")),
        ];
        for (spec, executor, permitted, expected) in cases {
            let doc = JobDoc { executor, probe: false, spec: spec.clone() };
            let told = actions(dir.path(), permitted).permit_executor(&doc);
            assert_eq!(told.err().as_ref().map(Failure::code), expected, "{executor:?}");
        }
    }
}
