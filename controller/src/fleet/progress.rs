//! Lines of progress on their way to the database: bounded, the oldest go first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::store::ProgressLine;

/// Lines that may wait to be written.
const LINES_WAITING_MAX: usize = 8192;
/// Lines written in one unit.
const LINES_PER_UNIT_MAX: usize = 500;

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
}

impl Lines {
    /// The next lines, `None` when nobody can leave any more.
    pub(super) async fn next(&mut self) -> Option<Vec<ProgressLine>> {
        loop {
            let batch: Vec<_> = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let count = waiting.len().min(LINES_PER_UNIT_MAX);
                waiting.drain(..count).collect()
            };
            if !batch.is_empty() {
                return Some(batch);
            }
            self.bell.recv().await?;
        }
    }
}
