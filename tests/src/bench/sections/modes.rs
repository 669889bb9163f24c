//! What visitors see while pages are purged under their hands, in each mode.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hostler_protocol::job::{CacheSet, EnvironmentDoc, PurgeMode, PurgeScope};

use crate::bench::actions::ActionHost;
use crate::bench::clock::Watch;
use crate::bench::http::Visitor;
use crate::bench::report::{Row, Table};
use crate::bench::rivals::stock::Stock;
use crate::bench::stats::{Samples, time};
use crate::bench::{Res, Scale};

const FASTCGI: CacheSet = CacheSet { fastcgi: true, redis: false };
const PAGES: usize = 10;
const VISITORS: usize = 2;
/// A page that takes PHP some time.
const PAGE: &str =
    "<?php usleep(30000); echo $_SERVER['REQUEST_URI'], ' made at ', hrtime(true);\n";

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let purges = scale.pick(20, 4);
    let host = ActionHost::start_with(dir, "", 4)?;
    let site = host.site_of("shop", PAGE).await?;
    let mut table =
        Table::new(format!("Visitors during {purges} purges of {PAGES} pages that take PHP 30 ms"));
    for mode in [PurgeMode::Hard, PurgeMode::Soft, PurgeMode::Refresh] {
        let seen = ours(&host, &site, mode, purges).await?;
        let row = seen.row(&format!("mode `{}`", mode.as_str()));
        let waited = seen.count("MISS") + seen.count("EXPIRED");
        table.row(match mode {
            PurgeMode::Refresh => row.aim("0 misses", waited == 0),
            PurgeMode::Soft => row.aim("0 misses", waited == 0),
            PurgeMode::Hard => row,
        });
    }
    let (socket, sites) = host.php();
    let script = sites.join("shop/public/index.php");
    let stock = Stock::start(&dir.join("stock"), socket, &script, "stock.test")?;
    table.row(by_module(&stock, purges)?.row("ngx_cache_purge"));
    table.note(format!(
        "{VISITORS} visitors ask for the pages in turn, without pause, over connections of their \
         own; all pages are purged by URL, in one job, {purges} times. Every answer is counted by \
         what nginx says of it. With the module each page is purged by a request of its own.",
    ));
    Ok(table)
}

/// Answers by what nginx said of them.
#[derive(Debug, Default)]
struct Seen {
    counts: BTreeMap<String, usize>,
    secs: Vec<f64>,
}

impl Seen {
    fn count(&self, status: &str) -> usize {
        self.counts.get(status).copied().unwrap_or(0)
    }

    fn row(&self, what: &str) -> Row {
        let told: Vec<_> =
            self.counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let samples = Samples::new(self.secs.clone());
        let slow = format!("p99 {}, worst {}", time(samples.p99()), time(samples.worst()));
        Row::new(what, told.join(", ")).against(slow, "")
    }
}

fn uri(page: usize) -> String {
    format!("/page-{page}/")
}

/// Visitors who ask until they are told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Res<Seen>>>,
}

impl Crowd {
    fn come(visitor: impl Fn() -> Res<Visitor>) -> Res<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for first in 0..VISITORS {
            let (mut visitor, stop) = (visitor()?, stop.clone());
            threads.push(std::thread::spawn(move || {
                let (mut seen, mut page) = (Seen::default(), first);
                while !stop.load(Ordering::Relaxed) {
                    let watch = Watch::start();
                    let answer = visitor.get(&uri(page % PAGES))?;
                    seen.secs.push(watch.secs());
                    let status = answer.header("X-Hostler-Cache").unwrap_or("none");
                    *seen.counts.entry(status.to_owned()).or_default() += 1;
                    page += 1;
                }
                Ok(seen)
            }));
        }
        Ok(Self { stop, threads })
    }

    fn go(self) -> Res<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for thread in self.threads {
            let seen = thread.join().map_err(|_| "a visitor panicked")??;
            for (status, count) in seen.counts {
                *all.counts.entry(status).or_default() += count;
            }
            all.secs.extend(seen.secs);
        }
        Ok(all)
    }
}

fn warm(visitor: &mut Visitor) -> Res<()> {
    for page in 0..PAGES {
        visitor.get(&uri(page))?;
        let again = visitor.get(&uri(page))?;
        if again.header("X-Hostler-Cache") != Some("HIT") {
            return Err(format!("{} is not cached: {again:?}", uri(page)).into());
        }
    }
    Ok(())
}

async fn ours(
    host: &ActionHost,
    site: &EnvironmentDoc,
    mode: PurgeMode,
    purges: usize,
) -> Res<Seen> {
    host.purge(site, FASTCGI, PurgeScope::All).await?;
    warm(&mut host.visitor(site)?)?;
    let urls: Vec<_> =
        (0..PAGES).map(|page| format!("http://{}{}", site.domain, uri(page))).collect();
    let crowd = Crowd::come(|| host.visitor(site))?;
    for _ in 0..purges {
        let scope = PurgeScope::Urls { urls: urls.clone() };
        let (_, result) = host.purge_in(mode, site, FASTCGI, scope).await?;
        let purged = result.fastcgi.ok_or("a purge without a result")?;
        if let Some(note) = purged.mode_note {
            return Err(format!("{}: {note}", mode.as_str()).into());
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    crowd.go()
}

fn by_module(stock: &Stock, purges: usize) -> Res<Seen> {
    warm(&mut stock.visitor()?)?;
    let crowd = Crowd::come(|| stock.visitor())?;
    for _ in 0..purges {
        for page in 0..PAGES {
            stock.purge(&uri(page))?;
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    crowd.go()
}
