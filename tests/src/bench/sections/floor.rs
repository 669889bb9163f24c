//! What this machine can do at best: one sync to disk, one round trip over QUIC.

use std::path::Path;

use crate::bench::report::{Row, Table};
use crate::bench::stats::time;
use crate::bench::{Res, Scale, rivals};

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let syncs = rivals::fsync::append_and_sync(dir, scale.pick(1_000, 100))?;
    let echoes = rivals::quic::echo(scale.pick(5_000, 500)).await?;
    let mut table = Table::new("The floor: what this machine can do at best");
    for (what, samples) in [
        ("append 512 B and fdatasync", &syncs),
        ("1 KiB request and answer over QUIC with mutual TLS", &echoes),
    ] {
        let figures = [samples.p50(), samples.p99(), samples.worst()].map(time);
        let text = format!("p50 {}, p99 {}, worst {}", figures[0], figures[1], figures[2]);
        table.row(Row::new(format!("{what}, {} times", samples.count()), text));
    }
    Ok(table)
}
