//! Actual state: what hosts see of their stacks between jobs, and what a person makes of it.

use hostler_protocol::OBSERVED_BYTES_MAX;
use hostler_protocol::id::{HostId, StackId};
use hostler_protocol::job;
use hostler_protocol::observed::{Observed, ObservedStack};

use super::{App, AppError, Asked, Told};
use crate::domain::decide::stack::{self as decide, Seen};
use crate::domain::{Scope, Snapshot};
use crate::views;

/// Longest text kept of why Docker could not be asked, in characters.
const WHY_CHARS_MAX: usize = 500;

impl App {
    /// Takes in what a host sees of its stacks: its own alone.
    ///
    /// # Errors
    /// [`AppError::Store`]. A document that cannot be read is logged and left.
    pub async fn observed(&self, host: &HostId, document: &[u8]) -> Result<(), AppError> {
        let Ok(report) = job::read::<Observed>("observed", document, OBSERVED_BYTES_MAX) else {
            tracing::warn!(host.id = %host, "what a host sees of itself cannot be read");
            return Ok(());
        };
        let rows = self.store.stacks_on(host).await?;
        for row in rows {
            let seen = match &report.unavailable {
                Some(why) => {
                    let why: String = why.chars().take(WHY_CHARS_MAX).collect();
                    Seen::Unavailable { why, at_us: self.clock.now().0 }
                }
                None => match report.stacks.iter().find(|one| one.stack == row.stack) {
                    // Times are the controller's own: a host's clock may be anything.
                    Some(one) => {
                        Seen::Stack(ObservedStack { seen_at_us: self.clock.now().0, ..one.clone() })
                    }
                    None => Seen::Available,
                },
            };
            if decide::seen(&row, &seen).is_none() {
                continue;
            }
            let (host, now) = (host.clone(), self.clock.now());
            let scope = Scope { stack: Some(row.stack.clone()), ..Scope::default() };
            let decide =
                move |snapshot: &Snapshot| Ok(decide::observe(snapshot, &host, &seen, now));
            self.store.transact("observe_stack", scope, decide).await?;
        }
        Ok(())
    }

    /// Accepts what differs now from what was applied, on these hosts or on all.
    ///
    /// # Errors
    /// `NOT_FOUND`, `NO_DRIFT`, `KEY_REUSED`.
    pub async fn accept_drift(
        &self,
        id: StackId,
        asked: &Asked,
        what: views::AcceptDrift,
    ) -> Result<Told<views::Stack>, AppError> {
        if self.answered(asked).await?.is_some() {
            return Ok(Told { what: self.show_stack(&id).await?, replayed: true });
        }
        let hosts = self.hosts_named(what.hosts).await?;
        let (which, now) = (id.clone(), self.clock.now());
        let decide = move |snapshot: &Snapshot| {
            decide::accept_drift(snapshot, &which, hosts.as_deref(), now)
        };
        self.change_stack("accept_drift", id, asked, decide).await
    }
}
