//! Visitors who ask for pages until they are told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::Res;
use super::clock::Watch;
use super::http::Visitor;

/// Answers by what nginx said of them.
#[derive(Debug, Default)]
pub struct Seen {
    pub counts: BTreeMap<String, usize>,
    /// Seconds each answer took.
    pub secs: Vec<f64>,
}

impl Seen {
    /// How many answers had that cache status.
    #[must_use]
    pub fn count(&self, status: &str) -> usize {
        self.counts.get(status).copied().unwrap_or(0)
    }

    /// All counts, as a person reads them.
    #[must_use]
    pub fn told(&self) -> String {
        let told = self.counts.iter().map(|(status, count)| format!("{count} {status}"));
        told.collect::<Vec<_>>().join(", ")
    }
}

/// Some visitors, each with a connection of its own.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Res<Seen>>>,
}

impl Crowd {
    /// They ask for the pages in turn, without pause.
    ///
    /// # Errors
    /// If nginx does not answer.
    pub fn come(visitors: usize, uris: &[String], visitor: impl Fn() -> Res<Visitor>) -> Res<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for first in 0..visitors {
            let (mut visitor, stop, uris) = (visitor()?, stop.clone(), uris.to_vec());
            threads.push(std::thread::spawn(move || {
                let mut seen = Seen::default();
                for uri in uris.iter().cycle().skip(first) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let watch = Watch::start();
                    let answer = visitor.get(uri)?;
                    seen.secs.push(watch.secs());
                    let status = answer.header("X-Hostler-Cache").unwrap_or("none");
                    *seen.counts.entry(status.to_owned()).or_default() += 1;
                }
                Ok(seen)
            }));
        }
        Ok(Self { stop, threads })
    }

    /// They leave; what they saw.
    ///
    /// # Errors
    /// If nginx stopped answering one of them.
    pub fn go(self) -> Res<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for thread in self.threads {
            let seen = thread.join().map_err(|_| "a visitor panicked")??;
            for (status, count) in seen.counts {
                *all.counts.entry(status).or_default() += count;
            }
            all.secs.extend(seen.secs);
        }
        Ok(all)
    }
}
