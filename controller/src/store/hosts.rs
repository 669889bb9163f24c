//! Hosts.

use hostler_protocol::id::HostId;

use super::cells::Cells;
use super::db::{Tx, Value, params};
use super::environments::labels;
use super::error::Failure;
use super::read::List;
use super::types::{Page, Paged};
use super::{Store, StoreError};
use crate::domain::{BannedKey, Candidate, Host, HostState, Micros, Revocation};

pub(super) const COLUMNS: &str = "h.id, h.name, h.state, h.key_sha256, \
    h.certificate_expires_at, h.facts, h.agent_build, h.last_seen_at, \
    (SELECT count(*) FROM host_sessions p WHERE p.host_id = h.id), h.created_at, h.revoked_at, \
    h.revoked_as, h.candidate_key_sha256, h.candidate_expires_at, h.certificate_renewed_at, \
    h.recoveries, h.recovered_at, h.clock_skew_ms, h.labels, h.held_at";

pub(super) fn read(row: &mut Cells<'_>) -> Result<Host, Failure> {
    let host = Host {
        id: row.parsed()?,
        name: row.text()?,
        state: row.named("host state", HostState::parse)?,
        key_sha256: row.text()?,
        certificate_expires_at: row.at()?,
        facts: row.json()?,
        agent_build: row.opt_text()?,
        last_seen_at: row.opt_at()?,
        connected: row.bool()?,
        created_at: row.at()?,
        revoked_at: row.opt_at()?,
        revoked_as: row.opt_named("revocation", Revocation::parse)?,
        candidate: candidate(row.opt_text()?, row.opt_at()?),
        certificate_renewed_at: row.opt_at()?,
        recoveries: row.u32()?,
        recovered_at: row.opt_at()?,
        clock_skew_ms: row.opt_int()?,
        labels: row.json()?,
        held_at: row.opt_at()?,
    };
    Ok(host)
}

fn candidate(key: Option<String>, expires_at: Option<Micros>) -> Option<Candidate> {
    Some(Candidate { key_sha256: key?, certificate_expires_at: expires_at? })
}

fn values(host: &Host) -> Vec<Value<'_>> {
    vec![
        host.id.as_str().into(),
        host.name.as_str().into(),
        host.state.as_str().into(),
        host.key_sha256.as_str().into(),
        host.certificate_expires_at.into(),
        host.facts.to_string().into(),
        host.agent_build.as_deref().into(),
        host.last_seen_at.into(),
        host.revoked_at.into(),
        host.revoked_as.map(Revocation::as_str).into(),
        host.candidate.as_ref().map(|candidate| candidate.key_sha256.as_str()).into(),
        host.candidate.as_ref().map(|candidate| candidate.certificate_expires_at).into(),
        host.certificate_renewed_at.into(),
        host.recoveries.into(),
        host.recovered_at.into(),
        host.clock_skew_ms.into(),
        labels(&host.labels),
    ]
}

pub(super) async fn insert(tx: &mut Tx<'_>, host: &Host) -> Result<(), Failure> {
    let mut values = values(host);
    values.push(host.created_at.into());
    tx.execute(
        "INSERT INTO hosts (id, name, state, key_sha256, certificate_expires_at, facts, \
         agent_build, last_seen_at, revoked_at, revoked_as, candidate_key_sha256, \
         candidate_expires_at, certificate_renewed_at, recoveries, recovered_at, clock_skew_ms, \
         labels, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        &values,
    )
    .await?;
    Ok(())
}

pub(super) async fn update(tx: &mut Tx<'_>, host: &Host) -> Result<(), Failure> {
    let changed = tx
        .execute(
            "UPDATE hosts SET name = $2, state = $3, key_sha256 = $4, \
             certificate_expires_at = $5, facts = $6, agent_build = $7, last_seen_at = $8, \
             revoked_at = $9, revoked_as = $10, candidate_key_sha256 = $11, \
             candidate_expires_at = $12, certificate_renewed_at = $13, recoveries = $14, \
             recovered_at = $15, clock_skew_ms = $16, labels = $17 WHERE id = $1",
            &values(host),
        )
        .await?;
    if changed == 1 { Ok(()) } else { Err(Failure::Overtaken) }
}

/// Removes a host that nothing refers to any more; its session, if one is open, goes with it.
pub(super) async fn delete(tx: &mut Tx<'_>, id: &HostId) -> Result<(), Failure> {
    tx.execute("DELETE FROM host_sessions WHERE host_id = $1", params![id.as_str()]).await?;
    match tx.execute("DELETE FROM hosts WHERE id = $1", params![id.as_str()]).await? {
        1 => Ok(()),
        _gone => Err(Failure::Overtaken),
    }
}

/// Refuses a key from now on; one that is refused already stays as it is.
pub(super) async fn ban(tx: &mut Tx<'_>, key: &BannedKey) -> Result<(), Failure> {
    let BannedKey { key_sha256, host_id, host_name, banned_at } = key;
    tx.execute(
        "INSERT INTO banned_keys (key_sha256, host_id, host_name, banned_at) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (key_sha256) DO NOTHING",
        params![key_sha256.as_str(), host_id.as_str(), host_name.as_str(), *banned_at],
    )
    .await?;
    Ok(())
}

/// Whether a key is banned, and the enrolled host that accepts it.
pub(super) async fn key_use(
    tx: &mut Tx<'_>,
    key_sha256: &str,
) -> Result<(bool, Option<HostId>), Failure> {
    let sql = "SELECT (SELECT count(*) FROM banned_keys b WHERE b.key_sha256 = $1), \
        (SELECT h.id FROM hosts h WHERE h.state = 'enrolled' AND h.key_sha256 = $1), \
        (SELECT h.id FROM hosts h WHERE h.state = 'enrolled' AND h.candidate_key_sha256 = $1)";
    let read = |row: &mut Cells<'_>| {
        let banned = row.bool()?;
        let (committed, candidate) = (row.opt_parsed()?, row.opt_parsed()?);
        Ok((banned, committed.or(candidate)))
    };
    Ok(tx.fetch_one(sql, params![key_sha256], read).await?.unwrap_or_default())
}

/// An evicted host's name and key may be another's by now: the one that is enrolled counts, then
/// one whose name nobody else may have.
pub(super) const ENROLLED_FIRST: &str = "ORDER BY CASE WHEN h.state = 'enrolled' THEN 0 \
    WHEN h.revoked_as = 'ban' THEN 1 ELSE 2 END, h.created_at DESC LIMIT 1";

impl Store {
    /// The host of that id.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn host(&self, id: &HostId) -> Result<Option<Host>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM hosts h WHERE h.id = $1");
        self.read_one("host", sql, params![id.as_str()], read).await
    }

    /// The host with that key (SHA-256 of the SPKI, hex): the enrolled one, else the one revoked.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn host_by_key(&self, key_sha256: &str) -> Result<Option<Host>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM hosts h WHERE h.key_sha256 = $1 {ENROLLED_FIRST}");
        self.read_one("host_by_key", sql, params![key_sha256], read).await
    }

    /// Hosts by id, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn hosts(&self, page: &Page) -> Result<Paged<Host>, StoreError> {
        let list = List::new(format!("SELECT {COLUMNS} FROM hosts h"), "h.id");
        self.read_page("hosts", list, page, read, |host| host.id.as_str().to_owned()).await
    }
}
