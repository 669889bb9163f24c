//! Fault injection for tests: stop a run at a named step, or let a side effect pretend.
//!
//! An agent in service holds [`Faults::default`], which injects nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The faults to inject; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Faults(Option<Arc<Armed>>);

#[derive(Debug, Default)]
struct Armed {
    crash_at: Mutex<BTreeSet<String>>,
    pretend: Mutex<BTreeSet<String>>,
    reached: Notify,
}

impl Faults {
    /// Faults that can be armed.
    #[must_use]
    pub fn armed() -> Self {
        Self(Some(Arc::default()))
    }

    /// From now on a run that begins `step` stands still for ever, as a killed process would;
    /// the test drops the run's future.
    pub fn crash_at(&self, step: &str) {
        if let Some(armed) = &self.0 {
            lock(&armed.crash_at).insert(step.to_owned());
        }
    }

    /// From now on `effect` reports success and does nothing.
    pub fn pretend(&self, effect: &str) {
        if let Some(armed) = &self.0 {
            lock(&armed.pretend).insert(effect.to_owned());
        }
    }

    /// Injects nothing from now on.
    pub fn clear(&self) {
        if let Some(armed) = &self.0 {
            lock(&armed.crash_at).clear();
            lock(&armed.pretend).clear();
        }
    }

    /// Waits until a run stands still.
    pub async fn crashed(&self) {
        match &self.0 {
            Some(armed) => armed.reached.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Called where a step begins.
    pub async fn pass(&self, step: &str) {
        if let Some(armed) = &self.0
            && lock(&armed.crash_at).contains(step)
        {
            armed.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Called where an effect is about to be had.
    #[must_use]
    pub fn pretends(&self, effect: &str) -> bool {
        self.0.as_ref().is_some_and(|armed| lock(&armed.pretend).contains(effect))
    }
}

fn lock(set: &Mutex<BTreeSet<String>>) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}
