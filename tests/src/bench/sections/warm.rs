//! Warming many pages, and what a visitor who needs PHP feels of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hostler_protocol::job::{CacheSet, EnvironmentDoc, PurgeScope};

use crate::bench::actions::ActionHost;
use crate::bench::clock::Watch;
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, time, times};
use crate::bench::{Res, Scale};

const PHP_WORKERS: u32 = 6;
/// Connections of a crawler that asks as fast as it can.
const CRAWLER_CONNECTIONS: usize = 16;
/// What visitors feel when nothing else happens is looked at for so long.
const CALM: Duration = Duration::from_secs(3);
/// A page takes PHP 20 ms; the cart is nobody else's and never stored.
const PAGE: &str = "<?php usleep(20000);\n\
    if (str_contains($_SERVER['REQUEST_URI'], 'cart')) header('Cache-Control: no-store');\n\
    echo $_SERVER['REQUEST_URI'], ' made at ', hrtime(true);\n";

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let pages = scale.pick(1_000, 50);
    let host = ActionHost::start_with(dir, "", PHP_WORKERS)?;
    let site = host.site_of("shop", PAGE).await?;
    let uris: Vec<String> = (0..pages).map(|page| format!("/page-{page}/")).collect();
    let urls = uris.iter().map(|uri| format!("http://{}{uri}", site.domain)).collect();

    let calm = Buyer::come(&host, &site)?;
    tokio::time::sleep(CALM).await;
    let calm = calm.go()?;

    let buyer = Buyer::come(&host, &site)?;
    let (warm_secs, warmed) = host.warm(&site, urls).await?;
    let beside_ours = buyer.go()?;
    if warmed.warmed != pages as u64 {
        return Err(format!("{} of {pages} pages were warmed", warmed.warmed).into());
    }
    let everything = CacheSet { fastcgi: true, redis: false };
    host.purge(&site, everything, PurgeScope::All).await?;

    let buyer = Buyer::come(&host, &site)?;
    let crawl_secs = crawl(&host, &site, uris)?;
    let beside_crawler = buyer.go()?;

    let mut table = Table::new(format!("Warming {pages} pages that take PHP 20 ms"));
    let ratio = beside_crawler.quantile(0.95) / beside_ours.quantile(0.95);
    let slower = beside_ours.quantile(0.95) / calm.quantile(0.95);
    table.row(
        Row::new("a visitor's request to PHP meanwhile, p95", felt(&beside_ours))
            .against(format!("crawler {}", felt(&beside_crawler)), times(ratio))
            .aim("≤ 1.5 × the calm", slower <= 1.5),
    );
    table.row(
        Row::new("the warm-up itself", time(warm_secs))
            .against(format!("crawler {}", time(crawl_secs)), times(crawl_secs / warm_secs)),
    );
    table.note(format!(
        "The pool has {PHP_WORKERS} workers; the warm-up asked for {} pages at once at most, as \
         many as leave the pool idle workers, the crawler for {CRAWLER_CONNECTIONS}. The visitor \
         asks again and again for a page that is never stored; with nobody warming that takes {}.",
        warmed.concurrency,
        felt(&calm),
    ));
    Ok(table)
}

fn felt(samples: &Samples) -> String {
    format!("{} (worst {})", time(samples.quantile(0.95)), time(samples.worst()))
}

/// A visitor whose every request has to be answered by PHP.
struct Buyer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Res<Vec<f64>>>,
}

impl Buyer {
    fn come(host: &ActionHost, site: &EnvironmentDoc) -> Res<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut visitor, over) = (host.visitor(site)?, stop.clone());
        let thread = std::thread::spawn(move || {
            let mut secs = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let watch = Watch::start();
                visitor.get("/cart/")?;
                secs.push(watch.secs());
            }
            Ok(secs)
        });
        Ok(Self { stop, thread })
    }

    fn go(self) -> Res<Samples> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(Samples::new(self.thread.join().map_err(|_| "the visitor panicked")??))
    }
}

/// Asks for every page as fast as the server lets it.
fn crawl(host: &ActionHost, site: &EnvironmentDoc, uris: Vec<String>) -> Res<f64> {
    let (uris, next) = (Arc::new(uris), Arc::new(AtomicUsize::new(0)));
    let watch = Watch::start();
    let mut threads = Vec::new();
    for _ in 0..CRAWLER_CONNECTIONS {
        let (mut visitor, uris, next) = (host.visitor(site)?, uris.clone(), next.clone());
        threads.push(std::thread::spawn(move || -> Res<()> {
            while let Some(uri) = uris.get(next.fetch_add(1, Ordering::Relaxed)) {
                visitor.get(uri)?;
            }
            Ok(())
        }));
    }
    for thread in threads {
        thread.join().map_err(|_| "a crawler panicked")??;
    }
    Ok(watch.secs())
}
