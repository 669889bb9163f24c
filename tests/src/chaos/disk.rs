//! A small file system of its own, to be full at will.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::net::run;
use crate::servers::ServerError;

/// Bytes written at once when the file system is filled.
const CHUNK_BYTES: usize = 256 * 1024;

/// An ext4 file system in a file, mounted in this process's mount namespace. The kernel unmounts it
/// and gives the loop device back when the last process of the namespace has ended.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Makes one of so many MiB in `image` and mounts it at `at`.
    ///
    /// # Errors
    /// What `mkfs.ext4` or `mount` said.
    pub fn make(image: &Path, at: &Path, mib: u64) -> Result<Self, ServerError> {
        let failed = |error| ServerError::new("making a small disk", error);
        File::create(image).and_then(|file| file.set_len(mib * 1024 * 1024)).map_err(failed)?;
        std::fs::create_dir_all(at).map_err(failed)?;
        let (image, place) = (image.to_string_lossy(), at.to_string_lossy());
        run("mkfs.ext4", &["-q", "-m", "0", "-F", &image])?;
        run("mount", &["-o", "loop", &image, &place])?;
        // An agent takes no state directory in which there is something else.
        std::fs::remove_dir(at.join("lost+found")).map_err(failed)?;
        Ok(Self { at: at.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Writes until nothing more fits.
    ///
    /// # Errors
    /// Any other error than that of a full disk.
    pub fn fill(&self) -> Result<(), ServerError> {
        let failed = |error| ServerError::new("filling a small disk", error);
        let mut file = File::create(self.ballast()).map_err(failed)?;
        let mut chunk = vec![1; CHUNK_BYTES];
        while !chunk.is_empty() {
            match file.write(&chunk) {
                Ok(_) => {}
                // Smaller and smaller, until not one block is left.
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    chunk.truncate(if chunk.len() > 4096 { 4096 } else { 0 });
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When the file that took it cannot be removed.
    pub fn free(&self) -> Result<(), ServerError> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(ServerError::new("freeing a small disk", error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
