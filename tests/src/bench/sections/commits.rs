//! What a commit costs: alone, and shared by many callers; and claims beside a long history.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use hostler_controller::store::{DatabaseUrl, Store};

use crate::bench::clock::Watch;
use crate::bench::queue::{self, BATCH, Worker};
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, median, time, times};
use crate::bench::{Res, Scale};
use crate::servers::command;
use crate::servers::postgres::Postgres;

/// Callers at once.
const CALLERS: [usize; 7] = [1, 2, 4, 8, 16, 64, 256];
const CLAIM_TIMES_MAX: f64 = 1.2;

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let mut table = Table::new("Group commit, and claims beside a long history");
    group_commit(&mut table, dir, scale).await?;
    let finished = scale.pick(1_000_000, 20_000);
    sqlite_history(&mut table, dir, scale, finished).await?;
    postgres_history(&mut table, scale, finished).await?;
    table.note(
        "Group commit: each caller queues one job, waits until it is committed and queues the \
         next, on SQLite (WAL, synchronous=FULL). History: finished jobs are copied row by row \
         from one that was queued, claimed, settled and archived; a claim is one call for 100 jobs \
         on 25 hosts.",
    );
    Ok(table)
}

async fn group_commit(table: &mut Table, dir: &Path, scale: Scale) -> Res<()> {
    let mut alone = 0.0;
    for callers in CALLERS {
        let store =
            Store::open(&DatabaseUrl::Sqlite(dir.join(format!("group-{callers}.db")))).await?;
        let worker = Arc::new(queue::prepare(&store).await?.remove(0));
        let each = (scale.pick(4_096, 128) / callers).clamp(4, scale.pick(512, 16));
        let watch = Watch::start();
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..callers {
            let (store, worker) = (store.clone(), Arc::clone(&worker));
            tasks.spawn(async move { worker.queue_one_by_one(&store, caller, each).await });
        }
        let mut took = Vec::new();
        while let Some(done) = tasks.join_next().await {
            took.extend(done??);
        }
        let secs = watch.secs();
        store.close().await;
        let samples = Samples::new(took);
        #[expect(clippy::cast_precision_loss, reason = "counts of jobs")]
        let rate = (callers * each) as f64 / secs;
        if callers == 1 {
            alone = rate;
        }
        let callers =
            if callers == 1 { "1 caller".to_owned() } else { format!("{callers} callers") };
        table.row(
            Row::new(
                format!("{callers}, one job a call"),
                format!(
                    "{rate:.0} jobs/s; p50 {}, p99 {}",
                    time(samples.p50()),
                    time(samples.p99())
                ),
            )
            .against(format!("1 caller {alone:.0} jobs/s"), times(rate / alone)),
        );
    }
    Ok(())
}

/// Claims of the fresh store, then beside so many finished jobs.
async fn claims(store: &Store, workers: &[Worker], first: usize, scale: Scale) -> Res<f64> {
    let rounds = scale.pick(20, 3);
    let took = workers[0].work_from(store, first, rounds, BATCH).await?;
    Ok(median(took.claim))
}

/// Makes ended jobs of round 0 into history, so that there is a row to copy.
async fn archive(store: &Store) -> Res<()> {
    let moved = store.archive_finished(hostler_controller::domain::Micros(i64::MAX), 1000).await?;
    if moved == 0 { Err("no job was archived".into()) } else { Ok(()) }
}

/// Copies one archived job (and its outcome) so often, under ids of their own.
fn copies(count: usize, text_of: &str, numbers: &str) -> String {
    let names = "position, job_type, template, host_id, site_id, environment_id, state, reason, \
        priority, may_pass_waiting, request, attempt, failures, crashes, timeout_secs, run_after, \
        expires_at, created_at, started_at, accepted_at, cancel_requested_at, finished_at, lease, \
        request_id, retry_of, progress_seen, parent_id, executor";
    format!(
        "CREATE TABLE first_job AS SELECT * FROM jobs_history LIMIT 1;\n\
         INSERT INTO jobs_history (id, {names}) SELECT {text_of}, {names} \
         FROM {numbers}, first_job WHERE n <= {count};\n\
         INSERT INTO job_outcomes (job_id, attempt, outcome) SELECT {text_of}, o.attempt, o.outcome \
         FROM {numbers}, first_job, job_outcomes o WHERE o.job_id = first_job.id AND n <= {count};"
    )
}

async fn sqlite_history(table: &mut Table, dir: &Path, scale: Scale, finished: usize) -> Res<()> {
    let path = dir.join("history.db");
    let url = DatabaseUrl::Sqlite(path.clone());
    let store = Store::open(&url).await?;
    let workers = queue::prepare(&store).await?;
    let before = claims(&store, &workers, 0, scale).await?;
    archive(&store).await?;
    store.close().await;
    let numbers = format!(
        "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {finished}) \
         SELECT n FROM c)"
    );
    let sql = copies(finished, "'job_7' || printf('%025d', n)", &numbers);
    let program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                   c.execute('PRAGMA synchronous = OFF'); c.executescript(sys.stdin.read()); c.commit()";
    let mut python = command("python3");
    python.args(["-c", program]).arg(&path).stdin(Stdio::piped());
    let mut child = python.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, sql.as_bytes())?;
    }
    if !child.wait()?.success() {
        return Err("the history could not be written".into());
    }
    let store = Store::open(&url).await?;
    let workers = queue::prepare_again(&store).await?;
    let after = claims(&store, &workers, scale.pick(20, 3), scale).await?;
    store.close().await;
    row(table, "SQLite", finished, before, after);
    Ok(())
}

async fn postgres_history(table: &mut Table, scale: Scale, finished: usize) -> Res<()> {
    let server = Postgres::start()?;
    let name = "bench_history";
    let store = Store::open(&server.create_database(name)?.parse()?).await?;
    let workers = queue::prepare(&store).await?;
    let before = claims(&store, &workers, 0, scale).await?;
    archive(&store).await?;
    let numbers = format!("generate_series(1, {finished}) AS c(n)");
    let sql = copies(finished, "'job_7' || lpad(n::text, 25, '0')", &numbers);
    server.psql(name, &sql)?;
    server.psql(name, "ANALYZE")?;
    let after = claims(&store, &workers, scale.pick(20, 3), scale).await?;
    store.close().await;
    server.drop_database(name)?;
    row(table, "PostgreSQL", finished, before, after);
    Ok(())
}

fn row(table: &mut Table, database: &str, finished: usize, before: f64, after: f64) {
    let slower = after / before;
    table.row(
        Row::new(format!("{database}, a claim beside {finished} finished jobs"), time(after))
            .against(format!("no history {}", time(before)), times(slower))
            .aim("≤ 1.2 ×", slower <= CLAIM_TIMES_MAX),
    );
}
