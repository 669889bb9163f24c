//! `cache_warm`: fetch pages past the cache and store them, over what is there.

use std::sync::Arc;

use hostler_protocol::job::{Code, WARM_URLS_MAX, WarmResult, WarmSpec};

use crate::steps::purge;
use crate::steps::run::{Failure, Run};
use crate::steps::state;
use crate::steps::tools::Tools;
use crate::steps::warm::{self, Warming};

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &WarmSpec,
) -> Result<WarmResult, Failure> {
    let environment = &spec.environment;
    // By the clock as it was when the job was handed over.
    let wanted_sec = warm::wanted_sec(spec, tools.clock.now_us());
    let Some(fastcgi) = &environment.fastcgi else {
        let message = "the environment has no FastCGI cache to warm";
        return Err(Failure::new(Code::SpecInvalid, message));
    };
    let pages = purge::pages(&environment.domain, &spec.urls, WARM_URLS_MAX)?;
    let applied = state::load(tools, &environment.id).await?;
    let live = warm::live(tools, environment, applied.as_ref())?;
    let cancel = run.cancel().clone();
    let tell = run.teller("cache_warm");
    run.step("cache_warm", async {
        let Some(cache) = purge::open_cache(tools, fastcgi, applied.as_ref()).await? else {
            let message = format!("{} does not exist", fastcgi.cache_dir);
            return Err(Failure::new(Code::CacheDirMissing, message));
        };
        let cache = Arc::new(cache);
        let warming = Warming { tools, live: &live, cache: &cache, wanted_sec, cancel: &cancel };
        let warmed = Box::pin(warming.run(&spec.urls, &pages, tell)).await?;
        let message = told(&warmed);
        Ok((warmed, message))
    })
    .await
}

fn told(warmed: &WarmResult) -> String {
    let mut told = format!("{} pages warmed, {} were warm", warmed.warmed, warmed.fresh);
    for (count, what) in [
        (warmed.not_stored, "are not stored"),
        (warmed.failed, "failed"),
        (warmed.dropped, "were not asked for"),
    ] {
        if count > 0 {
            told.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(why) = &warmed.dropped_because {
        told.push_str(&format!(": {why}"));
    }
    told
}
