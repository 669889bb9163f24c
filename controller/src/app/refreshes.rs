//! Looks at the config repository: asked for, waited for, shown.

use std::time::Duration;

use hostler_protocol::id::RefreshId;
use tokio::sync::broadcast;

use super::stack_view::{self, refresh};
use super::{App, AppError, Asked, Told};
use crate::domain::decide::enqueue::{key_reused, missing, nothing};
use crate::domain::decide::refresh::{self as decide, Ask};
use crate::domain::desired::{Refresh, RefreshState, Trigger};
use crate::domain::{Answered, EventKind, Refusal, RefusalKind, Scope, Snapshot};
use crate::store::Page;
use crate::views;

/// What a request for a look comes to.
enum Requested {
    Now {
        look: Box<Refresh>,
        /// Another one runs.
        busy: bool,
    },
    /// The same request was made before.
    Before(RefreshId),
}

impl App {
    /// Asks for a look; the answer is the look that answers for the request.
    ///
    /// # Errors
    /// `GIT_NOT_CONFIGURED`.
    pub async fn request_refresh(
        &self,
        trigger: Trigger,
        delivery: Option<String>,
    ) -> Result<views::Refresh, AppError> {
        Ok(self.ask_refresh(trigger, delivery, None).await?.what)
    }

    /// Asks for a look by a request that may have been made before: then its answer is the look that
    /// answers for that one.
    ///
    /// # Errors
    /// `GIT_NOT_CONFIGURED`, `KEY_REUSED`.
    pub async fn refresh_now(&self, asked: &Asked) -> Result<Told<views::Refresh>, AppError> {
        self.ask_refresh(Trigger::Manual, None, Some(asked.clone())).await
    }

    async fn ask_refresh(
        &self,
        trigger: Trigger,
        delivery: Option<String>,
        asked: Option<Asked>,
    ) -> Result<Told<views::Refresh>, AppError> {
        if self.desired.source().is_none() {
            let message = "no repository is configured: set HOSTLER_GIT_URL, or `url` in the section \
                           `[git]` of the configuration file, and start the controller again";
            return Err(Refusal::new(RefusalKind::Conflict, "GIT_NOT_CONFIGURED", message).into());
        }
        let (id, now) = (self.clock.new_refresh_id()?, self.clock.now());
        let scope = Scope {
            refreshes: true,
            refresh_delivered: delivery.clone(),
            idempotency: asked.as_ref().and_then(Asked::scope),
            ..Scope::default()
        };
        let ask = Ask { id, trigger, delivery, now };
        let decide = move |snapshot: &Snapshot| {
            let known = asked.as_ref().map(|asked| asked.answered(snapshot.idempotency.as_ref()));
            match known.transpose()?.flatten() {
                None => {}
                Some(Answered::Refresh(id)) => return Ok(nothing(Requested::Before(id.clone()))),
                Some(Answered::Job(_) | Answered::StackJobs(_) | Answered::Stack(_)) => {
                    return Err(key_reused());
                }
            }
            let runs = |one: &Refresh| one.state == RefreshState::Refreshing;
            let busy = snapshot.refreshes.iter().any(runs);
            let mut decision = decide::request(snapshot, &ask);
            let answered = Answered::Refresh(decision.reply.id.clone());
            let remembered = asked.as_ref().and_then(|asked| asked.remember(answered, now));
            decision.changes.extend(remembered);
            Ok(decision.map(|look| Requested::Now { look: Box::new(look), busy }))
        };
        match self.store.transact("request_refresh", scope, decide).await?.reply {
            Requested::Before(id) => {
                Ok(Told { what: self.show_refresh(&id).await?, replayed: true })
            }
            Requested::Now { look, busy } => {
                let mut what = refresh(*look);
                // With none in its way it begins at once.
                if what.status == views::RefreshState::Queued && !busy {
                    what.status = views::RefreshState::Refreshing;
                }
                Ok(Told { what, replayed: false })
            }
        }
    }

    /// The look that answers for a request, as soon as it has ended, or as it is when the time is
    /// over.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn wait_for_refresh(
        &self,
        id: &RefreshId,
        at_most: Duration,
    ) -> Result<views::Refresh, AppError> {
        let mut follower = self.events.subscribe();
        let ended = async {
            loop {
                let found = self.store.refresh(id).await?;
                let found = found.ok_or_else(|| missing("refresh", id))?;
                if found.finished_at.is_some() {
                    return Ok::<_, AppError>(found);
                }
                until_a_look_ends(&mut follower).await;
            }
        };
        match tokio::time::timeout(at_most, ended).await {
            Ok(found) => Ok(refresh(found?)),
            Err(_) => self.show_refresh(id).await,
        }
    }

    /// One look; of one that was replaced, the one that answers for it.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn show_refresh(&self, id: &RefreshId) -> Result<views::Refresh, AppError> {
        let found = self.store.refresh(id).await?;
        Ok(refresh(found.ok_or_else(|| missing("refresh", id))?))
    }

    /// One page of looks, newest first, those that were replaced among them.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn list_refreshes(&self, page: &Page) -> Result<views::RefreshPage, AppError> {
        let (items, next) = self.store.refreshes(page).await?;
        Ok(views::RefreshPage { items: items.into_iter().map(refresh).collect(), next })
    }

    /// How the desired state stands as a whole.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn refresh_status(&self) -> Result<views::RefreshStatus, AppError> {
        let (open, last) = (self.store.open_refreshes().await?, self.store.last_refresh().await?);
        let desired = self.store.desired_state().await?;
        let configured = self.desired.source().is_some();
        Ok(stack_view::status(configured, open, last, desired))
    }
}

/// Waits for an event that may end a look; a follower that lags is told at once.
async fn until_a_look_ends(
    follower: &mut broadcast::Receiver<std::sync::Arc<crate::domain::Event>>,
) {
    loop {
        match follower.recv().await {
            Ok(told)
                if matches!(
                    told.event.kind,
                    EventKind::RefreshCompleted
                        | EventKind::RefreshFailed
                        | EventKind::RefreshRequested
                ) =>
            {
                return;
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            // Without a tailer nothing is told any more: the caller's time limit decides.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
