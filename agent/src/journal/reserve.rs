//! Disk space held back, so that an outcome can be written when the disk is full.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::{FREE_BYTES_MIN, RESERVE_BYTES, disk_bytes};

/// A file of [`RESERVE_BYTES`] beside the journal, given up when an outcome needs the room.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    /// A reserve in that directory, taken now if there is room.
    pub(super) fn new(directory: &Path) -> Self {
        let mut reserve = Self { path: directory.join("journal.reserve"), held: false };
        reserve.take();
        reserve
    }

    /// Takes the space again if it was given up and there is room.
    pub(super) fn take(&mut self) {
        if self.held || self.free_bytes() < RESERVE_BYTES + FREE_BYTES_MIN {
            return;
        }
        let taken = File::create(&self.path).and_then(|file| {
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)
                .map_err(std::io::Error::from)
        });
        match taken {
            Ok(()) => self.held = true,
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "cannot hold back disk space for outcomes");
            }
        }
    }

    /// Gives the space up. True if there was any to give.
    pub(super) fn give_up(&mut self) -> bool {
        let had = std::mem::take(&mut self.held);
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot give up reserved disk space");
            return false;
        }
        had
    }

    /// Whether new work may be accepted.
    pub(super) fn has_room(&mut self) -> bool {
        self.take();
        self.free_bytes() >= FREE_BYTES_MIN
    }

    fn free_bytes(&self) -> u64 {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        // A file system that cannot be asked is not known to be full; writing will tell.
        disk_bytes(directory).map_or(u64::MAX, |(free, _)| free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_held_given_up_once_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(dir.path());
        let path = dir.path().join("journal.reserve");
        assert_eq!(path.metadata().unwrap().len(), RESERVE_BYTES);
        assert!(reserve.give_up());
        assert!(!path.exists());
        assert!(reserve.has_room());
        assert!(path.exists(), "the reserve is taken again once there is room");
    }
}
