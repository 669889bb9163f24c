//! What visitors see while pages are purged under their hands, in each mode.

use std::path::Path;

use hostler_protocol::job::{CacheSet, EnvironmentDoc, PurgeMode, PurgeScope};

use crate::bench::actions::ActionHost;
use crate::bench::crowd::{Crowd, Seen};
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
        let row = row(&seen, &format!("mode `{}`", mode.as_str()));
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
    table.row(row(&by_module(&stock, purges)?, "ngx_cache_purge"));
    table.note(format!(
        "{VISITORS} visitors ask for the pages in turn, without pause, over connections of their \
         own; all pages are purged by URL, in one job, {purges} times. Every answer is counted by \
         what nginx says of it. With the module each page is purged by a request of its own.",
    ));
    Ok(table)
}

fn row(seen: &Seen, what: &str) -> Row {
    let samples = Samples::new(seen.secs.clone());
    let slow = format!("p99 {}, worst {}", time(samples.p99()), time(samples.worst()));
    Row::new(what, seen.told()).against(slow, "")
}

fn uris() -> Vec<String> {
    (0..PAGES).map(|page| format!("/page-{page}/")).collect()
}

fn warm(visitor: &mut Visitor) -> Res<()> {
    for uri in uris() {
        visitor.get(&uri)?;
        let again = visitor.get(&uri)?;
        if again.header("X-Hostler-Cache") != Some("HIT") {
            return Err(format!("{uri} is not cached: {again:?}").into());
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
    let urls: Vec<_> = uris().iter().map(|uri| format!("http://{}{uri}", site.domain)).collect();
    let crowd = Crowd::come(VISITORS, &uris(), || host.visitor(site))?;
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
    let crowd = Crowd::come(VISITORS, &uris(), || stock.visitor())?;
    for _ in 0..purges {
        for uri in uris() {
            stock.purge(&uri)?;
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    crowd.go()
}
