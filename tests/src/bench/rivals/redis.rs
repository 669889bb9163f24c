//! A Redis full of other sites' keys, a neighbour who reads from it all the time, and the flushes
//! found in the field.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use redis::Connection;

use crate::bench::Res;
use crate::bench::clock::Watch;
use crate::bench::stats::Samples;

/// Pause between two reads of the neighbour: the shortest stall that is surely seen.
const PAUSE: Duration = Duration::from_micros(500);
const FILL_STEP: usize = 20_000;

/// Connects.
///
/// # Errors
/// If Redis does not answer.
pub fn connect(url: &str) -> Res<Connection> {
    Ok(redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(5))?)
}

/// Sets `count` keys that begin with `prefix`, 100 bytes each.
///
/// # Errors
/// If Redis refuses.
pub fn fill(connection: &mut Connection, prefix: &str, count: usize) -> Res<()> {
    let script = "local v = string.rep('x', 100)
        for i = tonumber(ARGV[2]), tonumber(ARGV[3]) do redis.call('SET', ARGV[1] .. i, v) end";
    let mut done = 0;
    while done < count {
        let last = (done + FILL_STEP).min(count);
        let mut eval = redis::cmd("EVAL");
        let () = eval.arg(script).arg(0).arg(prefix).arg(done + 1).arg(last).query(connection)?;
        done = last;
    }
    Ok(())
}

/// How many keys the database has.
///
/// # Errors
/// If Redis refuses.
pub fn keys(connection: &mut Connection) -> Res<usize> {
    Ok(redis::cmd("DBSIZE").query(connection)?)
}

/// All keys of a prefix, found and deleted inside one script: what several plugins do.
///
/// # Errors
/// If Redis refuses.
pub fn flush_by_script(connection: &mut Connection, prefix: &str) -> Res<()> {
    let script = "for _, k in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', k) end";
    let () = redis::cmd("EVAL").arg(script).arg(0).arg(format!("{prefix}*")).query(connection)?;
    Ok(())
}

/// Everything of everybody.
///
/// # Errors
/// If Redis refuses.
pub fn flush_database(connection: &mut Connection) -> Res<()> {
    let () = redis::cmd("FLUSHDB").query(connection)?;
    Ok(())
}

/// A neighbour who reads one key again and again and takes the time of each read.
#[derive(Debug)]
pub struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Res<Vec<f64>>>,
}

impl Neighbour {
    /// Moves in.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub fn start(url: &str) -> Res<Self> {
        let mut connection = connect(url)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut secs = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let watch = Watch::start();
                let _: Option<String> =
                    redis::cmd("GET").arg("neighbour").query(&mut connection)?;
                secs.push(watch.secs());
                std::thread::sleep(PAUSE);
            }
            Ok(secs)
        });
        Ok(Self { stop, thread })
    }

    /// Moves out and says how long each read took.
    ///
    /// # Errors
    /// If a read failed.
    pub fn finish(self) -> Res<Samples> {
        self.stop.store(true, Ordering::Relaxed);
        let secs = self.thread.join().map_err(|_| "the neighbour panicked")??;
        Ok(Samples::new(secs))
    }
}
