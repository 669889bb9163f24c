//! What operators ask for, through the application as the API does.

use hostler_controller::app::{AppError, Asked, IdempotencyKey};
use hostler_controller::domain::decide::enqueue::Made;
use hostler_controller::domain::{Job, JobState};
use hostler_controller::store::{JobFilter, Page};
use hostler_controller::views;
use hostler_protocol::id::{EnvironmentId, JobId, RequestId};

use super::controller::failed;
use super::event::Event;
use super::report::Violation;
use super::world::{Step, World};

impl World {
    /// An operator wants something; more often something new than to meddle.
    pub(super) async fn operator(&mut self) -> Step {
        if self.healed {
            return Ok(());
        }
        if self.controller.is_up() {
            match self.dice.below(10) {
                0..=5 => self.asks_anew().await?,
                6 => self.cancels().await?,
                7 => self.retries().await?,
                8 => self.releases().await?,
                _ => self.gives_up().await?,
            }
            if self.dice.permille(self.plan.revoke) {
                let host = self.dice.place(self.hosts.len());
                self.revokes(host).await?;
            }
        }
        let gap_ms = self.plan.chaos_ms / (self.plan.requests * 2) + 1;
        let wait_ms = self.dice.between(1, gap_ms * 2);
        self.after(wait_ms, Event::Operator);
        Ok(())
    }

    fn asked(&mut self) -> Asked {
        let random = self.dice.number().to_be_bytes();
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&random);
        let idempotency = self.dice.permille(300).then(|| {
            let key = format!("key-{}", self.dice.below(4));
            IdempotencyKey { request_sha256: key.clone(), key }
        });
        let request_id = RequestId::from_parts(1, bytes);
        Asked { principal: "local".to_owned(), request_id, idempotency }
    }

    fn an_environment(&mut self) -> Option<EnvironmentId> {
        let host = self.dice.place(self.hosts.len());
        let environments = &self.hosts[host].environments;
        self.dice.pick(environments).cloned()
    }

    async fn asks_anew(&mut self) -> Step {
        let Some(environment) = self.an_environment() else { return Ok(()) };
        let mut asked = self.asked();
        let what = self.dice.below(8);
        // A key stands for one request: the same one must come with it each time.
        if let Some(key) = asked.idempotency.as_mut() {
            key.request_sha256 = format!("{what} {environment}");
            key.key = format!("{} {what} {environment}", key.key);
        }
        let key = asked.idempotency.as_ref().map(|key| key.key.clone());
        let (one, other) = (self.dice.permille(500), self.dice.permille(500));
        let Some(running) = self.controller.process.as_ref() else { return Ok(()) };
        let app = running.app.clone();
        let made = match what {
            0 | 1 => {
                let flags = views::SetCaches {
                    fastcgi_cache_enabled: Some(one),
                    redis_cache_enabled: Some(other),
                };
                app.set_caches(environment, &asked, flags).await
            }
            2 => app.reconcile_caches(environment, &asked).await,
            3 => app.check_environment(environment, &asked).await,
            4 => app.cache_facts(environment, &asked).await,
            _ => {
                let warm = Some(one && other);
                let what = views::PurgeCaches { warm, ..views::PurgeCaches::default() };
                app.purge_caches(environment, &asked, what).await
            }
        };
        if self.dies_now() && made.is_ok() {
            // Committed, and nobody was told: it is a job all the same.
            self.promises(made, key)?;
            return self.crash_controller(false).await;
        }
        self.promises(made, key)
    }

    fn promises(&mut self, made: Result<Made, AppError>, key: Option<String>) -> Step {
        let Made { job_id, replayed } = match made {
            Ok(made) => made,
            Err(AppError::Refused(refusal)) => {
                self.note(format_args!("operator is refused: {}", refusal.code));
                return Ok(());
            }
            Err(error) => return Err(Violation::unexplained(format!("an order failed: {error}"))),
        };
        self.note(format_args!("operator orders {job_id}, replayed {replayed}"));
        if let Some(key) = &key {
            let known = self.ledger.keys.insert(key.clone(), job_id.clone());
            let moved = known.as_ref().is_some_and(|known| *known != job_id);
            // A key is remembered for a day, by the controller's own clock.
            if replayed && moved {
                return Err(Violation::doubled(format!("the key {key} stands for two jobs")));
            }
        }
        if !replayed {
            self.report.jobs += 1;
            self.ledger.since_backup.insert(job_id.clone());
        }
        self.ledger.promised.insert(job_id, key);
        Ok(())
    }

    async fn a_job(&mut self, like: impl Fn(&Job) -> bool) -> Result<Option<JobId>, Violation> {
        let Some(running) = self.controller.process.as_ref() else { return Ok(None) };
        let page = running.app.store.jobs(&JobFilter::default(), &Page::first(1000)).await;
        let (jobs, _) = page.map_err(|error| failed(&error))?;
        let fitting: Vec<JobId> = jobs.into_iter().filter(like).map(|job| job.id).collect();
        Ok(self.dice.pick(&fitting).cloned())
    }

    fn answered(&mut self, what: &str, job: &JobId, done: Result<(), AppError>) -> Step {
        match done {
            Ok(()) => self.note(format_args!("operator {what} {job}")),
            Err(AppError::Refused(refusal)) => {
                self.note(format_args!("operator may not ({what} {job}): {}", refusal.code));
            }
            Err(error) => {
                return Err(Violation::unexplained(format!("{what} of {job} failed: {error}")));
            }
        }
        Ok(())
    }

    async fn cancels(&mut self) -> Step {
        let Some(job) = self.a_job(|job| !job.state.is_ended()).await? else { return Ok(()) };
        let Some(running) = self.controller.process.as_ref() else { return Ok(()) };
        let done = running.app.clone().cancel_job(job.clone()).await.map(|_| ());
        self.answered("cancels", &job, done)
    }

    async fn releases(&mut self) -> Step {
        let Some(job) = self.a_job(|job| job.state == JobState::Held).await? else {
            return Ok(());
        };
        let Some(running) = self.controller.process.as_ref() else { return Ok(()) };
        let done = running.app.clone().release_job(job.clone()).await.map(|_| ());
        self.answered("releases", &job, done)
    }

    async fn gives_up(&mut self) -> Step {
        let unknown =
            |job: &Job| job.state == JobState::Running && job.reason.as_deref() == Some("UNKNOWN");
        let Some(job) = self.a_job(unknown).await? else { return Ok(()) };
        let Some(running) = self.controller.process.as_ref() else { return Ok(()) };
        let done = running.app.clone().abandon_job(job.clone()).await.map(|_| ());
        self.answered("gives up", &job, done)
    }

    async fn retries(&mut self) -> Step {
        let Some(job) = self.a_job(|job| job.state.is_ended()).await? else { return Ok(()) };
        let asked = self.asked();
        let asked = Asked { idempotency: None, ..asked };
        let Some(running) = self.controller.process.as_ref() else { return Ok(()) };
        let made = running.app.clone().retry_job(job, &asked).await;
        self.promises(made, None)
    }

    pub(super) async fn revokes(&mut self, host: usize) -> Step {
        if self.hosts[host].revoked {
            return Ok(());
        }
        let id = self.hosts[host].id.clone();
        let Some(running) = self.controller.process.as_ref() else { return Ok(()) };
        let (app, hub) = (running.app.clone(), running.hub.clone());
        let asked = views::RevokeHost { kind: views::Revocation::Evict };
        let done = app.revoke_host(id.clone(), asked).await;
        done.map_err(|error| Violation::unexplained(format!("a revocation failed: {error}")))?;
        self.hosts[host].revoked = true;
        self.count("host revoked");
        self.note(format_args!("operator revokes {id}"));
        // The session's end follows the event.
        let conn = hub.inner().places.get(&id).map(|place| place.conn);
        if let Some(conn) = conn {
            self.session_closes(conn, hostler_protocol::message::close::REVOKED);
        }
        Ok(())
    }
}
