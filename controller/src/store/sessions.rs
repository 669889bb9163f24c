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
    /// A host's session begins here; one that was open is replaced. The candidate key, if that is
    /// what was shown, is committed with it: the key before is worth nothing from then on.
    /// Answers the session's epoch.
    ///
    /// # Errors
    /// [`StoreError::NoHost`] if no such host is enrolled with that key, [`StoreError`] otherwise.
    pub async fn session_open(&self, opening: Opening) -> Result<u64, StoreError> {
        self.commit(opening).await
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

/// A session that begins.
#[derive(Debug, Clone)]
pub struct Opening {
    pub host: HostId,
    pub controller: ControllerId,
    /// Of the certificate that was shown.
    pub key_sha256: String,
    pub certificate_expires_at: Micros,
    pub facts: serde_json::Value,
    pub build: String,
    pub clock_skew_ms: i64,
    pub now: Micros,
}

/// What every beginning session writes.
const SEEN: &str = "session_epoch = session_epoch + 1, facts = $2, agent_build = $3, \
    last_seen_at = $4, certificate_expires_at = $6, clock_skew_ms = $7";

impl Opening {
    async fn enter(&self, tx: &mut Tx<'_>) -> Result<(i64, bool), Failure> {
        let values = params![
            self.host.as_str(),
            self.facts.to_string(),
            self.build.as_str(),
            self.now,
            self.key_sha256.as_str(),
            self.certificate_expires_at,
            self.clock_skew_ms,
        ];
        let sql = format!(
            "UPDATE hosts SET {SEEN} WHERE id = $1 AND state = 'enrolled' AND key_sha256 = $5 \
             RETURNING session_epoch"
        );
        if let Some(epoch) = tx.fetch_one(sql, values, |row| row.int()).await? {
            return Ok((epoch, false));
        }
        let sql = format!(
            "UPDATE hosts SET {SEEN}, key_sha256 = $5, candidate_key_sha256 = NULL, \
             candidate_expires_at = NULL, certificate_renewed_at = $4 WHERE id = $1 \
             AND state = 'enrolled' AND candidate_key_sha256 = $5 RETURNING session_epoch"
        );
        let epoch = tx.fetch_one(sql, values, |row| row.int()).await?.ok_or(Failure::NoHost)?;
        Ok((epoch, true))
    }
}

impl Operation for Opening {
    type Reply = u64;

    fn name(&self) -> &'static str {
        "session_open"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<u64>, Failure> {
        let (epoch, renewed) = self.enter(tx).await?;
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
        let mut events = Vec::with_capacity(2);
        if renewed {
            let document = json!({
                "key_sha256": self.key_sha256,
                "certificate_expires_at_us": self.certificate_expires_at.0,
            });
            events.push(about(&self.host, EventKind::HostCertificateRenewed, document, self.now));
        }
        events.push(about(&self.host, EventKind::HostConnected, document, self.now));
        Ok(Done { reply: u64::try_from(epoch).unwrap_or(0), events })
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
