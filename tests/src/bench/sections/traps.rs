//! Four ways an old page is served after its purge, with Hostler and with nginx as it is set up by
//! hand: `Vary`, a page under way, a page that went away, an open file cache.

use std::path::Path;
use std::time::Duration;

use hostler_protocol::job::{CacheSet, EnvironmentDoc, PurgeMode, PurgeScope};

use crate::bench::actions::ActionHost;
use crate::bench::http::Visitor;
use crate::bench::report::{Row, Table};
use crate::bench::rivals::stock::Stock;
use crate::bench::stats::time;
use crate::bench::{Res, clock::Watch};
use crate::servers::write;

const FASTCGI: CacheSet = CacheSet { fastcgi: true, redis: false };
/// The page says what was current when PHP began; the slow one takes a second.
const PAGE: &str = "<?php $content = file_get_contents(__DIR__ . '/../content');\n\
    $uri = $_SERVER['REQUEST_URI'];\n\
    if (str_contains($uri, 'slow')) usleep(1000000);\n\
    if (str_contains($uri, 'vary')) header('Vary: X-Variant');\n\
    if (str_contains($uri, 'gone') && $content === 'new') {\n\
        http_response_code(404); header('Cache-Control: no-cache'); }\n\
    echo $content;\n";
const OPEN_FILES: &str = "open_file_cache max=1000 inactive=60s; open_file_cache_valid 30s; \
    open_file_cache_min_uses 1;";
/// How long visitors look on.
const LOOKING: Duration = Duration::from_secs(5);
const REQUESTS: usize = 20;

pub(super) async fn measure(dir: &Path) -> Res<Table> {
    let host = ActionHost::start_with(dir, OPEN_FILES, 4)?;
    let site = host.site_of("shop", PAGE).await?;
    let (socket, sites) = host.php();
    let script = sites.join("shop/public/index.php");
    let content = sites.join("shop/content");
    write(&content, "old")?;
    let stock = Stock::start(&dir.join("stock"), socket, &script, "stock.test")?;
    let both = Both { host: &host, site: &site, stock: &stock, content: &content };
    let mut table = Table::new("Old pages after a purge");
    both.variants(&mut table).await?;
    both.under_way(&mut table).await?;
    both.unpublished(&mut table).await?;
    both.open_files(&mut table).await?;
    table.note(
        "Set up by hand means Debian's nginx with ngx_cache_purge, `use_stale updating`, \
         `background_update on` and an open file cache of 30 s, as the usual guides have it; \
         Hostler's nginx has the same open file cache at its http level. Unlinking is what plugins \
         do that compute an entry's path.",
    );
    Ok(table)
}

struct Both<'a> {
    host: &'a ActionHost,
    site: &'a EnvironmentDoc,
    stock: &'a Stock,
    content: &'a Path,
}

fn status(visitor: &mut Visitor, uri: &str, headers: &[(&str, &str)]) -> Res<String> {
    let answer = visitor.send("GET", uri, headers, None)?;
    Ok(answer.header("X-Hostler-Cache").unwrap_or("none").to_owned())
}

impl Both<'_> {
    async fn purge(&self, mode: PurgeMode, uri: &str) -> Res<()> {
        let scope = PurgeScope::Urls { urls: vec![format!("http://{}{uri}", self.site.domain)] };
        self.host.purge_in(mode, self.site, FASTCGI, scope).await?;
        Ok(())
    }

    /// Variants that are still served from the cache after one purge of the page.
    async fn variants(&self, table: &mut Table) -> Res<()> {
        let uri = "/vary/";
        let (mut ours, mut theirs) = (self.host.visitor(self.site)?, self.stock.visitor()?);
        let variants = ["a", "b", "c"].map(|value| [("X-Variant", value)]);
        for visitor in [&mut ours, &mut theirs] {
            for variant in variants.iter().cycle().take(6) {
                status(visitor, uri, variant)?;
            }
        }
        self.purge(PurgeMode::Hard, uri).await?;
        let answered = self.stock.purge(uri)?;
        let left = |visitor: &mut Visitor| -> Res<usize> {
            let mut left = 0;
            for variant in &variants {
                left += usize::from(status(visitor, uri, variant)? == "HIT");
            }
            Ok(left)
        };
        let (ours, theirs) = (left(&mut ours)?, left(&mut theirs)?);
        table.row(
            Row::new("`Vary`, 3 variants: still served", format!("{ours} of 3"))
                .against(format!("ngx_cache_purge: {theirs} of 3 (it answered {answered})"), "")
                .aim("0", ours == 0),
        );
        Ok(())
    }

    /// How long a page that PHP was working on during the purge is served after it was stored.
    async fn under_way(&self, table: &mut Table) -> Res<()> {
        let uri = "/slow/";
        write(self.content, "old")?;
        let (mut ours, mut theirs) = (self.host.visitor(self.site)?, self.stock.visitor()?);
        let begun = [
            std::thread::spawn(move || ours.get(uri).map(|_| ())),
            std::thread::spawn(move || theirs.get(uri).map(|_| ())),
        ];
        tokio::time::sleep(Duration::from_millis(400)).await;
        write(self.content, "new")?;
        let scope = PurgeScope::Select(hostler_protocol::job::Selection {
            prefixes: vec![format!("http://{}{uri}", self.site.domain)],
            ..Default::default()
        });
        self.host.purge(self.site, FASTCGI, scope).await?;
        let answered = self.stock.purge(uri)?;
        for visit in begun {
            visit.join().map_err(|_| "a visitor panicked")??;
        }
        let (ours, theirs) =
            (old_for(self.host.visitor(self.site)?, uri)?, old_for(self.stock.visitor()?, uri)?);
        let told = |secs: Option<f64>| match secs {
            Some(secs) => format!("for {}", time(secs)),
            None => format!("for all of {} s", LOOKING.as_secs()),
        };
        table.row(
            Row::new("page under way during the purge: old one served", told(ours))
                .against(format!("ngx_cache_purge: {} (it answered {answered})", told(theirs)), "")
                .aim("≤ 500 ms", ours.is_some_and(|secs| secs <= 0.5)),
        );
        Ok(())
    }

    /// Requests that get a page which is no longer there.
    async fn unpublished(&self, table: &mut Table) -> Res<()> {
        let uri = "/gone/";
        write(self.content, "old")?;
        let (mut ours, mut theirs) = (self.host.visitor(self.site)?, self.stock.visitor()?);
        for visitor in [&mut ours, &mut theirs] {
            visitor.get(uri)?;
            visitor.get(uri)?;
        }
        write(self.content, "new")?;
        self.purge(PurgeMode::Soft, uri).await?;
        // The same entry made stale where `updating` is on.
        let key = crate::bench::cache_files::key("stock.test", uri);
        let path = crate::bench::cache_files::path(&self.stock.cache, &key);
        let file = std::fs::OpenOptions::new().write(true).open(path)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &1_i64.to_le_bytes(), 8)?;
        let old = |visitor: &mut Visitor| -> Res<usize> {
            let mut old = 0;
            for _ in 0..REQUESTS {
                old += usize::from(visitor.get(uri)?.status == 200);
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(old)
        };
        let (ours, theirs) = (old(&mut ours)?, old(&mut theirs)?);
        table.row(
            Row::new("unpublished page, purged softly: served", format!("{ours} of {REQUESTS}"))
                .against(format!("expired under `use_stale updating`: {theirs} of {REQUESTS}"), "")
                .aim("0", ours == 0),
        );
        Ok(())
    }

    /// Requests served from a file that was purged and is still held open.
    async fn open_files(&self, table: &mut Table) -> Res<()> {
        let uri = "/page/";
        let (mut ours, mut theirs) = (self.host.visitor(self.site)?, self.stock.visitor()?);
        for visitor in [&mut ours, &mut theirs] {
            for _ in 0..4 {
                visitor.get(uri)?;
            }
        }
        self.purge(PurgeMode::Hard, uri).await?;
        if !self.stock.unlink(uri) {
            return Err("there was no file to unlink".into());
        }
        // The first request after ours is the miss that stores the page anew.
        let first = status(&mut ours, uri, &[])?;
        let served = usize::from(first == "HIT");
        let mut rival = 0;
        for _ in 0..REQUESTS {
            rival += usize::from(status(&mut theirs, uri, &[])? == "HIT");
        }
        table.row(
            Row::new("`open_file_cache`: purged page still served", format!("{served} of 1"))
                .against(format!("unlink: {rival} of {REQUESTS}"), "")
                .aim("0", served == 0),
        );
        Ok(())
    }
}

/// For how many seconds the old page is served; `None`: as long as was looked.
fn old_for(mut visitor: Visitor, uri: &str) -> Res<Option<f64>> {
    let watch = Watch::start();
    let mut last_old = 0.0;
    while watch.elapsed() < LOOKING {
        let answer = visitor.get(uri)?;
        let old = answer.body.starts_with(b"old");
        if old {
            last_old = watch.secs();
        } else if answer.header("X-Hostler-Cache") == Some("HIT") {
            return Ok(Some(last_old));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}
