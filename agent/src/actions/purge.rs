//! `cache_purge`: remove entries from an environment's caches, object cache first, so that pages
//! rendered meanwhile are not made from old objects.

use hostler_protocol::job::{
    Code, FastcgiPurge, PurgeMode, PurgeResult, PurgeScope, PurgeSpec, RedisPurge,
};

use crate::host::redis::Removed;
use crate::steps::effect::Live;
use crate::steps::object_cache;
use crate::steps::purge;
use crate::steps::run::{Failure, Run};
use crate::steps::state;
use crate::steps::tools::Tools;

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &PurgeSpec,
) -> Result<PurgeResult, Failure> {
    let environment = &spec.environment;
    // Whatever could refuse comes before anything goes.
    let pages = match &spec.scope {
        PurgeScope::All => Vec::new(),
        PurgeScope::Urls { urls } => purge::pages(&environment.domain, urls)?,
        PurgeScope::Select(_) => return Err(unsupported()),
    };
    if spec.mode != PurgeMode::Hard {
        return Err(unsupported());
    }
    let applied = state::load(tools, &environment.id).await?;
    let cache = match &environment.fastcgi {
        Some(fastcgi) if spec.caches.fastcgi => {
            let cache = purge::open_cache(tools, fastcgi, applied.as_ref()).await;
            Some((fastcgi, cache.map_err(|failure| failure.at_step("cache_purge"))?))
        }
        None if spec.caches.fastcgi && !spec.caches.redis => return Err(absent("FastCGI cache")),
        Some(_) | None => None,
    };
    let mut result = PurgeResult { dry_run: spec.dry_run, fastcgi: None, redis: None };
    match &environment.redis {
        Some(doc) if spec.caches.redis => {
            let removed = object_cache::purge(tools, run, doc, spec.dry_run).await?;
            let Removed { found, removed, bytes } = removed;
            result.redis = Some(RedisPurge { found, removed, bytes });
        }
        None if spec.caches.redis && !spec.caches.fastcgi => return Err(absent("Redis")),
        Some(_) | None => {}
    }
    if let Some((fastcgi, cache)) = cache {
        let live = applied.as_ref().and_then(|applied| {
            let nginx = applied.nginx.as_ref()?;
            Some(Live::new(environment, tools.origin(environment).ok()?, nginx))
        });
        let (bin, cancel) = (purge::bin_name(tools, run), run.cancel().clone());
        let purged = run
            .step("cache_purge", async {
                let purged = match &spec.scope {
                    PurgeScope::All => purge::all(tools, bin, cancel, cache, spec.dry_run).await?,
                    PurgeScope::Urls { urls } => {
                        let live = live.as_ref();
                        purge::urls(fastcgi, cancel, cache, live, urls, &pages, spec.dry_run)
                            .await?
                    }
                    PurgeScope::Select(_) => return Err(unsupported()),
                };
                let message = told(&purged, spec.dry_run);
                Ok((purged, message))
            })
            .await?;
        result.fastcgi = Some(purged);
    }
    Ok(result)
}

fn told(purged: &FastcgiPurge, dry_run: bool) -> String {
    let more = if purged.counted { "" } else { "more than " };
    let verb = if dry_run { "would be removed" } else { "removed" };
    let found = if dry_run { purged.found } else { purged.removed };
    format!("{more}{found} entries ({} bytes) {verb}", purged.bytes)
}

fn unsupported() -> Failure {
    Failure::new(Code::ModeNotSupported, "this agent cannot do that yet")
}

fn absent(what: &str) -> Failure {
    Failure::new(Code::SpecInvalid, format!("the environment has no {what} to purge"))
}
