//! What a claimed job is told to do: resolved when it is claimed, never when it was asked for.

use super::decide::purge::purge_ask;
use super::decide::warm::warm_ask;
use super::{Environment, Job, Micros, Template};
use hostler_protocol::job::{
    CheckSpec, Code, ExplainSpec, FactsSpec, JobDoc, JobError, JobSpec, JobType, PurgeSpec,
    RemoveSpec, ToggleSpec, WarmSpec,
};

/// What a claimed job is told to do, and who does it.
///
/// # Errors
/// `SPEC_INVALID` when the job has no environment or its request cannot be read.
#[expect(clippy::result_large_err, reason = "rare, and kept as it is")]
pub fn resolve(
    job: &Job,
    environment: Option<&Environment>,
    template: &Template,
    generation: u64,
    now: Micros,
) -> Result<JobDoc, JobError> {
    let spec = specification(job, environment, generation, now)?;
    Ok(JobDoc { executor: template.executor_for(job.executor), spec })
}

/// A toggle takes the flags as they are desired now.
#[expect(clippy::result_large_err, reason = "rare, and kept as it is")]
fn specification(
    job: &Job,
    environment: Option<&Environment>,
    generation: u64,
    now: Micros,
) -> Result<JobSpec, JobError> {
    let invalid = |message: String| JobError::new(Code::SpecInvalid, message);
    let environment = environment
        .ok_or_else(|| invalid("the job's environment is no longer known".to_owned()))?;
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
    })
}
