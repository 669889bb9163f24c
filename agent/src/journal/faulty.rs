//! A disk that fails, fills up or loses what was not synced, for tests.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

/// What a [`Disk`] does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Nothing,
    /// Every write and sync from the n-th on fails with that error.
    From(u64, io::ErrorKind),
}

#[derive(Debug)]
struct Bytes {
    /// What the program sees.
    seen: Vec<u8>,
    /// What a power cut would leave.
    synced: Vec<u8>,
    wrong: Wrong,
    operations: u64,
}

/// Bytes in memory that outlive the journal that uses them.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    bytes: Arc<Mutex<Bytes>>,
}

impl Disk {
    pub(super) fn new() -> Self {
        let bytes =
            Bytes { seen: Vec::new(), synced: Vec::new(), wrong: Wrong::Nothing, operations: 0 };
        Self { bytes: Arc::new(Mutex::new(bytes)) }
    }

    pub(super) fn backend(&self) -> Backend {
        Backend { bytes: self.bytes.clone() }
    }

    /// From now on this goes wrong, counted from now.
    pub(super) fn set(&self, wrong: Wrong) {
        let mut bytes = self.bytes.lock().unwrap();
        (bytes.wrong, bytes.operations) = (wrong, 0);
    }

    /// Writes and syncs since the last [`Disk::set`].
    pub(super) fn operations(&self) -> u64 {
        self.bytes.lock().unwrap().operations
    }

    /// Another disk with what a power cut would have left of this one.
    pub(super) fn after_power_cut(&self) -> Self {
        let synced = self.bytes.lock().unwrap().synced.clone();
        let disk = Self::new();
        {
            let mut bytes = disk.bytes.lock().unwrap();
            (bytes.seen, bytes.synced) = (synced.clone(), synced);
        }
        disk
    }
}

/// One opening of a [`Disk`].
#[derive(Debug)]
pub(super) struct Backend {
    bytes: Arc<Mutex<Bytes>>,
}

impl Backend {
    fn changing(&self) -> io::Result<MutexGuard<'_, Bytes>> {
        let mut bytes = self.bytes.lock().unwrap();
        bytes.operations += 1;
        match bytes.wrong {
            Wrong::From(first, kind) if bytes.operations >= first => Err(kind.into()),
            Wrong::From(..) | Wrong::Nothing => Ok(bytes),
        }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let part = bytes.seen.get(start..start + out.len());
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changing()?.seen.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut bytes = self.changing()?;
        bytes.synced = bytes.seen.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.changing()?;
        let start = usize::try_from(offset).unwrap();
        bytes.seen[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}
