//! What a claimed job is told to do: resolved when it is claimed, never when it was asked for.

use super::decide::purge::purge_ask;
use super::decide::warm::warm_ask;
use super::template::OnInterrupt;
use super::{Environment, Job, Micros, Template};
use hostler_protocol::job::{
    CheckSpec, Code, ExplainSpec, FactsSpec, JobDoc, JobError, JobSpec, JobType, PurgeSpec,
    RemoveSpec, StackDownSpec, StackPlanSpec, StackSyncSpec, ToggleSpec, WarmSpec,
};

/// What a claimed job is told to do, and who does it.
///
/// # Errors
/// `SPEC_INVALID` when the job has no environment, `UNDECODABLE` when its request cannot be read.
#[expect(clippy::result_large_err, reason = "rare, and kept as it is")]
pub fn resolve(
    job: &Job,
    environment: Option<&Environment>,
    template: &Template,
    generation: u64,
    now: Micros,
) -> Result<JobDoc, JobError> {
    let spec = specification(job, environment, generation, now)?;
    let probe = template.on_interrupt == OnInterrupt::Probe;
    Ok(JobDoc { executor: template.executor_for(job.executor), probe, spec })
}

/// A toggle takes the flags as they are desired now.
#[expect(clippy::result_large_err, reason = "rare, and kept as it is")]
fn specification(
    job: &Job,
    environment: Option<&Environment>,
    generation: u64,
    now: Micros,
) -> Result<JobSpec, JobError> {
    let invalid = |message: String| JobError::new(Code::Undecodable, message);
    if !job.request.is_object() {
        return Err(invalid("what was asked for cannot be read".to_owned()));
    }
    if let Some(spec) = of_stack(job) {
        return spec.map_err(|_| invalid("what was asked of the stack cannot be read".to_owned()));
    }
    let gone = "the job's environment is no longer known";
    let environment = environment.ok_or_else(|| JobError::new(Code::SpecInvalid, gone))?;
    let doc = environment.doc.clone();
    Ok(match job.job_type {
        JobType::EnvCacheToggle => JobSpec::EnvCacheToggle(ToggleSpec {
            environment: doc,
            fastcgi_enabled: environment.fastcgi.as_ref().map(|flag| flag.desired),
            redis_enabled: environment.redis.as_ref().map(|flag| flag.desired),
            generation,
        }),
        JobType::CachePurge => {
            let asked = purge_ask(&job.request)
                .ok_or_else(|| invalid("the purge's request cannot be read".to_owned()))?;
            JobSpec::CachePurge(PurgeSpec {
                environment: doc,
                caches: asked.caches,
                scope: asked.scope,
                mode: asked.mode,
                dry_run: asked.dry_run,
            })
        }
        JobType::EnvCheck => JobSpec::EnvCheck(CheckSpec { environment: doc }),
        JobType::EnvDelete => JobSpec::EnvDelete(RemoveSpec { environment: doc, generation }),
        JobType::CacheWarm => {
            let (urls, wanted_at_us) = warm_ask(&job.request)
                .ok_or_else(|| invalid("the warm-up's request cannot be read".to_owned()))?;
            JobSpec::CacheWarm(WarmSpec {
                environment: doc,
                urls,
                wanted_at_us: wanted_at_us.unwrap_or(job.created_at.0),
                sent_at_us: Some(now.0),
            })
        }
        JobType::CacheFacts => JobSpec::CacheFacts(FactsSpec { environment: doc }),
        JobType::CacheExplain => JobSpec::CacheExplain(ExplainSpec {
            environment: doc,
            url: job
                .request
                .get("url")
                .and_then(serde_json::Value::as_str)
                .ok_or_else(|| invalid("the request to explain cannot be read".to_owned()))?
                .to_owned(),
        }),
        // Told above.
        JobType::StackSync | JobType::StackDown | JobType::StackPlan => {
            return Err(invalid("a stack has no environment".to_owned()));
        }
    })
}

/// A job about a stack names in its request all there is to know: what it was queued for is what it
/// does, and anything newer is another job.
fn of_stack(job: &Job) -> Option<Result<JobSpec, serde_json::Error>> {
    use serde::Deserialize as _;
    let part = |name: &str| job.request.get(name).unwrap_or(&serde_json::Value::Null);
    match job.job_type {
        JobType::StackSync => {
            Some(StackSyncSpec::deserialize(part("spec")).map(Box::new).map(JobSpec::StackSync))
        }
        JobType::StackPlan => {
            Some(StackPlanSpec::deserialize(part("spec")).map(Box::new).map(JobSpec::StackPlan))
        }
        JobType::StackDown => {
            Some(StackDownSpec::deserialize(part("down")).map(JobSpec::StackDown))
        }
        JobType::EnvCacheToggle
        | JobType::CachePurge
        | JobType::EnvCheck
        | JobType::EnvDelete
        | JobType::CacheWarm
        | JobType::CacheFacts
        | JobType::CacheExplain => None,
    }
}
