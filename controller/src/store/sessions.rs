//! Presence: which controller holds the session of which host.
//!
//! A host's epoch grows with each session and never comes twice, so that whoever acts on an old
//! session acts on nothing.

use hostler_protocol::id::{ControllerId, HostId};
use serde_json::json;

use super::db::{Tx, params};
use super::error::Failure;
use super::unit::{Done, Operation};
use super::{Store, StoreError};
use crate::domain::{EventKind, Micros, NewEvent, Subject};

impl Store {
    /// A host's session begins here; one that was open is replaced. Answers the session's epoch.
    ///
    /// # Errors
    /// [`StoreError::NoHost`] if no such host is enrolled, [`StoreError`] otherwise.
    pub async fn session_open(
        &self,
        host: &HostId,
        controller: &ControllerId,
        facts: serde_json::Value,
        build: &str,
        now: Micros,
    ) -> Result<u64, StoreError> {
        let operation = Open {
            host: host.clone(),
            controller: controller.clone(),
            facts,
            build: build.to_owned(),
            now,
        };
        self.commit(operation).await
    }

    /// A session ends. False if the host's session is another one by now, which stays.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn session_close(
        &self,
        host: &HostId,
        epoch: u64,
        now: Micros,
    ) -> Result<bool, StoreError> {
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        let closed = self.commit(Close { which: Which::One(host.clone(), epoch), now }).await?;
        Ok(closed == 1)
    }

    /// The sessions that are open at this controller, as the database knows it.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn sessions_at(
        &self,
        controller: &ControllerId,
    ) -> Result<Vec<(HostId, u64)>, StoreError> {
        let sql = "SELECT host_id, epoch FROM host_sessions WHERE controller_id = $1";
        self.read_all("sessions_at", sql, params![controller.as_str()], |row| {
            Ok((row.parsed()?, u64::try_from(row.int()?).unwrap_or(0)))
        })
        .await
    }

    /// Ends the sessions of a controller that is gone, or of all (`None`: at the start of the
    /// only controller there is). Answers how many were open.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn sessions_clear(
        &self,
        controller: Option<&ControllerId>,
        now: Micros,
    ) -> Result<u64, StoreError> {
        let which = match controller {
            Some(id) => Which::Controller(id.clone()),
            None => Which::All,
        };
        self.commit(Close { which, now }).await
    }
}

struct Open {
    host: HostId,
    controller: ControllerId,
    facts: serde_json::Value,
    build: String,
    now: Micros,
}

impl Operation for Open {
    type Reply = u64;

    fn name(&self) -> &'static str {
        "session_open"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<u64>, Failure> {
        let epoch = tx
            .fetch_one(
                "UPDATE hosts SET session_epoch = session_epoch + 1, facts = $2, \
                 agent_build = $3, last_seen_at = $4 WHERE id = $1 AND state = 'enrolled' \
                 RETURNING session_epoch",
                params![self.host.as_str(), self.facts.to_string(), self.build.as_str(), self.now],
                |row| row.int(),
            )
            .await?
            .ok_or(Failure::NoHost)?;
        tx.execute(
            "INSERT INTO host_sessions (host_id, controller_id, epoch, connected_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (host_id) DO UPDATE SET \
             controller_id = excluded.controller_id, epoch = excluded.epoch, \
             connected_at = excluded.connected_at",
            params![self.host.as_str(), self.controller.as_str(), epoch, self.now],
        )
        .await?;
        let document = json!({
            "epoch": epoch, "controller": self.controller.as_str(), "build": self.build,
        });
        let told = about(&self.host, EventKind::HostConnected, document, self.now);
        Ok(Done { reply: u64::try_from(epoch).unwrap_or(0), events: vec![told] })
    }
}

enum Which {
    One(HostId, i64),
    Controller(ControllerId),
    All,
}

struct Close {
    which: Which,
    now: Micros,
}

impl Operation for Close {
    type Reply = u64;

    fn name(&self) -> &'static str {
        "session_close"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<u64>, Failure> {
        let sql = "DELETE FROM host_sessions";
        let read = |row: &mut super::cells::Cells<'_>| Ok((row.parsed::<HostId>()?, row.int()?));
        let closed = match &self.which {
            Which::One(host, epoch) => {
                tx.fetch_as(
                    format!("{sql} WHERE host_id = $1 AND epoch = $2 RETURNING host_id, epoch"),
                    params![host.as_str(), *epoch],
                    read,
                )
                .await?
            }
            Which::Controller(id) => {
                tx.fetch_as(
                    format!("{sql} WHERE controller_id = $1 RETURNING host_id, epoch"),
                    params![id.as_str()],
                    read,
                )
                .await?
            }
            Which::All => tx.fetch_as(format!("{sql} RETURNING host_id, epoch"), &[], read).await?,
        };
        let mut events = Vec::with_capacity(closed.len());
        for (host, epoch) in &closed {
            tx.execute(
                "UPDATE hosts SET last_seen_at = $2 WHERE id = $1",
                params![host.as_str(), self.now],
            )
            .await?;
            let document = json!({ "epoch": epoch });
            events.push(about(host, EventKind::HostDisconnected, document, self.now));
        }
        Ok(Done { reply: u64::try_from(closed.len()).unwrap_or(0), events })
    }
}

fn about(host: &HostId, kind: EventKind, document: serde_json::Value, at: Micros) -> NewEvent {
    let subject = Subject { host: Some(host.clone()), ..Subject::default() };
    NewEvent { at, kind, subject, document }
}
