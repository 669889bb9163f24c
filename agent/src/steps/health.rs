//! Whether a site is as well after a change as it was before.
//!
//! The state before is asked first: a site that is down already must not fail a job, and one that
//! answers worse than before must.

use std::time::Duration;

use hostler_protocol::job::Code;

use super::effect;
use super::live::Live;
use super::run::{Failure, Run};
use super::tools::Tools;

/// How long a site is watched after its code changed. PHP looks at a file it has compiled only
/// every `opcache.revalidate_freq` seconds, 2 unless configured: until then the old code answers.
const WATCH_MS: u64 = 2_500;
const POLL: Duration = Duration::from_millis(250);

/// Status of the health page; `None` when nothing answers.
pub async fn before(tools: &Tools, run: &mut Run, live: &Live) -> Option<u16> {
    let asked = run
        .step("health_before", async {
            let status = effect::health(tools, live).await?.status;
            Ok((status, format!("{} answered {status}", live.environment.health.path)))
        })
        .await;
    asked.ok()
}

/// Whether the health page answers as expected, or at least as it did `before`. With `code`
/// changed, it has to for a while.
///
/// # Errors
/// `HEALTH_FAILED`.
pub async fn after(
    tools: &Tools,
    run: &mut Run,
    live: &Live,
    before: Option<u16>,
    code: bool,
) -> Result<(), Failure> {
    let expected = live.environment.health.status;
    let Some(before) = before.filter(|status| *status == expected || *status < 500) else {
        return Ok(());
    };
    let path = &live.environment.health.path;
    let cancel = run.cancel().clone();
    run.step("health_after", async {
        let started_ms = tools.clock.monotonic_ms();
        loop {
            let answer = effect::health(tools, live).await.map_err(|failure| {
                let why = failure.message();
                let message = format!("{path} answered {before} before the change, now: {why}");
                Failure::new(Code::HealthFailed, message)
            })?;
            let status = answer.status;
            if status != expected && status != before {
                let message = format!("{path} answered {before} before the change, {status} now");
                return Err(Failure::new(Code::HealthFailed, message));
            }
            let watched_ms = tools.clock.monotonic_ms().saturating_sub(started_ms);
            if !code || watched_ms >= WATCH_MS || cancel.is_cancelled() {
                return Ok(((), format!("{path} answered {status}")));
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .await
}
