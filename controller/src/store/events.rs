//! The event log.

use super::cells::Cells;
use super::db::{Dialect, Tx, Value, json_rows, params};
use super::error::Failure;
use super::types::{EventFilter, PAGE_ROWS_MAX};
use super::{Store, StoreError};
use crate::domain::{Event, EventKind, Micros, NewEvent, Subject};

const COLUMNS: &[&str] =
    &["at:i", "kind", "site_id", "environment_id", "host_id", "job_id", "stack_id", "document"];

/// Appends events and answers the newest event's `seq`. On PostgreSQL the counter's row stays
/// locked until the commit, so this has to be the unit's last statement: `seq` then grows in
/// commit order and nobody waits longer than a commit takes.
pub(super) async fn append(tx: &mut Tx<'_>, events: &[NewEvent]) -> Result<i64, Failure> {
    if events.is_empty() {
        return newest(tx).await;
    }
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let rows = json_rows(events.iter().map(row));
    let source = tx.dialect().source(1, COLUMNS);
    let insert = "INSERT INTO events \
        (seq, at, kind, site_id, environment_id, host_id, job_id, stack_id, document) SELECT";
    let cells = "v.ordinal, v.at, v.kind, v.site_id, v.environment_id, v.host_id, v.job_id, v.stack_id, \
         v.document";
    let last = match tx.dialect() {
        Dialect::Sqlite => {
            let sql = format!("{insert} $2 + {cells} FROM {source}");
            let last = tx
                .fetch_one(
                    "UPDATE counters SET value = value + $1 WHERE name = 'event_seq' \
                     RETURNING value",
                    params![count],
                    |row| row.int(),
                )
                .await?;
            if let Some(last) = last {
                tx.execute(sql, &[rows, Value::from(last - count)]).await?;
            }
            last
        }
        Dialect::Postgres => {
            let sql = format!(
                "WITH counter AS (UPDATE counters SET value = value + $2 \
                 WHERE name = 'event_seq' RETURNING value), \
                 inserted AS ({insert} counter.value - $2 + {cells} FROM counter, {source}) \
                 SELECT value FROM counter"
            );
            tx.fetch_one(sql, &[rows, Value::from(count)], |row| row.int()).await?
        }
    };
    last.ok_or_else(|| Failure::unreadable("no event counter"))
}

fn row(event: &NewEvent) -> [Value<'_>; COLUMNS.len()] {
    let Subject { site, environment, host, job, stack } = &event.subject;
    [
        event.at.into(),
        event.kind.as_str().into(),
        site.as_ref().map(|id| id.as_str()).into(),
        environment.as_ref().map(|id| id.as_str()).into(),
        host.as_ref().map(|id| id.as_str()).into(),
        job.as_ref().map(|id| id.as_str()).into(),
        stack.as_ref().map(|id| id.as_str()).into(),
        (&event.document).into(),
    ]
}

async fn newest(tx: &mut Tx<'_>) -> Result<i64, Failure> {
    tx.fetch_one("SELECT value FROM counters WHERE name = 'event_seq'", &[], |row| row.int())
        .await?
        .ok_or_else(|| Failure::unreadable("no event counter"))
}

/// An event, or only its `seq` if a newer controller wrote it.
enum Read {
    Known(Box<Event>),
    Newer(i64),
}

fn read(row: &mut Cells<'_>) -> Result<Read, Failure> {
    let seq = row.int()?;
    let at = row.at()?;
    let Some(kind) = EventKind::parse(&row.text()?) else {
        return Ok(Read::Newer(seq));
    };
    let subject = Subject {
        site: row.opt_parsed()?,
        environment: row.opt_parsed()?,
        host: row.opt_parsed()?,
        job: row.opt_parsed()?,
        stack: row.opt_parsed()?,
    };
    let event = NewEvent { at, kind, subject, document: row.json()? };
    Ok(Read::Known(Box::new(Event { seq, event })))
}

impl Store {
    /// Events past `seq`, oldest first, at most `limit`. Kinds this controller does not know are
    /// left out.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn events_after(
        &self,
        seq: i64,
        limit: u32,
        filter: &EventFilter,
    ) -> Result<Vec<Event>, StoreError> {
        let operation = "events_after";
        let limit = limit.min(PAGE_ROWS_MAX);
        let mut reader = self.reader(operation).await?;
        let mut after = seq;
        loop {
            let found = page(&mut reader.tx(), after, limit, filter)
                .await
                .map_err(|failure| failure.named(operation))?;
            let full = found.len() == usize::try_from(limit).unwrap_or(usize::MAX);
            let mut events = Vec::with_capacity(found.len());
            for one in found {
                match one {
                    Read::Known(event) => events.push(*event),
                    Read::Newer(seq) => after = seq,
                }
            }
            // A page of nothing but unknown kinds must not look like the end of the log.
            if !events.is_empty() || !full || limit == 0 {
                return Ok(events);
            }
        }
    }

    /// The oldest and the newest event's `seq`; without any events the oldest is one past the
    /// newest.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn events_bounds(&self) -> Result<(i64, i64), StoreError> {
        let operation = "events_bounds";
        let mut reader = self.reader(operation).await?;
        let bounds = reader
            .tx()
            .fetch_one(
                "SELECT (SELECT min(seq) FROM events), value FROM counters \
                 WHERE name = 'event_seq'",
                &[],
                |row| Ok((row.opt_int()?, row.int()?)),
            )
            .await
            .map_err(|failure| failure.named(operation))?;
        let (oldest, newest) = bounds.unwrap_or((None, 0));
        Ok((oldest.unwrap_or(newest + 1), newest))
    }
}

async fn page(
    tx: &mut Tx<'_>,
    after: i64,
    limit: u32,
    filter: &EventFilter,
) -> Result<Vec<Read>, Failure> {
    let mut sql = "SELECT seq, at, kind, site_id, environment_id, host_id, job_id, stack_id, \
                   document FROM events WHERE seq > $1"
        .to_owned();
    let mut params = vec![Value::from(after)];
    let EventFilter { job, environment, host, site, stack } = filter;
    for (column, id) in [
        ("job_id", job.as_ref().map(|id| id.as_str())),
        ("environment_id", environment.as_ref().map(|id| id.as_str())),
        ("host_id", host.as_ref().map(|id| id.as_str())),
        ("site_id", site.as_ref().map(|id| id.as_str())),
        ("stack_id", stack.as_ref().map(|id| id.as_str())),
    ] {
        if let Some(id) = id {
            params.push(id.into());
            sql += &format!(" AND {column} = ${}", params.len());
        }
    }
    params.push(limit.into());
    sql += &format!(" ORDER BY seq LIMIT ${}", params.len());
    tx.fetch_as(sql, &params, read).await
}

/// The events to prune: a run from the oldest on, all older than `before`, leaving the newest
/// `keep_min`. Answers how many went.
pub(super) async fn prune(
    tx: &mut Tx<'_>,
    before: Micros,
    keep_min: u32,
    limit: u32,
) -> Result<u64, Failure> {
    let last = newest(tx).await? - i64::from(keep_min);
    let oldest = tx
        .fetch_as(
            "SELECT seq, at FROM events WHERE seq <= $1 ORDER BY seq LIMIT $2",
            params![last, limit],
            |row| Ok((row.int()?, row.at()?)),
        )
        .await?;
    let run = oldest.into_iter().take_while(|(_, at)| *at < before).last();
    match run {
        Some((seq, _)) => tx.execute("DELETE FROM events WHERE seq <= $1", params![seq]).await,
        None => Ok(0),
    }
}
