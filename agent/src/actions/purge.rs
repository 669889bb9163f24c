//! `cache_purge`: remove entries from an environment's caches, object cache first, so that pages
//! rendered meanwhile are not made from old objects.

mod playbook;

use std::sync::Arc;

use hostler_protocol::job::{
    Code, FastcgiDoc, FastcgiPurge, PurgeMode, PurgeResult, PurgeScope, PurgeSpec, RedisPurge,
};

use crate::host::ansible::Ansible;
use crate::host::fs::Dir;
use crate::host::redis::Removed;
use crate::steps::keys::KeyFormat;
use crate::steps::live::Live;
use crate::steps::object_cache;
use crate::steps::purge::{self, Matcher, Purge, Purged, Treatment, Wanted};
use crate::steps::run::{Failure, Run};
use crate::steps::state;
use crate::steps::tools::Tools;
use crate::steps::watch::{self, Begun};

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &PurgeSpec,
    by: Option<&Ansible>,
) -> Result<PurgeResult, Failure> {
    if let Some(ansible) = by {
        return playbook::run(tools, run, spec, ansible).await;
    }
    let environment = &spec.environment;
    // Whatever could refuse comes before anything goes.
    let wanted = Wanted::read(&environment.domain, &spec.scope)?;
    let applied = state::load(tools, &environment.id).await?;
    let live = applied.as_ref().and_then(|applied| Live::of(tools, environment, applied));
    let pages = match &environment.fastcgi {
        Some(fastcgi) if spec.caches.fastcgi => {
            let cache = purge::open_cache(tools, fastcgi, applied.as_ref()).await;
            let cache = cache.map_err(|failure| failure.at_step("cache_purge"))?;
            let treatment = purge::decide(tools, live.as_ref(), asked(spec)).await;
            Some(Pages { fastcgi, cache: cache.map(Arc::new), wanted, treatment })
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
    if let Some(pages) = pages {
        result.fastcgi = Some(pages.purge(tools, run, spec, live.as_ref()).await?);
    }
    Ok(result)
}

/// A dry run only counts, for which every mode is the same.
fn asked(spec: &PurgeSpec) -> PurgeMode {
    if spec.dry_run { PurgeMode::Hard } else { spec.mode }
}

/// The page cache's part.
struct Pages<'a> {
    fastcgi: &'a FastcgiDoc,
    /// `None`: there is nothing to purge.
    cache: Option<Arc<Dir>>,
    wanted: Wanted,
    treatment: Treatment,
}

impl Pages<'_> {
    async fn purge(
        self,
        tools: &Tools,
        run: &mut Run,
        spec: &PurgeSpec,
        live: Option<&Live>,
    ) -> Result<FastcgiPurge, Failure> {
        let format = KeyFormat::parse(&self.fastcgi.key_format)?;
        let matcher = Matcher::new(&self.wanted, &spec.environment.domain, format);
        let (bin, cancel) = (purge::bin_name(tools, run), run.cancel().clone());
        let mut tell = run.teller("cache_purge");
        run.step("cache_purge", async {
            let Some(cache) = self.cache else {
                let nothing = FastcgiPurge { mode: spec.mode, ..self.wanted.nothing() };
                return Ok((nothing, "there is no cache to purge".to_owned()));
            };
            let glance = watch::glance(tools).await;
            let purge = Purge {
                tools,
                cache,
                live,
                wanted: &self.wanted,
                matcher: Arc::new(matcher),
                treatment: &self.treatment,
                dry_run: spec.dry_run,
                cancel,
            };
            let told = |pages| tell(format!("{pages} pages made anew"));
            let ready = watch::begin(glance);
            let (mut purged, begun) = Box::pin(purge.run(bin, ready, told)).await?;
            purged.result.mode = spec.mode;
            if !spec.dry_run {
                let mode = self.treatment.mode;
                purged.result.watched_secs = watch(tools, spec, mode, begun, &purged).await?;
            }
            let message = told_of(&purged.result, spec.dry_run);
            Ok((purged.result, message))
        })
        .await
    }
}

/// Has what was being rendered meanwhile purged again; for how many seconds.
async fn watch(
    tools: &Tools,
    spec: &PurgeSpec,
    mode: PurgeMode,
    begun: Begun,
    purged: &Purged,
) -> Result<u32, Failure> {
    let (id, varies) = (&spec.environment.id, purged.varies);
    let mut watched_secs = 0;
    if !purged.gone.is_empty() {
        // Of a page that is no longer there nothing may come back, not even stale.
        let scope = PurgeScope::Urls { urls: purged.gone.clone() };
        let gone = watch::Purged { mode: PurgeMode::Hard, scope, inodes: Vec::new(), varies };
        watched_secs = watch::remember(tools, id, begun.clone(), gone).await?;
    }
    let (scope, inodes) = (spec.scope.clone(), purged.inodes.clone());
    let rest = watch::Purged { mode, scope, inodes, varies };
    Ok(watch::remember(tools, id, begun, rest).await?.max(watched_secs))
}

fn told_of(purged: &FastcgiPurge, dry_run: bool) -> String {
    let more = if purged.counted { "" } else { "more than " };
    if dry_run {
        let FastcgiPurge { found, bytes, .. } = purged;
        return format!("{more}{found} entries ({bytes} bytes) would be purged");
    }
    let parts = [
        (purged.removed, "removed"),
        (purged.softened, "made stale"),
        (purged.refreshed, "made anew"),
        (purged.failed, "left as they were"),
    ];
    let told = parts.iter().enumerate().filter(|(place, (count, _))| *place == 0 || *count > 0);
    let told: Vec<_> = told.map(|(_, (count, what))| format!("{count} {what}")).collect();
    let note = purged.mode_note.as_ref().map_or_else(String::new, |note| format!("; {note}"));
    format!("{more}{} of {} entries ({} bytes){note}", told.join(", "), purged.found, purged.bytes)
}

fn absent(what: &str) -> Failure {
    Failure::new(Code::SpecInvalid, format!("the environment has no {what} to purge"))
}
