//! Presence: which controller holds the session of which host.
//!
//! A host's epoch grows with each session and never comes twice, so that whoever acts on an old
//! session acts on nothing.

use hostler_protocol::id::{BootId, ControllerId, HostId};
use serde_json::json;

use super::db::{Dialect, Tx, Value, json_rows, params};
use super::error::Failure;
use super::unit::{Done, Operation};
use super::{AttemptRef, Store, StoreError, amend};
use crate::domain::{EventKind, Lineage, Micros, NewEvent, Subject};

impl Store {
    /// A host's session begins here; one that was open is replaced. The candidate key, if that is
    /// what was shown, is committed with it: the key before is worth nothing from then on.
    /// Answers the session's epoch. What the `Hello` proves of the host's processes is noted; if
    /// two are alive the host is held from then on, and no session is open.
    ///
    /// # Errors
    /// [`StoreError::NoHost`] if no such host is enrolled with that key, [`StoreError::HostHeld`],
    /// [`StoreError`] otherwise.
    pub async fn session_open(&self, opening: Opening) -> Result<u64, StoreError> {
        let epoch = self.commit(opening).await?;
        epoch.ok_or(StoreError::HostHeld { operation: "session_open" })
    }

    /// A session ends, and what runs on its host is unknown until the host says more. False if the
    /// host's session is another one by now, which stays.
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

    /// The epoch of a host's session, at whichever controller it is.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn session_of(&self, host: &HostId) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT epoch FROM host_sessions WHERE host_id = $1";
        self.read_one("session_of", sql, params![host.as_str()], |row| {
            Ok(u64::try_from(row.int()?).unwrap_or(0))
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
    /// The agent's process.
    pub boot: BootId,
    /// In which epoch that process says it was last welcomed.
    pub welcomed: Option<u64>,
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

impl Opening {
    /// Whether the host's lineage shows two agents with this session, which is added to it.
    async fn is_one_of_two(&self, tx: &mut Tx<'_>, epoch: i64) -> Result<bool, Failure> {
        let sql = "SELECT lineage FROM hosts WHERE id = $1";
        let known =
            tx.fetch_one(sql, params![self.host.as_str()], |row| row.json::<Lineage>()).await?;
        let mut lineage = known.unwrap_or_default();
        let epoch = u64::try_from(epoch).unwrap_or(0);
        let two = lineage.open(&self.boot, self.welcomed, epoch);
        let text = serde_json::to_string(&lineage).unwrap_or_default();
        let held_at = two.then_some(self.now);
        tx.execute(
            "UPDATE hosts SET lineage = $2, held_at = $3 WHERE id = $1",
            params![self.host.as_str(), text, held_at],
        )
        .await?;
        Ok(two)
    }

    /// Lets neither of two agents in: the session that is open ends too.
    async fn hold(&self, tx: &mut Tx<'_>, epoch: i64) -> Result<Done<Option<u64>>, Failure> {
        let sql = "DELETE FROM host_sessions WHERE host_id = $1";
        tx.execute(sql, params![self.host.as_str()]).await?;
        let document = json!({ "epoch": epoch, "reason": "CLONED" });
        let told = about(&self.host, EventKind::HostHeld, document, self.now);
        Ok(Done { reply: None, events: vec![told] })
    }
}

impl Operation for Opening {
    /// The epoch, unless the host is held with this session.
    type Reply = Option<u64>;

    fn name(&self) -> &'static str {
        "session_open"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<Option<u64>>, Failure> {
        let sql = "SELECT held_at FROM hosts WHERE id = $1 AND held_at IS NOT NULL";
        let held = tx.fetch_one(sql, params![self.host.as_str()], |row| row.opt_at()).await?;
        if held.is_some() {
            return Err(Failure::HostHeld);
        }
        let (epoch, renewed) = self.enter(tx).await?;
        if self.is_one_of_two(tx, epoch).await? {
            return self.hold(tx, epoch).await;
        }
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
        Ok(Done { reply: u64::try_from(epoch).ok(), events })
    }
}

pub(super) enum Which {
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
        let Done { reply: closed, mut events } = close(tx, &self.which, self.now).await?;
        if let Which::One(..) = self.which {
            // In this unit, or another controller could hear from the host that an attempt goes on
            // before it is called unknown here.
            let running = running(tx, &closed).await?;
            events.extend(amend::unknown(tx, &running, self.now).await?.events);
        }
        Ok(Done { reply: u64::try_from(closed.len()).unwrap_or(0), events })
    }
}

/// What runs on hosts whose sessions were closed.
pub(super) async fn running(
    tx: &mut Tx<'_>,
    closed: &[(HostId, i64)],
) -> Result<Vec<AttemptRef>, Failure> {
    if closed.is_empty() {
        return Ok(Vec::new());
    }
    let source = tx.dialect().source(1, &["host"]);
    let sql = format!(
        "SELECT id, attempt FROM jobs WHERE state = 'running' \
         AND host_id IN (SELECT v.host FROM {source}) ORDER BY id"
    );
    let hosts = json_rows(closed.iter().map(|(host, _)| [host.as_str().into()]));
    tx.fetch_as(sql, &[hosts], |row| Ok(AttemptRef { job: row.parsed()?, attempt: row.u32()? }))
        .await
}

/// Ends sessions within a unit; answers their hosts and epochs.
pub(super) async fn close(
    tx: &mut Tx<'_>,
    which: &Which,
    now: Micros,
) -> Result<Done<Vec<(HostId, i64)>>, Failure> {
    let (condition, values): (_, Vec<Value<'_>>) = match which {
        Which::One(host, epoch) => {
            ("WHERE host_id = $1 AND epoch = $2", vec![host.as_str().into(), (*epoch).into()])
        }
        Which::Controller(id) => ("WHERE controller_id = $1", vec![id.as_str().into()]),
        Which::All => ("", Vec::new()),
    };
    if tx.dialect() == Dialect::Postgres {
        // Hosts before their sessions, as whoever opens one does: else the two wait for each other.
        let sql = format!(
            "SELECT id FROM hosts WHERE id IN (SELECT host_id FROM host_sessions {condition}) \
             ORDER BY id FOR UPDATE"
        );
        tx.execute(sql, &values).await?;
    }
    let sql = format!("DELETE FROM host_sessions {condition} RETURNING host_id, epoch");
    let closed = tx.fetch_as(sql, &values, |row| Ok((row.parsed::<HostId>()?, row.int()?))).await?;
    let mut events = Vec::with_capacity(closed.len());
    for (host, epoch) in &closed {
        tx.execute("UPDATE hosts SET last_seen_at = $2 WHERE id = $1", params![host.as_str(), now])
            .await?;
        let document = json!({ "epoch": epoch });
        events.push(about(host, EventKind::HostDisconnected, document, now));
    }
    Ok(Done { reply: closed, events })
}

fn about(host: &HostId, kind: EventKind, document: serde_json::Value, at: Micros) -> NewEvent {
    let subject = Subject { host: Some(host.clone()), ..Subject::default() };
    NewEvent { at, kind, subject, document }
}
