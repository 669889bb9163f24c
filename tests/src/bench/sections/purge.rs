//! One URL of 100,000 cached pages, and all of them.

use std::path::Path;

use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, median, time};
use crate::bench::{Res, Scale, cache_files, rivals};

const DOMAIN: &str = "shop.example";
const PAGE_BYTES: usize = 8 * 1024;

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let pages = scale.pick(100_000, 5_000);
    let cache = dir.join("cache");
    cache_files::fill(&cache, DOMAIN, pages, PAGE_BYTES)?;
    let key = |number| cache_files::key(DOMAIN, &cache_files::uri(number));

    let mut table = Table::new(format!("Purge of one URL among {pages} cached pages"));
    let greps = (0..5).map(|n| rivals::grep::purge_one(&cache, &key(n * 7)));
    let grep = median(greps.collect::<Res<_>>()?);
    table.row(Row::new("grep", "").against(time(grep), ""));

    let module = rivals::purge_module::PurgeModule::start(&dir.join("module"), &cache, DOMAIN)?;
    let mut visitor = module.visitor()?;
    let purges =
        (1_000..1_200).map(|number| module.purge_one(&mut visitor, &cache_files::uri(number)));
    let module = Samples::new(purges.collect::<Res<_>>()?);
    table.row(Row::new("module", "").against(time(module.p50()), ""));

    let ansible = rivals::ansible::purge_one(&cache, &key(2_000), dir)?;
    table.row(Row::new("ansible", "").against(time(ansible), ""));
    Ok(table)
}
