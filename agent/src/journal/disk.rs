//! A disk in memory that fails, fills up, is cut from its power and lies: for tests only.
//!
//! A write is *seen* at once and *synced* by the next sync. Killing the process keeps what was
//! seen; a power cut keeps what was synced, and of every write since then whatever the one who
//! cuts says: all of it, its first bytes, or nothing.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// What a [`Disk`] does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    /// Every write and sync from the n-th on fails with that error.
    From(u64, io::ErrorKind),
    /// Writes work, every sync fails with that error and makes nothing durable.
    Syncs(io::ErrorKind),
    /// Every sync says it worked and makes nothing durable: no journal survives such a disk.
    Lies,
}

/// A change that is not synced yet.
#[derive(Debug, Clone)]
enum Pending {
    Length(usize),
    Write { offset: usize, data: Vec<u8> },
}

#[derive(Debug)]
struct Bytes {
    /// What the program sees.
    seen: Vec<u8>,
    /// What a power cut would leave at least.
    synced: Vec<u8>,
    pending: Vec<Pending>,
    wrong: Wrong,
    operations: u64,
}

/// Bytes in memory that outlive the journal that uses them.
#[derive(Debug, Clone)]
pub struct Disk {
    bytes: Arc<Mutex<Bytes>>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk {
    /// An empty disk on which nothing goes wrong.
    #[must_use]
    pub fn new() -> Self {
        Self::holding(Vec::new())
    }

    fn holding(bytes: Vec<u8>) -> Self {
        let bytes = Bytes {
            seen: bytes.clone(),
            synced: bytes,
            pending: Vec::new(),
            wrong: Wrong::Nothing,
            operations: 0,
        };
        Self { bytes: Arc::new(Mutex::new(bytes)) }
    }

    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn backend(&self) -> Backend {
        Backend { disk: self.clone() }
    }

    /// Empties the disk if what is seen of it is like that.
    pub(super) fn clear_if(&self, like: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        if like(&self.bytes().seen) { self.backend().set_len(0) } else { Ok(()) }
    }

    /// From now on this goes wrong, counted from now.
    pub fn set(&self, wrong: Wrong) {
        let mut bytes = self.bytes();
        (bytes.wrong, bytes.operations) = (wrong, 0);
    }

    /// Writes and syncs since the last [`Disk::set`].
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.bytes().operations
    }

    /// Another disk with what a power cut would have left of this one, had it lost every write
    /// that was not synced.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        Self::holding(self.bytes().synced.clone())
    }

    /// As [`Disk::after_power_cut`], with some of the writes that were not synced: `kept` is asked
    /// how many bytes of a write of so many bytes at that offset reached the disk. It is asked in
    /// the order of offsets, since a disk writes in whatever order it likes.
    #[must_use]
    pub fn after_torn_power_cut(&self, mut kept: impl FnMut(usize, usize) -> usize) -> Self {
        let bytes = self.bytes();
        let mut left = bytes.synced.clone();
        let mut writes = Vec::new();
        for pending in &bytes.pending {
            match pending {
                Pending::Length(length) => left.resize(*length, 0),
                Pending::Write { offset, data } => writes.push((*offset, data)),
            }
        }
        // Stable: of two writes to one place the later one is still asked for after the earlier.
        writes.sort_by_key(|(offset, data)| (*offset, data.len()));
        for (offset, data) in writes {
            let whole = kept(offset, data.len()).min(data.len());
            let end = (offset + whole).min(left.len());
            if offset < end {
                left[offset..end].copy_from_slice(&data[..end - offset]);
            }
        }
        Self::holding(left)
    }

    /// Another disk with everything that was written, as it is after the process was killed.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let bytes = self.bytes();
        let disk = Self::holding(bytes.seen.clone());
        {
            let mut after = disk.bytes();
            after.synced.clone_from(&bytes.synced);
            after.pending.clone_from(&bytes.pending);
            after.wrong = bytes.wrong;
        }
        disk
    }
}

/// One opening of a [`Disk`].
#[derive(Debug)]
pub(super) struct Backend {
    disk: Disk,
}

impl Backend {
    fn changing(&self) -> io::Result<MutexGuard<'_, Bytes>> {
        let mut bytes = self.disk.bytes();
        bytes.operations += 1;
        match bytes.wrong {
            Wrong::From(first, kind) if bytes.operations >= first => Err(kind.into()),
            Wrong::From(..) | Wrong::Syncs(_) | Wrong::Lies | Wrong::Nothing => Ok(bytes),
        }
    }
}

/// A place in memory; no file of this process is too large for it.
fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.bytes().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.disk.bytes();
        let start = place(offset)?;
        let part = bytes.seen.get(start..start + out.len());
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let length = place(len)?;
        let mut bytes = self.changing()?;
        bytes.seen.resize(length, 0);
        bytes.pending.push(Pending::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut guard = self.changing()?;
        let bytes = &mut *guard;
        match bytes.wrong {
            Wrong::Syncs(kind) => return Err(kind.into()),
            Wrong::Lies => return Ok(()),
            Wrong::Nothing | Wrong::From(..) => {}
        }
        for pending in bytes.pending.drain(..) {
            match pending {
                Pending::Length(length) => bytes.synced.resize(length, 0),
                Pending::Write { offset, data } => {
                    bytes.synced[offset..offset + data.len()].copy_from_slice(&data);
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = place(offset)?;
        let mut bytes = self.changing()?;
        let part = bytes.seen.get_mut(start..start + data.len());
        part.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        bytes.pending.push(Pending::Write { offset: start, data: data.to_vec() });
        Ok(())
    }
}
