//! What has to be done for a directory to hold a manifest's files; refuses before anything is done.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::bundle::{File, FileKind, Manifest};
use hostler_protocol::job::{FileAction, FileChange};

use super::record::{Record, Written};
use super::{BundleError, Opened};
use crate::host::fs::FsError;
use crate::host::tree::{Found, Tree};

/// Bytes a file takes on a disk are whole blocks of about this size.
const BLOCK_BYTES: u64 = 4096;

/// How a file of the manifest comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// There is nothing.
    Create,
    /// What is there is removed first: it is of another kind.
    Replace,
    /// Through the same inode.
    Overwrite,
    /// Only whether it may be run.
    Mode,
}

/// One file to be written: its place in the manifest, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) index: usize,
    pub(super) how: How,
}

/// Everything to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Files that are in the way of others.
    pub(super) remove_first: Vec<String>,
    /// Directories that are in the way, those below before those above.
    pub(super) remove_dirs_first: Vec<String>,
    /// Those above before those below.
    pub(super) make_dirs: Vec<String>,
    pub(super) writes: Vec<Write>,
    pub(super) remove: Vec<String>,
    /// What stays though the manifest has it no more, since somebody changed it; as it was written.
    pub(super) kept: BTreeMap<String, Written>,
    /// Bytes it takes more than before.
    pub(super) bytes: u64,
    pub(super) changes: Vec<FileChange>,
}

impl Plan {
    /// Whether there is nothing to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.remove_first.is_empty()
            && self.remove_dirs_first.is_empty()
            && self.make_dirs.is_empty()
            && self.writes.is_empty()
            && self.remove.is_empty()
    }
}

/// What the plan is made from.
pub(super) struct Look<'a> {
    /// `None`: there is no directory yet.
    pub(super) tree: Option<&'a Tree>,
    pub(super) bundle: &'a Opened,
    pub(super) before: Option<&'a Manifest>,
    pub(super) record: &'a Record,
}

/// Which bundles' files a path was known as.
struct Known<'a> {
    record: &'a Record,
    before: BTreeMap<&'a str, Written>,
}

impl Known<'_> {
    /// Whether Hostler wrote a file of that name.
    fn is_ours(&self, path: &str) -> bool {
        self.record.knows(path) || self.before.contains_key(path)
    }

    /// Whether what is there is what Hostler wrote there.
    fn is_as_written(&self, tree: &Tree, path: &str, found: &Found) -> Result<bool, FsError> {
        if self.record.knows(path) {
            return any_is(tree, path, found, self.record.of(path));
        }
        any_is(tree, path, found, self.before.get(path))
    }
}

pub(super) fn any_is<'a>(
    tree: &Tree,
    path: &str,
    found: &Found,
    wanted: impl IntoIterator<Item = &'a Written>,
) -> Result<bool, FsError> {
    for wanted in wanted {
        if is(tree, path, found, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what is there has this content; a file's size is held against it before its bytes are.
fn is(tree: &Tree, path: &str, found: &Found, wanted: &Written) -> Result<bool, FsError> {
    let is_link = wanted.kind == FileKind::Symlink;
    match found {
        Found::File { bytes, .. } if !is_link && *bytes == wanted.bytes => {
            Ok(tree.sha256(path)?.is_some_and(|sha256| sha256 == wanted.sha256))
        }
        Found::Link { target } if is_link => Ok(sha256_hex(target) == wanted.sha256),
        Found::File { .. }
        | Found::Link { .. }
        | Found::Nothing
        | Found::Directory
        | Found::Other => Ok(false),
    }
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// Says what is to be done.
///
/// # Errors
/// [`BundleError::Foreign`] where something that is not Hostler's would have to give way.
pub(super) fn plan(look: &Look<'_>) -> Result<Plan, BundleError> {
    let before = look.before.map(|before| before.files.as_slice()).unwrap_or_default();
    let before = before.iter().map(|file| (file.path.as_str(), Written::of(file, false))).collect();
    let mut planner = Planner {
        look,
        known: Known { record: look.record, before },
        removable: BTreeSet::new(),
        first: BTreeSet::new(),
        gone: BTreeSet::new(),
        seen_dirs: BTreeSet::new(),
        plan: Plan::default(),
    };
    planner.absent()?;
    for (index, file) in look.bundle.manifest().files.iter().enumerate() {
        planner.above(&file.path)?;
        planner.file(index, file)?;
    }
    Ok(planner.into_plan())
}

struct Planner<'a> {
    look: &'a Look<'a>,
    known: Known<'a>,
    /// Files of bundles before that may go.
    removable: BTreeSet<String>,
    /// Those among them that have to go first.
    first: BTreeSet<String>,
    /// Directories that are not there, or not yet: nothing is below them.
    gone: BTreeSet<String>,
    seen_dirs: BTreeSet<String>,
    plan: Plan,
}

impl Planner<'_> {
    fn found(&self, path: &str) -> Result<Found, FsError> {
        let Some(tree) = self.look.tree else { return Ok(Found::Nothing) };
        if parents(path).any(|parent| self.gone.contains(parent)) {
            return Ok(Found::Nothing);
        }
        tree.look(path)
    }

    fn was_private(&self, path: &str) -> bool {
        self.known.record.is_private(path)
    }

    fn foreign(&self, path: &str, reason: &'static str) -> BundleError {
        let path = match self.look.tree {
            Some(tree) => tree.path(path),
            None => path.into(),
        };
        BundleError::Foreign { path, reason }
    }

    fn change(&mut self, path: &str, action: FileAction) {
        self.plan.changes.push(FileChange { path: path.to_owned(), action });
    }

    /// What earlier bundles had and this one has not.
    fn absent(&mut self) -> Result<(), BundleError> {
        let Some(tree) = self.look.tree else { return Ok(()) };
        let wanted: BTreeSet<&str> =
            self.look.bundle.manifest().files.iter().map(|file| file.path.as_str()).collect();
        let record = self.known.record;
        let listed: BTreeSet<String> = self
            .known
            .before
            .keys()
            .map(|path| (*path).to_owned())
            .chain(record.paths().cloned())
            .filter(|path| !wanted.contains(path.as_str()))
            .collect();
        for path in listed {
            let found = tree.look(&path)?;
            if found == Found::Nothing {
                continue;
            }
            if self.known.is_as_written(tree, &path, &found)? {
                self.removable.insert(path);
                continue;
            }
            if !record.kept.contains_key(&path) {
                self.change(&path, FileAction::Kept);
            }
            let written = record.of(&path).next().or_else(|| self.known.before.get(path.as_str()));
            self.plan.kept.extend(written.cloned().map(|written| (path, written)));
        }
        Ok(())
    }

    /// The directories above a file: made where they are missing.
    fn above(&mut self, path: &str) -> Result<(), BundleError> {
        for dir in parents(path) {
            if !self.seen_dirs.insert(dir.to_owned()) {
                continue;
            }
            match self.found(dir)? {
                Found::Directory => continue,
                Found::Nothing => {}
                Found::File { .. } | Found::Link { .. } if self.removable.contains(dir) => {
                    self.first.insert(dir.to_owned());
                }
                Found::Link { .. } => {
                    let reason = "it is a symbolic link where a directory belongs";
                    return Err(self.foreign(dir, reason));
                }
                Found::File { .. } | Found::Other => {
                    let reason = "Hostler did not write it, and a directory belongs there";
                    return Err(self.foreign(dir, reason));
                }
            }
            self.gone.insert(dir.to_owned());
            self.plan.make_dirs.push(dir.to_owned());
        }
        Ok(())
    }

    fn file(&mut self, index: usize, file: &File) -> Result<(), BundleError> {
        let found = self.found(&file.path)?;
        let is_ours = self.known.is_ours(&file.path);
        let wants_link = file.kind == FileKind::Symlink;
        let wanted = self.look.bundle.written(file);
        let how = match &found {
            Found::Nothing => How::Create,
            Found::Directory => {
                self.clear_dir(&file.path)?;
                How::Create
            }
            Found::Other => {
                return Err(self.foreign(&file.path, "it is no regular file"));
            }
            Found::File { .. } | Found::Link { .. } => {
                let same = match self.look.tree {
                    Some(tree) => is(tree, &file.path, &found, &wanted)?,
                    None => false,
                };
                match (&found, same) {
                    (Found::File { open, .. }, true) => {
                        // What was private until now is for everybody again.
                        let is_shut = !open && !wanted.private && self.was_private(&file.path);
                        if wanted.has_access(&found) && !is_shut {
                            return Ok(());
                        }
                        if !is_ours {
                            let reason = "it has other permissions, and Hostler did not write it";
                            return Err(self.foreign(&file.path, reason));
                        }
                        How::Mode
                    }
                    (_, true) => return Ok(()),
                    (_, false) if !is_ours => {
                        return Err(self.foreign(&file.path, "Hostler did not write it"));
                    }
                    (Found::File { shared: true, .. }, false) => {
                        let reason = "it has a second name that would change with it";
                        return Err(self.foreign(&file.path, reason));
                    }
                    (Found::File { .. }, false) if wants_link => How::Replace,
                    (Found::File { .. }, false) => How::Overwrite,
                    // Put in its place in one step.
                    (
                        Found::Link { .. } | Found::Nothing | Found::Directory | Found::Other,
                        false,
                    ) => How::Create,
                }
            }
        };
        let before = match (how, &found) {
            (How::Overwrite, Found::File { bytes, .. }) => *bytes,
            _ => 0,
        };
        if how != How::Mode {
            let blocks = |bytes: u64| bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
            self.plan.bytes += blocks(file.bytes).saturating_sub(blocks(before));
        }
        self.plan.writes.push(Write { index, how });
        let is_new = matches!(found, Found::Nothing | Found::Directory);
        let action = if is_new { FileAction::Added } else { FileAction::Changed };
        self.change(&file.path, action);
        Ok(())
    }

    /// A directory where a file belongs: it has to be all Hostler's, and absent from the manifest.
    fn clear_dir(&mut self, path: &str) -> Result<(), BundleError> {
        let Some(tree) = self.look.tree else { return Ok(()) };
        let reason = "it is a directory with other files in it, and a file belongs there";
        let is_made = |dir: &str| self.look.record.dirs.contains(dir);
        let mut dirs = vec![path.to_owned()];
        for (below, is_dir) in tree.below(path)? {
            match is_dir {
                true if is_made(&below) => dirs.push(below),
                false if self.removable.contains(&below) => {
                    self.first.insert(below);
                }
                true | false => return Err(self.foreign(&below, reason)),
            }
        }
        dirs.sort_by(|one, other| other.cmp(one));
        self.plan.remove_dirs_first.extend(dirs);
        Ok(())
    }

    fn into_plan(mut self) -> Plan {
        for path in self.removable.clone() {
            self.change(&path, FileAction::Removed);
        }
        self.plan.remove = self.removable.difference(&self.first).cloned().collect();
        self.plan.remove_first = self.first.into_iter().collect();
        self.plan.changes.sort_by(|one, other| one.path.cmp(&other.path));
        self.plan
    }
}

/// The directories above a path, the uppermost first.
pub(super) fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}
