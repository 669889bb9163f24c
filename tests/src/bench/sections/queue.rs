//! Jobs per second through enqueue, claim and settle, on both databases.

use std::path::Path;

use hostler_controller::store::{DatabaseUrl, Store};

use crate::bench::queue::{self, BATCH, Took, WORKERS, Worker};
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, median, time, times};
use crate::bench::{Res, Scale, rivals};
use crate::servers::postgres::Postgres;

const JOBS_PER_SECOND_MIN: f64 = 10_000.0;
const PGBENCH_TIMES_MAX: f64 = 1.5;
/// The database every run on PostgreSQL begins with.
const BASE: &str = "bench_base";

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let title = format!("Queue: enqueue, claim and settle, {WORKERS} workers at once");
    let mut table = Table::new(title);
    sqlite(&mut table, dir, scale).await?;
    postgres(&mut table, dir, scale).await?;
    table.note(format!(
        "A batch is {BATCH} jobs of {BATCH} environments on 25 hosts, each job with its lane, its \
         events and its outcome. SQLite: WAL, synchronous=FULL. PostgreSQL: its defaults, so with \
         fsync and synchronous_commit. pgbench plays back the statements of such a run, taken from \
         the server's log, with the same number of clients on a copy of the same database: it \
         decides nothing and reads no answer.",
    ));
    Ok(table)
}

#[expect(clippy::cast_precision_loss, reason = "counts of jobs")]
fn rate(jobs: usize, secs: f64) -> f64 {
    jobs as f64 / secs
}

fn verbs(took: &Took) -> String {
    let p50 = |secs: &Vec<f64>| time(Samples::new(secs.clone()).p50());
    let [enqueue, claim, settle] = [&took.enqueue, &took.claim, &took.settle].map(p50);
    format!("enqueue {enqueue}, claim {claim}, settle {settle}")
}

async fn sqlite(table: &mut Table, dir: &Path, scale: Scale) -> Res<()> {
    let rounds = scale.pick(25, 3);
    let (mut rates, mut last) = (Vec::new(), Took::default());
    for run in 0..scale.pick(3, 1) {
        let store = open(&DatabaseUrl::Sqlite(dir.join(format!("batched-{run}.db")))).await?;
        let workers = queue::prepare(&store).await?;
        let (secs, took) = queue::run(&store, &workers, rounds, BATCH).await?;
        store.close().await;
        rates.push(rate(WORKERS * rounds * BATCH, secs));
        last = took;
    }
    let batched = median(rates);
    table.row(
        Row::new("SQLite, batches, through all three", format!("{batched:.0} jobs/s"))
            .aim("≥ 10,000 jobs/s", batched >= JOBS_PER_SECOND_MIN),
    );
    table.row(Row::new(format!("SQLite, one call for {BATCH} jobs, p50"), verbs(&last)));

    let singles = scale.pick(100, 10);
    let store = open(&DatabaseUrl::Sqlite(dir.join("single.db"))).await?;
    let workers = queue::prepare(&store).await?;
    let (secs, took) = queue::run(&store, &workers, singles, 1).await?;
    store.close().await;
    let single = rate(WORKERS * singles, secs);
    table.row(Row::new("SQLite, one job a call", format!("{single:.0} jobs/s")));
    table.row(Row::new("SQLite, one call for one job, p50", verbs(&took)));
    Ok(())
}

async fn open(url: &DatabaseUrl) -> Res<Store> {
    Ok(Store::open(url).await?)
}

async fn postgres(table: &mut Table, dir: &Path, scale: Scale) -> Res<()> {
    let server = Postgres::start()?;
    let rounds = scale.pick(10, 2);
    let base: DatabaseUrl = server.create_database(BASE)?.parse()?;
    let store = open(&base).await?;
    let workers = queue::prepare(&store).await?;
    store.close().await;

    let script = dir.join("replay.sql");
    std::fs::write(&script, capture(&server, &workers, rounds).await?)?;
    let (mut ours, mut theirs, mut last) = (Vec::new(), Vec::new(), Took::default());
    for _ in 0..scale.pick(3, 1) {
        let store = open(&copy(&server, "bench_ours")?.parse()?).await?;
        let (secs, took) = queue::run(&store, &workers, rounds, BATCH).await?;
        store.close().await;
        ours.push(secs);
        last = took;
        theirs.push(rivals::pgbench::play(&copy(&server, "bench_theirs")?, &script, WORKERS)?);
    }
    let jobs = WORKERS * rounds * BATCH;
    let (ours, theirs) = (median(ours), median(theirs));
    let slower = ours / theirs;
    table.row(
        Row::new(
            "PostgreSQL, batches, through all three",
            format!("{:.0} jobs/s", rate(jobs, ours)),
        )
        .against(format!("pgbench {:.0} jobs/s", rate(jobs, theirs)), times(slower))
        .aim("within 1.5 × of pgbench's time", slower <= PGBENCH_TIMES_MAX),
    );
    table.row(Row::new(format!("PostgreSQL, one call for {BATCH} jobs, p50"), verbs(&last)));
    Ok(())
}

/// A fresh copy of the base under that name; its URL.
fn copy(server: &Postgres, name: &str) -> Res<String> {
    server.drop_database(name)?;
    server.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {BASE}"))?;
    server.psql("postgres", "CHECKPOINT")?;
    Ok(server.url(name))
}

/// The statements of one run, worker by worker, as a pgbench script.
async fn capture(server: &Postgres, workers: &[Worker], rounds: usize) -> Res<String> {
    let log = server.dir().ok_or("the statements are read from the log of our own server only")?;
    let log = log.join("postgres.log");
    let url = copy(server, "bench_capture")?;
    server.psql("postgres", "ALTER DATABASE bench_capture SET log_statement = 'all'")?;
    let store = open(&url.parse()?).await?;
    let mut clients = Vec::new();
    for worker in workers {
        let before = std::fs::read(&log)?.len();
        worker.work(&store, rounds, BATCH).await?;
        let text = std::fs::read(&log)?;
        clients.push(rivals::pgbench::statements(&String::from_utf8_lossy(&text[before..])));
    }
    store.close().await;
    if clients.iter().any(|statements| statements.len() < rounds) {
        return Err("the server's log does not hold the statements".into());
    }
    Ok(rivals::pgbench::script(&clients))
}
