//! Disk space held back, so that an outcome can be written when the disk is full.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::{FREE_BYTES_MIN, disk_bytes};

/// A file beside the journal, given up when an outcome needs the room.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// How large it is.
    bytes: u64,
    held: bool,
    /// Free bytes in a directory.
    free: fn(&Path) -> u64,
}

impl Reserve {
    /// A reserve of so many bytes in that directory: the one an agent before this one held, or one
    /// that is taken now if there is room.
    pub(super) fn new(directory: &Path, bytes: u64) -> Self {
        Self::on(directory, bytes, free_bytes)
    }

    fn on(directory: &Path, bytes: u64, free: fn(&Path) -> u64) -> Self {
        let path = directory.join("journal.reserve");
        let held = holds(&path, bytes);
        let mut reserve = Self { path, bytes, held, free };
        reserve.take();
        reserve
    }

    /// Takes the space again if it was given up and there is room.
    pub(super) fn take(&mut self) {
        if self.held || self.free_bytes() < self.bytes + FREE_BYTES_MIN {
            return;
        }
        let taken = File::create(&self.path).and_then(|file| {
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes)
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

    /// Whether new work may be accepted: what is free then is the reserve, where there is none.
    pub(super) fn has_room(&mut self) -> bool {
        self.take();
        let free = self.free_bytes();
        free >= FREE_BYTES_MIN && (self.held || free >= self.bytes)
    }

    fn free_bytes(&self) -> u64 {
        (self.free)(self.path.parent().unwrap_or(Path::new("/")))
    }
}

/// A file system that cannot be asked is not known to be full; writing will tell.
fn free_bytes(directory: &Path) -> u64 {
    disk_bytes(directory).map_or(u64::MAX, |(free, _)| free)
}

/// Whether that file takes up so many bytes of the disk, and not only says so.
fn holds(path: &Path, bytes: u64) -> bool {
    path.metadata().is_ok_and(|file| file.len() >= bytes && file.blocks() * 512 >= bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_held_given_up_once_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = crate::journal::reserve_bytes(8);
        assert!(bytes > crate::journal::RESERVE_BYTES);
        let mut reserve = Reserve::new(dir.path(), bytes);
        let path = dir.path().join("journal.reserve");
        assert_eq!(path.metadata().unwrap().len(), bytes);
        assert!(reserve.give_up());
        assert!(!path.exists());
        assert!(reserve.has_room());
        assert!(path.exists(), "the reserve is taken again once there is room");
    }

    #[test]
    fn a_restarted_agent_has_what_the_one_before_it_held() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = 2 * FREE_BYTES_MIN;
        let before = Reserve::new(dir.path(), bytes);
        assert!(before.held);
        // Room for new work, and none for a second reserve.
        let mut after = Reserve::on(dir.path(), bytes, |_| FREE_BYTES_MIN);
        assert!(after.has_room());
        assert!(after.give_up(), "an outcome may have it at once");
        assert!(!after.has_room());
        // A file that only says it is that large holds nothing.
        let file = File::create(dir.path().join("journal.reserve")).unwrap();
        file.set_len(bytes).unwrap();
        assert!(!Reserve::on(dir.path(), bytes, |_| FREE_BYTES_MIN).has_room());
    }
}
