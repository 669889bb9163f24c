//! What a claimed job is told to do: resolved when it is claimed, never when it was asked for.

use super::decide::cache::{purge_ask, urls_asked};
use super::{Environment, Job};
use hostler_protocol::job::{
    CheckSpec, Code, ExplainSpec, FactsSpec, JobError, JobSpec, JobType, PurgeSpec, RemoveSpec,
    ToggleSpec, WarmSpec,
};

/// The specification of a claimed job. A toggle takes the flags as they are desired now.
///
/// # Errors
/// `SPEC_INVALID` when the job has no environment or its request cannot be read.
#[expect(clippy::result_large_err, reason = "rare, and kept as it is")]
pub fn resolve(
    job: &Job,
    environment: Option<&Environment>,
    generation: u64,
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
        JobType::CacheWarm => JobSpec::CacheWarm(WarmSpec {
            environment: doc,
            urls: urls_asked(&job.request)
                .ok_or_else(|| invalid("the warm-up's request cannot be read".to_owned()))?,
            wanted_at_us: job.created_at.0,
        }),
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
