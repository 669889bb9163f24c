//! One URL of many cached pages, and all of them, while visitors look on.

use std::path::{Path, PathBuf};

use hostler_agent::host::fastcgi;
use hostler_agent::host::fs::Roots;
use hostler_protocol::job::{CacheSet, CacheStatus, EnvironmentDoc, PurgeScope};

use crate::bench::actions::ActionHost;
use crate::bench::clock::Watch;
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, median, time, times};
use crate::bench::{Res, Scale, cache_files, rivals};

const PAGE_BYTES: usize = 8 * 1024;
const FASTCGI: CacheSet = CacheSet { fastcgi: true, redis: false };
/// Header that says what nginx answered from.
const STATUS: &str = "X-Hostler-Cache";

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let pages = scale.pick(100_000, 2_000);
    let host = ActionHost::start(dir)?;
    let site = host.site("shop").await?;
    let neighbour = host.site("neighbour").await?;
    let cache = cache_dir(&site)?;
    let mut table = Table::new(format!("Purge among {pages} cached pages of 8 KiB"));
    fill(dir, &cache, &site, pages)?;
    one_url(&mut table, &host, &site, &cache, dir, scale).await?;
    all(&mut table, &host, (&site, &neighbour), dir, pages, scale).await?;
    Ok(table)
}

fn cache_dir(site: &EnvironmentDoc) -> Res<PathBuf> {
    Ok(site.fastcgi.as_ref().ok_or("the site has no cache")?.cache_dir.clone().into())
}

fn fill(dir: &Path, cache: &Path, site: &EnvironmentDoc, pages: usize) -> Res<()> {
    cache_files::move_in(&dir.join("pages"), cache, &site.domain, pages, PAGE_BYTES)
}

async fn one_url(
    table: &mut Table,
    host: &ActionHost,
    site: &EnvironmentDoc,
    cache: &Path,
    dir: &Path,
    scale: Scale,
) -> Res<()> {
    let key = |number| cache_files::key(&site.domain, &cache_files::uri(number));
    let count = scale.pick(200, 50);

    let mut whole = Vec::new();
    for number in 0..count {
        let urls = vec![format!("http://{}{}", site.domain, cache_files::uri(number))];
        let (secs, result) = host.purge(site, FASTCGI, PurgeScope::Urls { urls }).await?;
        let purged = result.fastcgi.ok_or("a purge without a result")?;
        let proof = purged.urls.first().map(|url| (url.removed, url.before, url.after));
        if proof != Some((1, Some(CacheStatus::Hit), Some(CacheStatus::Miss))) {
            return Err(format!("page {number} was not purged from HIT to MISS: {proof:?}").into());
        }
        whole.push(secs);
    }
    let whole = Samples::new(whole);

    let mut bare = Vec::new();
    let opened = Roots::new(&[cache.to_owned()]).dir(cache)?;
    for number in count..2 * count {
        let key = key(number);
        let watch = Watch::start();
        let removed = match fastcgi::find(&opened, key.as_bytes())? {
            Some(entry) => entry.remove()?.removed,
            None => 0,
        };
        bare.push(watch.secs());
        if removed != 1 {
            return Err(format!("page {number} was not there").into());
        }
    }
    let bare = Samples::new(bare);

    let greps = (0..scale.pick(5, 3)).map(|n| rivals::grep::purge_one(cache, &key(2 * count + n)));
    let grep = median(greps.collect::<Res<_>>()?);
    let module_dir = dir.join("module");
    let module = rivals::purge_module::PurgeModule::start(&module_dir, cache, &site.domain)?;
    let mut visitor = module.visitor()?;
    let purges = (3 * count..4 * count)
        .map(|number| module.purge_one(&mut visitor, &cache_files::uri(number)));
    let module = Samples::new(purges.collect::<Res<_>>()?);

    let ours =
        |samples: &Samples| format!("p50 {}, p99 {}", time(samples.p50()), time(samples.p99()));
    let ratio = grep / bare.p50();
    table.row(
        Row::new("one URL, the removal alone", ours(&bare))
            .against(format!("`grep -rl KEY`, `xargs rm` {}", time(grep)), times(ratio))
            .aim("≥ 1,000 × faster", ratio >= 1_000.0),
    );
    let ratio = grep / whole.p50();
    table.row(
        Row::new("one URL, the whole action with both proofs", ours(&whole))
            .against(format!("`grep -rl KEY`, `xargs rm` {}", time(grep)), times(ratio))
            .aim("≥ 1,000 × faster", ratio >= 1_000.0),
    );
    for (what, samples) in [("the removal alone", &bare), ("the whole action", &whole)] {
        let against = format!("ngx_cache_purge over HTTP p50 {}", time(module.p50()));
        let row = Row::new(format!("one URL, {what}"), ours(samples));
        table.row(row.against(against, times(module.p50() / samples.p50())));
    }
    table.note(
        "The whole action asks nginx before (HIT) and after (MISS) and opens the cache directory \
         without following links; neither grep nor the module proves anything. grep runs with a \
         warm page cache.",
    );
    Ok(())
}

async fn all(
    table: &mut Table,
    host: &ActionHost,
    (site, neighbour): (&EnvironmentDoc, &EnvironmentDoc),
    dir: &Path,
    pages: usize,
    scale: Scale,
) -> Res<()> {
    let cache = cache_dir(site)?;
    let (mut seen, mut took, mut removed) = (Vec::new(), Vec::new(), 0);
    for round in 0..scale.pick(3, 2) {
        if round > 0 {
            fill(dir, &cache, site, pages)?;
        }
        let (shown, job_secs, count) =
            purge_all_once(host, (site, neighbour), cache_files::uri(pages - 1 - round)).await?;
        seen.push(shown);
        took.push(job_secs);
        removed = count;
    }
    let worst = Samples::new(seen.clone()).worst();
    table.row(
        Row::new(
            format!("all {removed}, until visitors see the new state"),
            format!("{}, worst {}", time(median(seen)), time(worst)),
        )
        .aim("≤ 50 ms", worst <= 0.050),
    );
    table.row(Row::new("all, until everything is counted and reported", time(median(took))));
    table.note(
        "After each purge of all, every one of the neighbour's pages was still answered HIT with \
         the very bytes it had before.",
    );
    Ok(())
}

/// Purges everything of `site` while a visitor asks for `page` again and again. Seconds
/// from the start of the action until the first answer with the new state, seconds until its end,
/// entries removed.
async fn purge_all_once(
    host: &ActionHost,
    (site, neighbour): (&EnvironmentDoc, &EnvironmentDoc),
    page: String,
) -> Res<(f64, f64, u64)> {
    let mut neighbours = host.visitor(neighbour)?;
    let pages: Vec<String> = (0..50).map(cache_files::uri).collect();
    let mut before = Vec::new();
    for page in &pages {
        neighbours.get(page)?;
        before.push(neighbours.get(page)?.body);
    }
    let mut visitor = host.visitor(site)?;
    let first = visitor.get(&page)?;
    if first.header(STATUS) != Some("HIT") {
        let (was, log) = (first.header(STATUS), host.error_log());
        return Err(format!("{page} was {was:?} before the purge; nginx says: {log}").into());
    }
    let watch = Watch::start();
    let looking = std::thread::spawn(move || -> Res<f64> {
        while watch.elapsed().as_secs() < 30 {
            let answer = visitor.get(&page)?;
            if answer.header(STATUS) != Some("HIT") {
                return Ok(watch.secs());
            }
        }
        Err("no visitor saw the purge".into())
    });
    let (job_secs, result) = host.purge(site, FASTCGI, PurgeScope::All).await?;
    let seen = looking.join().map_err(|_| "the visitor panicked")??;
    for (page, before) in pages.iter().zip(before) {
        let answer = neighbours.get(page)?;
        if answer.header(STATUS) != Some("HIT") || answer.body != before {
            return Err(format!("the neighbour's {page} was touched").into());
        }
    }
    let removed = result.fastcgi.map_or(0, |purged| purged.removed);
    Ok((seen, job_secs, removed))
}
