//! Carrying stacks on: what is to be done about each, done on its fresh rows.

use hostler_protocol::id::JobId;
use hostler_protocol::job::JobType;

use super::desired::MakingError;
use super::{App, AppError};
use crate::domain::decide::stack::{self as decide, Bounds, Carry, Overview, Todo, due, look};
use crate::domain::desired::Stack;
use crate::domain::{Scope, Snapshot};

impl App {
    /// Carries every stack on as far as it can be. True if anything was done. Where nothing has changed
    /// since there was nothing to do, and no time has come, rows are not read.
    ///
    /// # Errors
    /// [`AppError`]; what was done until then stays done.
    pub async fn carry_stacks(&self) -> Result<bool, AppError> {
        // Before the rows: what changes while they are read is seen by the next look.
        let (mark, now) = (self.store.stacks_mark().await?, self.clock.now());
        if self.desired.is_settled(&mark, now) {
            return Ok(false);
        }
        let overview = self.store.stack_overview().await?;
        let keeping = self.desired.keeping();
        let bounds = Bounds { syncs_max: keeping.syncs_max, removal: keeping.removal };
        let todos = look(&overview, &bounds, now);
        let (mut done, mut settled) = (false, true);
        for todo in todos {
            let digest = self.carried(&overview, &todo);
            done |= self.carry_stack(&overview, todo).await?;
            // One of which no bundle can be made comes up again and again, until a commit changes it.
            settled &= digest.is_some_and(|digest| self.desired.refusal(digest).is_some());
        }
        if settled && !done {
            self.desired.settle(mark, due(&overview, now));
        }
        Ok(done)
    }

    /// The digest of the bundle without which nothing can be done about a stack.
    fn carried<'o>(&self, overview: &'o Overview, todo: &Todo) -> Option<&'o str> {
        let stack = overview.stacks.iter().find(|stack| stack.id == todo.stack)?;
        stack.facts.bundle_digest.as_deref().filter(|_| todo.syncs)
    }

    async fn carry_stack(&self, overview: &Overview, todo: Todo) -> Result<bool, AppError> {
        let stack = overview.stacks.iter().find(|stack| stack.id == todo.stack);
        let Some(stack) = stack else { return Ok(false) };
        let bundle = if todo.syncs { self.made_bundle(stack).await? } else { None };
        let rows = overview.rows.iter().filter(|row| row.stack == stack.id).count();
        let jobs_max = rows + todo.around.wanted.len();
        let carry = Carry {
            version: todo.version,
            around: todo.around,
            bundle,
            job_ids: self.job_ids(jobs_max)?,
            sync: self.templates.for_type(JobType::StackSync).as_ref().clone(),
            down: self.templates.for_type(JobType::StackDown).as_ref().clone(),
            now: self.clock.now(),
        };
        let scope = Scope { stack: Some(stack.id.clone()), ..Scope::default() };
        let decide = move |snapshot: &Snapshot| Ok(decide::carry(snapshot, &carry));
        Ok(self.store.transact("carry_stack", scope, decide).await?.reply)
    }

    /// A stack's bundle, where it can be made now; the decision says what follows where not.
    pub(super) async fn made_bundle(
        &self,
        stack: &Stack,
    ) -> Result<Option<(String, String)>, AppError> {
        match self.desired.bundle(stack).await {
            Ok(made) => Ok(made),
            // The stack says so.
            Err(MakingError::Refused(_)) => Ok(None),
            // Another controller has read what this one has not yet, and makes it.
            Err(error @ MakingError::NotAtHand(_)) => {
                tracing::debug!(stack.id = %stack.id, path = stack.path, %error, "no bundle yet");
                Ok(None)
            }
            Err(error) if !self.desired.may_say(&stack.id, self.clock.monotonic_ms()) => {
                tracing::debug!(stack.id = %stack.id, path = stack.path, %error, "still no bundle");
                Ok(None)
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(stack.id = %stack.id, path = stack.path, %error, cause,
                    "a stack's bundle cannot be made");
                Ok(None)
            }
        }
    }

    pub(super) fn job_ids(&self, count: usize) -> Result<Vec<JobId>, AppError> {
        (0..count).map(|_| Ok(self.clock.new_job_id()?)).collect()
    }
}
