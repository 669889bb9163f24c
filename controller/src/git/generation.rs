//! The mirror's directory: one bare repository that is current, and the ones on their way out.
//!
//! ```text
//! lock         held while a controller uses the directory
//! current      the name of the repository that is read
//! g-7/         a bare repository; its refs/hostler/tip is what was last accepted
//! ```
//!
//! `current` and the tip are replaced whole, so that a crash leaves the old or the new one. All
//! else that it may leave is cleared away at the next start.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gix::ThreadSafeRepository;

use super::commit::Tip;
use super::error::GitError;
use super::settings::GitLimits;

/// The reference that names what was last accepted.
const TIP: &str = "refs/hostler/tip";
const CURRENT: &str = "current";
const PREFIX: &str = "g-";

/// A repository's directory, removed once it is retired and nobody reads it any more.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    retired: AtomicBool,
    /// Something in it could not be read: it is not built upon.
    suspect: AtomicBool,
}

impl Place {
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    pub(super) fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many packs have gathered.
    pub(super) fn packs(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.path.join("objects/pack")) else { return 0 };
        entries.flatten().filter(|entry| entry.path().extension() == Some("pack".as_ref())).count()
    }

    /// Opens the repository with all packs that are there now.
    pub(super) fn repository(&self, limits: &GitLimits) -> Result<ThreadSafeRepository, GitError> {
        ThreadSafeRepository::open_opts(self.path.clone(), options(limits))
            .map_err(|error| GitError::corrupt("the mirror cannot be opened", error))
    }

    /// Moves the tip.
    pub(super) fn accept(&self, target: gix::ObjectId) -> Result<(), GitError> {
        let path = self.path.join(TIP);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| replace(&path, &format!("{target}\n")))
            .map_err(|error| GitError::internal("writing the mirror's tip", error))
    }

    fn tip(&self) -> Option<gix::ObjectId> {
        let text = fs::read_to_string(self.path.join(TIP)).ok()?;
        gix::ObjectId::from_hex(text.trim_end().as_bytes()).ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire) {
            remove(&self.path);
        }
    }
}

/// A repository and what was last accepted in it.
#[derive(Debug, Clone)]
pub(super) struct Generation {
    pub(super) place: Arc<Place>,
    pub(super) repository: ThreadSafeRepository,
    pub(super) tip: Tip,
}

impl Generation {
    /// Reads the tip anew.
    pub(super) fn load(
        place: Arc<Place>,
        target: gix::ObjectId,
        limits: &GitLimits,
    ) -> Result<Self, GitError> {
        let repository = place.repository(limits)?;
        let tip = Tip::read(&repository.to_thread_local(), target)?;
        Ok(Self { place, repository, tip })
    }
}

/// The mirror's directory, held alone.
#[derive(Debug)]
pub(super) struct Shelf {
    root: PathBuf,
    limits: GitLimits,
    lock: File,
}

impl Drop for Shelf {
    /// Closing the file would not do: a program that is being started, by whatever thread, has a
    /// copy of it for a moment.
    fn drop(&mut self) {
        self.lock.unlock().unwrap_or(());
    }
}

impl Shelf {
    /// Takes the directory, clears away what a crash left, and opens what is current, if anything
    /// usable is.
    pub(super) fn open(
        root: &Path,
        limits: GitLimits,
    ) -> Result<(Self, Option<Generation>), GitError> {
        let doing = format!("opening the git mirror {}", root.display());
        let failed = |error: io::Error| GitError::internal(&doing, error);
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        let lock = File::create(root.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|_| {
            GitError::internal(&doing, "another process uses it: give each controller its own")
        })?;
        let shelf = Self { root: root.to_owned(), limits, lock };
        let current = shelf.current();
        shelf.clear(current.as_ref()).map_err(failed)?;
        Ok((shelf, current))
    }

    fn current(&self) -> Option<Generation> {
        let name = fs::read_to_string(self.root.join(CURRENT)).ok()?;
        let name = name.trim_end();
        number(name)?;
        let place = Arc::new(Place {
            path: self.root.join(name),
            retired: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
        });
        // What a killed fetch has left would be in the next one's way.
        remove(&place.path.join("shallow.lock"));
        remove_temporary(&place.path.join("objects/pack"));
        let target = place.tip()?;
        match Generation::load(place, target, &self.limits) {
            Ok(generation) => Some(generation),
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "the git mirror is unusable and is built anew");
                None
            }
        }
    }

    fn clear(&self, keep: Option<&Generation>) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)?.flatten() {
            let name = entry.file_name();
            let known = number(&name.to_string_lossy()).is_some();
            let kept = keep.is_some_and(|keep| keep.place.path == entry.path());
            if known && !kept {
                remove(&entry.path());
            }
        }
        Ok(())
    }

    /// Makes an empty repository beside the current one; it goes again unless it is published.
    pub(super) fn fresh(&self) -> Result<Arc<Place>, GitError> {
        let failed = |why: String| GitError::internal("making a git mirror", why);
        let entries = fs::read_dir(&self.root).map_err(|error| failed(error.to_string()))?;
        let last = entries
            .flatten()
            .filter_map(|entry| number(&entry.file_name().to_string_lossy()))
            .max()
            .unwrap_or(0);
        let path = self.root.join(format!("{PREFIX}{}", last.saturating_add(1)));
        let place = Place {
            path: path.clone(),
            retired: AtomicBool::new(true),
            suspect: AtomicBool::new(false),
        };
        ThreadSafeRepository::init_opts(
            path,
            gix::create::Kind::Bare,
            gix::create::Options::default(),
            options(&self.limits),
        )
        .map_err(|error| failed(error.to_string()))?;
        Ok(Arc::new(place))
    }

    /// Makes a repository the current one, also for the next start.
    pub(super) fn publish(&self, place: &Place) -> Result<(), GitError> {
        let name = place.path.file_name().unwrap_or_default().to_string_lossy();
        replace(&self.root.join(CURRENT), &format!("{name}\n"))
            .map_err(|error| GitError::internal("switching the git mirror", error))?;
        place.retired.store(false, Ordering::Release);
        Ok(())
    }
}

/// Neither the machine's configuration nor the environment counts, and no object may fill the
/// memory.
fn options(limits: &GitLimits) -> gix::open::Options {
    let alloc = usize::try_from(limits.pack_bytes_max).unwrap_or(usize::MAX);
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .open_path_as_is(true)
        .config_overrides([format!("gitoxide.objects.allocLimit={alloc}")])
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// Writes a small file so that it is there whole or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return,
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "part of an old git mirror cannot be removed");
    }
}

/// Removes packs that were being written.
fn remove_temporary(packs: &Path) {
    let Ok(entries) = fs::read_dir(packs) else { return };
    for entry in entries.flatten() {
        let whole = entry
            .path()
            .extension()
            .is_some_and(|ending| ending == "pack" || ending == "idx" || ending == "rev");
        if !whole {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrors_directory_is_free_once_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Shelf::open(dir.path(), GitLimits::default());
        let (shelf, _) = open().unwrap();
        // As a program has it that is being started elsewhere.
        let copy = shelf.lock.try_clone().unwrap();
        assert!(open().unwrap_err().to_string().contains("another process"));
        drop(shelf);
        assert!(open().is_ok(), "{copy:?}");
    }
}
