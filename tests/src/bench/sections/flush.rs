//! One site's keys removed from a Redis full of others', and what a neighbour feels of it.

use std::path::Path;
use std::time::Duration;

use hostler_agent::host::redis::{Connection, Target};
use tokio_util::sync::CancellationToken;

use crate::bench::clock::Watch;
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, median, time, times};
use crate::bench::{Res, Scale, rivals};
use crate::servers::redis::Redis;

const PREFIX: &str = "shop:";
const STALL_SECS_MAX: f64 = 0.050;

/// What one flush did.
struct Felt {
    neighbour: Samples,
    took: f64,
    left: usize,
}

pub(super) async fn measure(_dir: &Path, scale: Scale) -> Res<Table> {
    let foreign = scale.pick(1_000_000, 50_000);
    let sizes = [(scale.pick(100_000, 5_000), 3), (scale.pick(1_000_000, 10_000), 1)];
    let server = Redis::start(None, "")?;
    let url = format!("redis://127.0.0.1:{}/0", server.port);
    let mut connection = rivals::redis::connect(&url)?;
    rivals::redis::fill(&mut connection, "foreign:", foreign)?;

    let calm = rivals::redis::Neighbour::start(&url)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calm = calm.finish()?;

    let mut table = Table::new(format!("Flush of Redis keys beside {foreign} foreign ones"));
    for (own, runs) in sizes {
        let ours = ours(&url, &mut connection, (own, foreign), runs).await?;
        rivals::redis::fill(&mut connection, PREFIX, own)?;
        let script =
            felt(&url, &mut connection, |redis| rivals::redis::flush_by_script(redis, PREFIX))?;
        compare(&mut table, own, &ours, &script);
    }
    let database = felt(&url, &mut connection, rivals::redis::flush_database)?;
    let stall = time(database.neighbour.worst());
    table.row(
        Row::new("FLUSHDB of the foreign keys alone", "").against(format!("stall {stall}"), ""),
    );
    table.note(format!(
        "The neighbour reads one key every half millisecond; with nobody flushing its p99 was {} \
         and its worst read {}. FLUSHDB left {} keys of {foreign} foreign ones; the others left \
         all of them. The script does KEYS and DEL.",
        time(calm.p99()),
        time(calm.worst()),
        database.left,
    ));
    Ok(table)
}

/// Hostler's flushes of as many own keys beside as many foreign ones.
async fn ours(
    url: &str,
    connection: &mut redis::Connection,
    (own, foreign): (usize, usize),
    runs: usize,
) -> Res<Vec<Felt>> {
    let target = Target::parse(url).ok_or("a URL the agent does not read")?;
    let mut all = Vec::new();
    for _ in 0..runs {
        rivals::redis::fill(connection, PREFIX, own)?;
        let neighbour = rivals::redis::Neighbour::start(url)?;
        let watch = Watch::start();
        let mut agent = Connection::open(&target).await?;
        let removed = agent.remove_prefix(PREFIX, false, &CancellationToken::new(), |_| {}).await?;
        let took = watch.secs();
        let neighbour = neighbour.finish()?;
        let left = rivals::redis::keys(connection)?;
        if removed.removed != own as u64 || left != foreign {
            return Err(format!("{} of {own} keys removed, {left} left", removed.removed).into());
        }
        all.push(Felt { neighbour, took, left });
    }
    Ok(all)
}

fn compare(table: &mut Table, own: usize, ours: &[Felt], script: &Felt) {
    let most = |figure: fn(&Samples) -> f64| {
        ours.iter().map(|felt| figure(&felt.neighbour)).fold(0.0, f64::max)
    };
    let (worst, p99) = (most(Samples::worst), most(Samples::p99));
    let took = median(ours.iter().map(|felt| felt.took).collect());
    let rival = script.neighbour.worst();
    table.row(
        Row::new(format!("{own} keys: worst stall of a neighbour"), time(worst))
            .against(format!("script {}", time(rival)), times(rival / worst))
            .aim("≤ 50 ms", worst <= STALL_SECS_MAX),
    );
    table.row(Row::new(format!("{own} keys: p99 of its reads meanwhile"), time(p99)));
    table.row(
        Row::new(format!("{own} keys: the flush itself"), time(took))
            .against(format!("script {}", time(script.took)), times(script.took / took)),
    );
}

fn felt(
    url: &str,
    connection: &mut redis::Connection,
    flush: impl FnOnce(&mut redis::Connection) -> Res<()>,
) -> Res<Felt> {
    let neighbour = rivals::redis::Neighbour::start(url)?;
    // The neighbour has to be reading when the flush begins.
    std::thread::sleep(Duration::from_millis(50));
    let watch = Watch::start();
    flush(connection)?;
    let took = watch.secs();
    let neighbour = neighbour.finish()?;
    Ok(Felt { neighbour, took, left: rivals::redis::keys(connection)? })
}
