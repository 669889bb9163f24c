//! The installation and the controllers that serve it.
//!
//! Invariants:
//! * an installation has one root, written once and never changed;
//! * a controller's `beats` only grows, so that others can tell by their own clocks alone whether it
//!   lives;
//! * a controller is called gone by a unit that names the count it was last seen at: of many that do so
//!   at once one succeeds, and none once it has moved again.

use hostler_protocol::id::ControllerId;

use super::cells::Cells;
use super::db::{Dialect, Tx, params};
use super::error::Failure;
use super::sessions::{self, Which};
use super::unit::{Done, Operation};
use super::{Store, StoreError, amend, migrate};
use crate::domain::Micros;

/// A controller that serves, or served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: ControllerId,
    /// Its machine's name.
    pub name: String,
    /// Where agents reach it, `host:port`.
    pub addresses: Vec<String>,
    pub build: String,
    pub schema_version: i64,
    /// Neither ended nor called gone.
    pub serving: bool,
    pub beats: i64,
    pub started_at: Micros,
    pub ended_at: Option<Micros>,
    /// Sessions the database has it hold.
    pub sessions: u64,
    /// As [`Entry::rules`].
    pub rules: Option<String>,
}

/// A controller as it enters.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: ControllerId,
    pub name: String,
    pub addresses: Vec<String>,
    pub build: String,
    /// Stands for what it says of hosts for stacks that name none; `None`: it looks at no repository.
    pub rules: Option<String>,
    pub now: Micros,
}

/// What ended with a controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    pub sessions: u64,
    /// Attempts that became unknown by it.
    pub unknown: u64,
}

impl Store {
    /// The pin of the installation's root, if one was ever written.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn root_pin(&self) -> Result<Option<String>, StoreError> {
        self.read_one("root_pin", "SELECT root_pin FROM installation", &[], |row| row.text()).await
    }

    /// Makes this the installation's root, unless it has one; answers the one it has.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn claim_installation(
        &self,
        root_pin: &str,
        now: Micros,
    ) -> Result<String, StoreError> {
        if let Some(known) = self.root_pin().await? {
            return Ok(known);
        }
        self.commit(Claim { root_pin: root_pin.to_owned(), now }).await
    }

    /// The database server's clock; `None` where the database has none but this process's.
    ///
    /// # Errors
    /// [`StoreError`] when it does not answer.
    pub async fn now(&self) -> Result<Option<Micros>, StoreError> {
        match self.dialect() {
            Dialect::Sqlite => Ok(None),
            Dialect::Postgres => {
                let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
                self.read_one("now", sql, &[], |row| row.at()).await
            }
        }
    }

    /// A controller serves from now on; it may have done so before.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn controller_enter(&self, entry: Entry) -> Result<(), StoreError> {
        self.commit(Enter(entry)).await
    }

    /// A controller lives. False if it has no place any more, since others called it gone: it has to
    /// enter again.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn controller_beat(&self, id: &ControllerId) -> Result<bool, StoreError> {
        self.commit(Beat(id.clone())).await
    }

    /// Every controller that is remembered.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn controllers(&self) -> Result<Vec<Peer>, StoreError> {
        let sql = "SELECT c.id, c.name, c.addresses, c.build, c.schema_version, c.state, c.beats, \
            c.started_at, c.ended_at, \
            (SELECT count(*) FROM host_sessions p WHERE p.controller_id = c.id), c.rules \
            FROM controllers c ORDER BY c.id";
        self.read_all("controllers", sql, &[], read).await
    }

    /// A controller ends by its own will: its sessions, if any is left, end with it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn controller_leave(
        &self,
        id: &ControllerId,
        now: Micros,
    ) -> Result<Option<Ended>, StoreError> {
        self.commit(Leave { id: id.clone(), beats: None, state: "stopped", now }).await
    }

    /// Calls a controller gone that still counts as many beats: ends its sessions, and what runs on
    /// their hosts is unknown until the hosts say more. Nothing is queued again by it. `None` if it has
    /// moved, or somebody else was first.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn controller_gone(
        &self,
        id: &ControllerId,
        beats: i64,
        now: Micros,
    ) -> Result<Option<Ended>, StoreError> {
        self.commit(Leave { id: id.clone(), beats: Some(beats), state: "gone", now }).await
    }

    /// Forgets controllers that ended before a time.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn prune_controllers(&self, before: Micros) -> Result<u64, StoreError> {
        self.commit(Prune { before }).await
    }
}

fn read(row: &mut Cells<'_>) -> Result<Peer, Failure> {
    Ok(Peer {
        id: row.parsed()?,
        name: row.text()?,
        addresses: row.json()?,
        build: row.text()?,
        schema_version: row.int()?,
        serving: row.text()? == "serving",
        beats: row.int()?,
        started_at: row.at()?,
        ended_at: row.opt_at()?,
        sessions: u64::try_from(row.int()?).unwrap_or(0),
        rules: row.opt_text()?,
    })
}

struct Claim {
    root_pin: String,
    now: Micros,
}

impl Operation for Claim {
    type Reply = String;

    fn name(&self) -> &'static str {
        "claim_installation"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<String>, Failure> {
        let sql = "INSERT INTO installation (id, root_pin, created_at) VALUES (1, $1, $2) \
            ON CONFLICT (id) DO NOTHING";
        tx.execute(sql, params![self.root_pin.as_str(), self.now]).await?;
        let known =
            tx.fetch_one("SELECT root_pin FROM installation", &[], |row| row.text()).await?;
        known.map(Done::silent).ok_or(Failure::Overtaken)
    }
}

struct Enter(Entry);

impl Operation for Enter {
    type Reply = ();

    fn name(&self) -> &'static str {
        "controller_enter"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<()>, Failure> {
        let Entry { id, name, addresses, build, rules, now } = &self.0;
        let addresses = serde_json::to_string(addresses).unwrap_or_default();
        let sql = "INSERT INTO controllers (id, name, addresses, build, schema_version, state, beats, \
            started_at, ended_at, rules) VALUES ($1, $2, $3, $4, $5, 'serving', 1, $6, NULL, $7) \
            ON CONFLICT (id) DO UPDATE SET name = excluded.name, addresses = excluded.addresses, \
            build = excluded.build, schema_version = excluded.schema_version, state = 'serving', \
            beats = controllers.beats + 1, started_at = excluded.started_at, ended_at = NULL, \
            rules = excluded.rules";
        let values = params![
            id.as_str(),
            name.as_str(),
            addresses,
            build.as_str(),
            migrate::KNOWN,
            *now,
            rules.as_deref(),
        ];
        tx.execute(sql, values).await?;
        Ok(Done::silent(()))
    }
}

struct Beat(ControllerId);

impl Operation for Beat {
    type Reply = bool;

    fn name(&self) -> &'static str {
        "controller_beat"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<bool>, Failure> {
        let sql = "UPDATE controllers SET beats = beats + 1 WHERE id = $1 AND state = 'serving'";
        tx.execute(sql, params![self.0.as_str()]).await.map(|rows| Done::silent(rows == 1))
    }
}

struct Leave {
    id: ControllerId,
    /// Only if it still counts so many.
    beats: Option<i64>,
    state: &'static str,
    now: Micros,
}

impl Operation for Leave {
    type Reply = Option<Ended>;

    fn name(&self) -> &'static str {
        "controller_leave"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<Option<Ended>>, Failure> {
        // Counted on as well, so that who looked at the same count comes too late.
        let sql = "UPDATE controllers SET state = $2, ended_at = $3, beats = beats + 1 \
            WHERE id = $1 AND ($4 < 0 OR beats = $4)";
        let values = params![self.id.as_str(), self.state, self.now, self.beats.unwrap_or(-1)];
        if tx.execute(sql, values).await? == 0 {
            return Ok(Done::silent(None));
        }
        // A host that moved has its one session elsewhere: it is not among these.
        let closed = sessions::close(tx, &Which::Controller(self.id.clone()), self.now).await?;
        let running = sessions::running(tx, &closed.reply).await?;
        let unknown = amend::unknown(tx, &running, self.now).await?;
        let ended = Ended {
            sessions: u64::try_from(closed.reply.len()).unwrap_or(0),
            unknown: u64::try_from(unknown.events.len()).unwrap_or(0),
        };
        let events = closed.events.into_iter().chain(unknown.events).collect();
        Ok(Done { reply: Some(ended), events })
    }
}

struct Prune {
    before: Micros,
}

impl Operation for Prune {
    type Reply = u64;

    fn name(&self) -> &'static str {
        "prune_controllers"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<u64>, Failure> {
        let sql = "DELETE FROM controllers WHERE state <> 'serving' AND ended_at < $1 \
            AND NOT EXISTS (SELECT 1 FROM host_sessions p WHERE p.controller_id = controllers.id)";
        tx.execute(sql, params![self.before]).await.map(Done::silent)
    }
}
