//! Lines of progress on their way to the database: bounded, the oldest go first.
//!
//! They are gathered for a moment, and whoever settles an attempt takes what is waiting along: a
//! short job's lines cost no unit of their own, and none is in the way of its outcome.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::store::ProgressLine;

/// Lines that may wait to be written.
const LINES_WAITING_MAX: usize = 8192;
/// Lines written in one unit.
const LINES_PER_UNIT_MAX: usize = 500;
/// How long lines wait for more: nobody who watches a job sees the difference.
const GATHER: Duration = Duration::from_millis(25);

type Waiting = Arc<Mutex<VecDeque<ProgressLine>>>;

/// Where sessions leave lines.
#[derive(Debug, Clone)]
pub(super) struct ProgressQueue {
    waiting: Waiting,
    bell: mpsc::Sender<()>,
}

/// Where the writer takes them.
#[derive(Debug)]
pub(super) struct Lines {
    waiting: Waiting,
    bell: mpsc::Receiver<()>,
}

impl ProgressQueue {
    pub(super) fn new() -> (Self, Lines) {
        let waiting = Waiting::default();
        let (bell, rung) = mpsc::channel(1);
        (Self { waiting: Arc::clone(&waiting), bell }, Lines { waiting, bell: rung })
    }

    pub(super) fn push(&self, line: ProgressLine) {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= LINES_WAITING_MAX {
                waiting.pop_front();
                metrics::counter!("hostler_progress_dropped_total").increment(1);
            }
            waiting.push_back(line);
        }
        // A bell that rings already will be heard.
        self.bell.try_send(()).ok();
    }

    /// What waits, as much as goes into one unit.
    pub(super) fn take(&self) -> Vec<ProgressLine> {
        take(&self.waiting)
    }
}

fn take(waiting: &Waiting) -> Vec<ProgressLine> {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let count = waiting.len().min(LINES_PER_UNIT_MAX);
    waiting.drain(..count).collect()
}

impl Lines {
    /// The next lines, `None` when nobody can leave any more.
    pub(super) async fn next(&mut self) -> Option<Vec<ProgressLine>> {
        loop {
            let batch = take(&self.waiting);
            if !batch.is_empty() {
                return Some(batch);
            }
            self.bell.recv().await?;
            tokio::time::sleep(GATHER).await;
        }
    }
}
