//! One site's keys removed from a Redis full of others', and what a neighbour feels of it.

use std::path::Path;
use std::time::Duration;

use hostler_agent::host::redis::{Connection, Target};
use tokio_util::sync::CancellationToken;

use crate::bench::clock::Watch;
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, time, times};
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
    let (foreign, own) = (scale.pick(1_000_000, 50_000), scale.pick(100_000, 5_000));
    let server = Redis::start(None, "")?;
    let url = format!("redis://127.0.0.1:{}/0", server.port);
    let mut connection = rivals::redis::connect(&url)?;
    rivals::redis::fill(&mut connection, "foreign:", foreign)?;

    let calm = rivals::redis::Neighbour::start(&url)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calm = calm.finish()?;

    let (mut ours, mut worst) = (Vec::new(), 0.0_f64);
    for _ in 0..scale.pick(3, 2) {
        rivals::redis::fill(&mut connection, PREFIX, own)?;
        let target = Target::parse(&url).ok_or("a URL the agent does not read")?;
        let neighbour = rivals::redis::Neighbour::start(&url)?;
        let watch = Watch::start();
        let mut agent = Connection::open(&target).await?;
        let removed = agent.remove_prefix(PREFIX, false, &CancellationToken::new(), |_| {}).await?;
        let took = watch.secs();
        let neighbour = neighbour.finish()?;
        let left = rivals::redis::keys(&mut connection)?;
        if removed.removed != own as u64 || left != foreign {
            return Err(format!("{} of {own} keys removed, {left} left", removed.removed).into());
        }
        worst = worst.max(neighbour.worst());
        ours.push(Felt { neighbour, took, left });
    }

    rivals::redis::fill(&mut connection, PREFIX, own)?;
    let script =
        felt(&url, &mut connection, |redis| rivals::redis::flush_by_script(redis, PREFIX))?;
    rivals::redis::fill(&mut connection, PREFIX, own)?;
    let database = felt(&url, &mut connection, rivals::redis::flush_database)?;

    let mut table = Table::new(format!("Flush of {own} Redis keys beside {foreign} foreign ones"));
    let took = crate::bench::stats::median(ours.iter().map(|felt| felt.took).collect());
    let p99 = ours.iter().map(|felt| felt.neighbour.p99()).fold(0.0, f64::max);
    for (name, rival) in [("KEYS and DEL in a script", &script), ("FLUSHDB", &database)] {
        let rival_worst = rival.neighbour.worst();
        table.row(
            Row::new("worst stall of a neighbour", time(worst))
                .against(format!("{name} {}", time(rival_worst)), times(rival_worst / worst))
                .aim("≤ 50 ms", worst <= STALL_SECS_MAX),
        );
    }
    table.row(Row::new("p99 of the neighbour's reads meanwhile", time(p99)));
    table.row(
        Row::new("the flush itself", time(took))
            .against(format!("KEYS and DEL {}", time(script.took)), times(script.took / took)),
    );
    table.note(format!(
        "The neighbour reads one key every half millisecond; with nobody flushing its p99 was {} \
         and its worst read {}. FLUSHDB left {} keys of {foreign} foreign ones; the others left \
         all of them.",
        time(calm.p99()),
        time(calm.worst()),
        database.left,
    ));
    Ok(table)
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
