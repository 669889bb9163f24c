//! Reading the headers of a whole cache: for its facts, by prefix, by tag.

use std::path::{Path, PathBuf};

use hostler_protocol::job::{CacheSet, EnvironmentDoc, PurgeScope, Selection};

use crate::bench::actions::ActionHost;
use crate::bench::clock::Watch;
use crate::bench::process::cpu_secs;
use crate::bench::report::{Row, Table};
use crate::bench::rivals::grep;
use crate::bench::rivals::header_scan::HeaderScan;
use crate::bench::stats::{Samples, median, time, times};
use crate::bench::{Res, Scale, cache_files};

/// Small pages: one block each, so that a million fit everywhere.
const PAGE_BYTES: usize = 512;
/// What such a page takes on disk with its inode.
const DISK_BYTES_PER_PAGE: u64 = 4_500;
/// Free space no run may eat into.
const FREE_BYTES_MIN: u64 = 6_000_000_000;
/// Pages purged by URL first, each on its own.
const URLS: usize = 50;
const FASTCGI: CacheSet = CacheSet { fastcgi: true, redis: false };

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let sizes: &[usize] = if scale.quick { &[5_000] } else { &[100_000, 1_000_000] };
    let host = ActionHost::start(dir)?;
    let rival = HeaderScan::compile(dir)?;
    let mut table = Table::new("Scans: every header of a cache, pages of 512 B");
    for (number, pages) in sizes.iter().enumerate() {
        let (needed, free) = (*pages as u64 * DISK_BYTES_PER_PAGE, free_bytes(dir)?);
        if free < needed + FREE_BYTES_MIN {
            table.note(format!(
                "{pages} entries are left out: they need {} MB and the disk has {} MB free.",
                needed / 1_000_000,
                free / 1_000_000,
            ));
            continue;
        }
        let site = host.site(&format!("shop{number}")).await?;
        let one = Sized { host: &host, site: &site, rival: &rival, dir, pages: *pages };
        one.measure(&mut table, scale).await?;
    }
    table.note(
        "Both sides read with a warm page cache; the machine's two processors are shared by \
         whatever else runs. The C program reads 512 bytes per file in one thread and checks the \
         version only; Hostler's two threads also check the sum of each key and sum up sizes and \
         ages. `grep -rl` reads whole files. Prefix and tag each match about one page in a hundred.",
    );
    Ok(table)
}

fn free_bytes(dir: &Path) -> Res<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail * found.f_frsize)
}

struct Sized<'a> {
    host: &'a ActionHost,
    site: &'a EnvironmentDoc,
    rival: &'a HeaderScan,
    dir: &'a Path,
    pages: usize,
}

impl Sized<'_> {
    async fn measure(&self, table: &mut Table, scale: Scale) -> Res<()> {
        let cache = self.fill()?;
        self.one_url(table, &cache).await?;
        self.facts(table, &cache, scale).await?;
        self.prefix(table, &cache).await?;
        self.tag(table, &cache).await
    }

    fn fill(&self) -> Res<PathBuf> {
        let cache: PathBuf =
            self.site.fastcgi.as_ref().ok_or("the site has no cache")?.cache_dir.clone().into();
        let aside = self.dir.join("pages");
        cache_files::move_in(&aside, &cache, &self.site.domain, self.pages, PAGE_BYTES)?;
        Ok(cache)
    }

    /// Runs before the others: the counts below are of what it leaves.
    async fn one_url(&self, table: &mut Table, cache: &Path) -> Res<()> {
        let mut took = Vec::new();
        for number in 0..URLS {
            let urls = vec![format!("http://{}{}", self.site.domain, cache_files::uri(number))];
            let (secs, removed) = self.purge(PurgeScope::Urls { urls }).await?;
            if removed != 1 {
                return Err(format!("page {number}: {removed} entries were removed").into());
            }
            took.push(secs);
        }
        let key = cache_files::key(&self.site.domain, &cache_files::uri(URLS));
        let grep_secs = grep::purge_one(cache, &key)?;
        let (took, what) = (Samples::new(took), format!("purge of one URL of {}", self.pages));
        let ratio = grep_secs / took.p50();
        table.row(
            Row::new(what, time(took.p50()))
                .against(format!("`grep -rl`, `xargs rm` {}", time(grep_secs)), times(ratio))
                .aim("≤ 1 ms", took.p50() <= 0.001),
        );
        Ok(())
    }

    async fn facts(&self, table: &mut Table, cache: &Path, scale: Scale) -> Res<()> {
        let runs = if self.pages > 500_000 { 2 } else { scale.pick(5, 2) };
        // The first of each only warms the page cache.
        self.rival.count(cache)?;
        let (mut ours, mut theirs, mut cpu, mut their_cpu) = (vec![], vec![], vec![], vec![]);
        for _ in 0..runs {
            let before = cpu_secs()?;
            let (secs, entries) = self.rival.count(cache)?;
            let between = cpu_secs()?;
            let (_, facts) = self.host.facts(self.site).await?;
            let after = cpu_secs()?;
            if facts.entries != (self.pages - URLS - 1) as u64 || entries != facts.entries {
                return Err(format!("{entries} and {facts:?} of {} pages", self.pages).into());
            }
            theirs.push(secs);
            their_cpu.push(between.1 - before.1);
            #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
            ours.push(facts.took_ms as f64 / 1000.0);
            cpu.push(after.0 - between.0);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let ratio = theirs / ours;
        table.row(
            Row::new(format!("facts of {} entries", self.pages), time(ours))
                .against(format!("C, one thread {}", time(theirs)), times(ratio))
                .aim("≤ half of C's time", ratio >= 2.0),
        );
        let (cpu, their_cpu) = (median(cpu), median(their_cpu));
        table.row(
            Row::new("of which processor time", time(cpu))
                .against(format!("C, one thread {}", time(their_cpu)), times(their_cpu / cpu)),
        );
        Ok(())
    }

    async fn prefix(&self, table: &mut Table, cache: &Path) -> Res<()> {
        let prefix = |year: usize, month: usize| format!("/{year}/{month:02}/");
        let url = format!("http://{}{}", self.site.domain, prefix(2015, 1));
        let scope = PurgeScope::Select(Selection { prefixes: vec![url], ..Selection::default() });
        let (secs, removed) = self.purge(scope).await?;
        let part = format!("GET{}{}", self.site.domain, prefix(2016, 2));
        let (c_secs, c_removed) = self.rival.remove(cache, &part)?;
        let pattern = format!("^KEY: httpGET{}{}", self.site.domain, prefix(2017, 3));
        let grep_secs = grep::purge_matching(cache, &pattern)?;
        if removed == 0 || c_removed == 0 {
            return Err(format!("{removed} and {c_removed} pages were purged by prefix").into());
        }
        let what = format!("purge by prefix, {removed} of {}", self.pages);
        let ratio = grep_secs / secs;
        table.row(
            Row::new(what.clone(), time(secs))
                .against(format!("`grep -rl`, `xargs rm` {}", time(grep_secs)), times(ratio))
                .aim("faster", ratio > 1.0),
        );
        table.row(
            Row::new(what, time(secs))
                .against(format!("C, one thread {}", time(c_secs)), times(c_secs / secs)),
        );
        Ok(())
    }

    async fn tag(&self, table: &mut Table, cache: &Path) -> Res<()> {
        let scope = PurgeScope::Select(Selection {
            tags: vec!["section-7".to_owned()],
            ..Selection::default()
        });
        let (secs, removed) = self.purge(scope).await?;
        let grep_secs = grep::purge_matching(cache, "^Surrogate-Key: .*section-8\\b")?;
        let ratio = grep_secs / secs;
        table.row(
            Row::new(format!("purge by tag, {removed} of {}", self.pages), time(secs))
                .against(format!("`grep -rl`, `xargs rm` {}", time(grep_secs)), times(ratio))
                .aim("faster", ratio > 1.0),
        );
        Ok(())
    }

    async fn purge(&self, scope: PurgeScope) -> Res<(f64, u64)> {
        let watch = Watch::start();
        let (_, result) = self.host.purge(self.site, FASTCGI, scope).await?;
        Ok((watch.secs(), result.fastcgi.map_or(0, |purged| purged.removed)))
    }
}
