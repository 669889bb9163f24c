//! The tables, and what may happen to them. Blocking; only the journal's thread calls it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use hostler_protocol::id::JobId;
use hostler_protocol::message::AttemptRef;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, WriteTransaction,
};

use super::{Contents, JournalError, JournalFault, Kept, SETTLED_MAX, SETTLED_SECS, Unfinished};

type Key = (&'static str, u32);
/// Attempt → timeout in seconds, time of acceptance, spec.
const RUNNING: TableDefinition<'_, Key, (u32, i64, &[u8])> = TableDefinition::new("running");
/// Attempt → outcome document.
const FINISHED: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("finished");
/// Order of settling → attempt and time.
const SETTLED: TableDefinition<'_, u64, (&str, u32, i64)> = TableDefinition::new("settled");
/// Job → how often the agent stopped in the middle of it.
const CRASHES: TableDefinition<'_, &str, u32> = TableDefinition::new("crashes");

/// Bytes of redb's page cache: the journal is small and rarely read.
const CACHE_BYTES: usize = 512 * 1024;

/// One change.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Accept { attempt: AttemptRef, timeout_secs: u32, at_us: i64, spec: Vec<u8> },
    Finish { attempt: AttemptRef, outcome: Vec<u8> },
    Forget { attempt: AttemptRef, at_us: i64 },
}

impl Change {
    /// Whether somebody is told that it is on disk. A lost `Forget` is merely repeated.
    pub(super) fn durable(&self) -> bool {
        match self {
            Self::Accept { .. } | Self::Finish { .. } => true,
            Self::Forget { .. } => false,
        }
    }
}

/// Where the bytes lie.
#[derive(Debug)]
pub(super) enum Place {
    File(PathBuf),
    /// Memory that fails as it is told to, for tests.
    Memory(super::disk::Disk),
}

impl Place {
    fn open(&self) -> Result<Database, DatabaseError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        self.drop_half_made()?;
        match self {
            Self::File(path) => builder.create(path),
            Self::Memory(disk) => builder.create_with_backend(disk.backend()),
        }
    }

    /// Empties a file whose making was cut off by a full disk or a power cut: redb writes its mark
    /// last, and refuses a file without it. Nothing was ever promised from such a file, and an
    /// agent that could not start for it would be of no use until somebody removed it.
    fn drop_half_made(&self) -> io::Result<()> {
        match self {
            Self::Memory(disk) => disk.clear_if(is_half_made),
            Self::File(path) => {
                let file = match File::options().read(true).write(true).open(path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                    Err(error) => return Err(error),
                };
                // Whoever holds it is making it now, or has made it; redb says which.
                if file.try_lock().is_err() {
                    return Ok(());
                }
                let mut begins = [0; MARK_BYTES];
                let half = file.read_exact_at(&mut begins, 0).map(|()| is_half_made(&begins));
                match half {
                    Ok(true) => file.set_len(0),
                    Ok(false) => Ok(()),
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => file.set_len(0),
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Memory(_) => PathBuf::from("(memory)"),
        }
    }

    /// The directory to hold space back in.
    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Self::File(path) => path.parent(),
            Self::Memory(_) => None,
        }
    }
}

/// Bytes of the mark a database begins with.
const MARK_BYTES: usize = 9;

/// Whether a file that begins like this has no mark yet.
fn is_half_made(bytes: &[u8]) -> bool {
    bytes.iter().take(MARK_BYTES).all(|byte| *byte == 0)
}

/// The open journal.
#[derive(Debug)]
pub(super) struct Store {
    place: Place,
    /// `None` after a fault, until it was opened again.
    database: Option<Database>,
}

impl Store {
    /// Opens or creates the journal, counts the crash of whatever was running, and reads it.
    pub(super) fn open(place: Place) -> Result<(Self, Contents), JournalError> {
        let path = place.path();
        let database = place.open().map_err(|error| {
            if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
                return JournalError::Held { path: path.clone() };
            }
            JournalError::Open { path: path.clone(), source: Box::new(error.into()) }
        })?;
        let contents = load(&database)
            .map_err(|source| JournalError::Open { path: path.clone(), source: Box::new(source) })?
            .map_err(|row| JournalError::Row { path, row })?;
        Ok((Self { place, database: Some(database) }, contents))
    }

    /// Applies changes as one transaction.
    pub(super) fn apply(&mut self, changes: &[&Change]) -> Result<(), JournalFault> {
        let done = self.database().and_then(|database| commit(database, changes));
        self.settle(done)
    }

    /// Reads a finished attempt's outcome.
    pub(super) fn outcome(
        &mut self,
        attempt: &AttemptRef,
    ) -> Result<Option<Vec<u8>>, JournalFault> {
        let read = self.database().and_then(|database| {
            let table = database.begin_read()?.open_table(FINISHED)?;
            Ok(table
                .get((attempt.job.as_str(), attempt.attempt))?
                .map(|outcome| outcome.value().to_vec()))
        });
        self.settle(read)
    }

    fn database(&mut self) -> Result<&Database, redb::Error> {
        if self.database.is_none() {
            self.database = Some(self.place.open()?);
        }
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    /// After a fault redb refuses everything: the file is closed and opened again the next time.
    fn settle<T>(&mut self, done: Result<T, redb::Error>) -> Result<T, JournalFault> {
        done.map_err(|error| {
            self.database = None;
            let full = matches!(&error, redb::Error::Io(io) if io.kind() == ErrorKind::StorageFull);
            let fault = if full { JournalFault::NoSpace } else { JournalFault::Failed };
            tracing::error!(%error, "the journal could not be used");
            fault
        })
    }
}

fn commit(database: &Database, changes: &[&Change]) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    let durable = changes.iter().any(|change| change.durable());
    txn.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
    for change in changes {
        write(&txn, change)?;
    }
    txn.commit()?;
    Ok(())
}

fn write(txn: &WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    match change {
        Change::Accept { attempt, timeout_secs, at_us, spec } => {
            let key = (attempt.job.as_str(), attempt.attempt);
            txn.open_table(RUNNING)?.insert(key, (*timeout_secs, *at_us, spec.as_slice()))?;
        }
        Change::Finish { attempt, outcome } => {
            let key = (attempt.job.as_str(), attempt.attempt);
            txn.open_table(RUNNING)?.remove(key)?;
            txn.open_table(FINISHED)?.insert(key, outcome.as_slice())?;
        }
        Change::Forget { attempt, at_us } => {
            let key = (attempt.job.as_str(), attempt.attempt);
            txn.open_table(FINISHED)?.remove(key)?;
            let mut settled = txn.open_table(SETTLED)?;
            let next = settled.last()?.map_or(0, |(order, _)| order.value() + 1);
            settled.insert(next, (attempt.job.as_str(), attempt.attempt, *at_us))?;
            prune(&mut settled, *at_us)?;
        }
    }
    Ok(())
}

/// Forgets the oldest settled attempts beyond the count, and those beyond the age.
fn prune(
    settled: &mut redb::Table<'_, u64, (&str, u32, i64)>,
    now_us: i64,
) -> Result<(), StorageError> {
    use redb::ReadableTableMetadata;
    let oldest_us = now_us - SETTLED_SECS * 1_000_000;
    loop {
        let over = settled.len()? > SETTLED_MAX as u64;
        let Some((order, old)) =
            settled.first()?.map(|(order, row)| (order.value(), row.value().2 < oldest_us))
        else {
            return Ok(());
        };
        if !over && !old {
            return Ok(());
        }
        settled.remove(order)?;
    }
}

/// Counts what a journal holds without changing it: attempts unfinished, and unacknowledged.
pub(super) fn count(path: &Path) -> Result<(u64, u64), DatabaseError> {
    use redb::ReadableTableMetadata;
    let database = Database::builder().open_read_only(path)?;
    let count = || -> Result<(u64, u64), redb::Error> {
        let txn = database.begin_read()?;
        Ok((txn.open_table(RUNNING)?.len()?, txn.open_table(FINISHED)?.len()?))
    };
    Ok(count().unwrap_or_default())
}

/// Reads everything; the inner error is a row that is not valid.
fn load(database: &Database) -> Result<Result<Contents, String>, redb::Error> {
    let txn = database.begin_write()?;
    let mut contents = Contents::default();
    {
        let running = txn.open_table(RUNNING)?;
        let mut crashes = txn.open_table(CRASHES)?;
        for row in running.iter()? {
            let (key, value) = row?;
            let Ok(attempt) = attempt_of(key.value()) else {
                return Ok(Err(key.value().0.to_owned()));
            };
            let job = attempt.job.as_str().to_owned();
            let count = crashes.get(job.as_str())?.map_or(0, |count| count.value()) + 1;
            crashes.insert(job.as_str(), count)?;
            let (_, accepted_at_us, spec) = value.value();
            let spec = spec.to_vec();
            contents.unfinished.push(Unfinished { attempt, accepted_at_us, spec, crashes: count });
        }
        if contents.unfinished.is_empty() {
            // Nothing was cut off: whatever was counted has ended or moved on since.
            crashes.retain(|_, _| false)?;
        }
        for row in txn.open_table(FINISHED)?.iter()? {
            let (key, outcome) = row?;
            let bytes = outcome.value().len() as u64;
            match attempt_of(key.value()) {
                Ok(attempt) => contents.finished.push(Kept { attempt, bytes }),
                Err(row) => return Ok(Err(row)),
            }
        }
        for row in txn.open_table(SETTLED)?.iter()? {
            let (_, value) = row?;
            let (job, number, _) = value.value();
            match attempt_of((job, number)) {
                Ok(attempt) => contents.settled.push(attempt),
                Err(row) => return Ok(Err(row)),
            }
        }
    }
    txn.commit()?;
    Ok(Ok(contents))
}

fn attempt_of((job, attempt): (&str, u32)) -> Result<AttemptRef, String> {
    let job: JobId = job.parse().map_err(|_| job.to_owned())?;
    Ok(AttemptRef { job, attempt })
}
