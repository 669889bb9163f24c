//! Carrying a plan out: recorded before it begins and after it has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hostler_protocol::bundle::{FileKind, Manifest};
use zeroize::Zeroizing;

use super::plan::{How, Look, Plan, Write, parents, plan};
use super::record::{Record, Written};
use super::target::{TARGET_BYTES_MAX, stays_inside};
use super::{BundleError, Opened, Placed};
use crate::host::fs::FsError;
use crate::host::tree::{Content, Tree, sha256_of};

/// Most bytes that are looked at of a file that was encrypted, and may have been changed since.
const PRIVATE_BYTES_MAX: u64 = crate::host::age::PLAIN_BYTES_MAX as u64;
/// Bytes a placing leaves free: records and journals need room too.
const FREE_BYTES_MIN: u64 = 4 * 1024 * 1024;

pub(super) fn place(
    bundle: &Opened,
    blobs: &[PathBuf],
    before: Option<&Manifest>,
    dir: &Path,
) -> Result<Placed, BundleError> {
    let manifest = bundle.manifest();
    checked(manifest)?;
    let targets = targets(manifest, blobs)?;
    let tree = Tree::make(dir)?;
    tree.lock()?;
    let record = Record::load(dir)?;
    let look = Look { tree: Some(&tree), bundle, before, record: &record };
    let plan = plan(&look)?;
    let files: BTreeMap<String, Written> =
        manifest.files.iter().map(|file| (file.path.clone(), bundle.written(file))).collect();
    let needed = needed(manifest);
    let is_settled = record.files == files
        && record.kept == plan.kept
        && record.writing.is_empty()
        && record.dirs.iter().all(|dir| needed.contains(dir.as_str()));
    if plan.is_empty() && is_settled {
        return Ok(Placed { changes: plan.changes });
    }
    for Write { index, .. } in &plan.writes {
        let file = &manifest.files[*index];
        if bundle.plain(&file.path).is_none() {
            check_blob(&file.sha256, &blobs[*index])?;
        }
    }
    if plan.bytes > 0 && tree.free_bytes()? < plan.bytes.saturating_add(FREE_BYTES_MIN) {
        return Err(BundleError::NoSpace { path: dir.to_owned() });
    }
    let work = Work { tree: &tree, bundle, blobs, targets: &targets, dir };
    work.carry_out(plan, record, files)
}

pub(super) fn preview(
    bundle: &Opened,
    before: Option<&Manifest>,
    dir: &Path,
) -> Result<Placed, BundleError> {
    checked(bundle.manifest())?;
    let tree = Tree::open(dir)?;
    let record = Record::load(dir)?;
    let look = Look { tree: tree.as_ref(), bundle, before, record: &record };
    Ok(Placed { changes: plan(&look)?.changes })
}

pub(super) fn clear(before: Option<&Manifest>, dir: &Path) -> Result<Placed, BundleError> {
    let Some(tree) = Tree::open(dir)? else {
        Record::remove(dir)?;
        return Ok(Placed::default());
    };
    let placed = place(&Opened::default(), &[], before, dir)?;
    drop(tree);
    match std::fs::remove_dir(dir) {
        Ok(()) => Record::remove(dir)?,
        // What is left in it is not Hostler's.
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
        Err(source) => {
            return Err(FsError::Io { action: "remove", path: dir.to_owned(), source }.into());
        }
    }
    Ok(placed)
}

pub(super) fn private(dir: &Path) -> Result<Vec<Zeroizing<Vec<u8>>>, BundleError> {
    let Some(tree) = Tree::open(dir)? else { return Ok(Vec::new()) };
    let record = Record::load(dir)?;
    let paths: BTreeSet<&String> = record.paths().filter(|path| record.is_private(path)).collect();
    let read = paths.into_iter().filter_map(|path| tree.read(path, PRIVATE_BYTES_MAX).ok()?);
    Ok(read.map(Zeroizing::new).collect())
}

fn checked(manifest: &Manifest) -> Result<(), BundleError> {
    manifest.check().map_err(|error| BundleError::Damaged {
        what: "the bundle's manifest".to_owned(),
        reason: error.to_string(),
    })
}

/// What the manifest's links name, by their places in it.
fn targets(manifest: &Manifest, blobs: &[PathBuf]) -> Result<BTreeMap<usize, String>, BundleError> {
    let mut targets = BTreeMap::new();
    for (index, file) in manifest.files.iter().enumerate() {
        if file.kind != FileKind::Symlink {
            continue;
        }
        let leads_out = |target: String| BundleError::LeadsOut { path: file.path.clone(), target };
        if file.bytes > TARGET_BYTES_MAX {
            return Err(leads_out(format!("a target of {} bytes", file.bytes)));
        }
        check_blob(&file.sha256, &blobs[index])?;
        let bytes =
            std::fs::read(&blobs[index]).map_err(|source| read_failed(&blobs[index], source))?;
        let target = String::from_utf8(bytes)
            .map_err(|error| leads_out(String::from_utf8_lossy(error.as_bytes()).into_owned()))?;
        if !stays_inside(&file.path, &target) {
            return Err(leads_out(target));
        }
        targets.insert(index, target);
    }
    Ok(targets)
}

/// Held against its name once more: the store's disk may have changed it since it arrived.
fn check_blob(sha256: &str, blob: &Path) -> Result<(), BundleError> {
    let found = std::fs::File::open(blob)
        .and_then(sha256_of)
        .map_err(|source| read_failed(blob, source))?;
    if found == sha256 {
        return Ok(());
    }
    Err(BundleError::damaged_blob(sha256))
}

fn read_failed(path: &Path, source: std::io::Error) -> BundleError {
    FsError::Io { action: "read", path: path.to_owned(), source }.into()
}

struct Work<'a> {
    tree: &'a Tree,
    bundle: &'a Opened,
    blobs: &'a [PathBuf],
    targets: &'a BTreeMap<usize, String>,
    dir: &'a Path,
}

impl Work<'_> {
    fn carry_out(
        &self,
        plan: Plan,
        mut record: Record,
        files: BTreeMap<String, Written>,
    ) -> Result<Placed, BundleError> {
        for path in record.writing.keys() {
            self.tree.clear_staged(path)?;
        }
        let was_private = |path: &str| record.is_private(path);
        let manifest = self.bundle.manifest();
        let opened: BTreeSet<usize> = (plan.writes.iter().map(|write| write.index))
            .filter(|index| was_private(&manifest.files[*index].path))
            .filter(|index| self.bundle.plain(&manifest.files[*index].path).is_none())
            .collect();
        for Write { index, .. } in &plan.writes {
            let file = &manifest.files[*index];
            record.writing.insert(file.path.clone(), self.bundle.written(file));
        }
        record.dirs.extend(plan.make_dirs.iter().cloned());
        record.store(self.dir)?;
        let mut touched = BTreeSet::new();
        self.remove(&plan.remove_first, &mut touched)?;
        for dir in &plan.remove_dirs_first {
            if !self.tree.remove_dir(dir)? {
                let reason = "somebody put a file into it meanwhile";
                return Err(BundleError::Foreign { path: self.tree.path(dir), reason });
            }
            record.dirs.remove(dir);
            touched.insert(above(dir));
        }
        for dir in &plan.make_dirs {
            self.tree.make_dir(dir)?;
            touched.insert(above(dir));
        }
        for write in &plan.writes {
            self.write(*write, opened.contains(&write.index))?;
            touched.insert(above(&manifest.files[write.index].path));
        }
        self.remove(&plan.remove, &mut touched)?;
        record.dirs = self.leave_dirs(record.dirs, &mut touched)?;
        for dir in touched {
            self.tree.sync(dir)?;
        }
        record.files = files;
        record.kept = plan.kept;
        record.writing.clear();
        record.store(self.dir)?;
        Ok(Placed { changes: plan.changes })
    }

    fn remove<'p>(
        &self,
        paths: &'p [String],
        touched: &mut BTreeSet<&'p str>,
    ) -> Result<(), BundleError> {
        for path in paths {
            self.tree.remove(path)?;
            touched.insert(above(path));
        }
        Ok(())
    }

    fn write(&self, Write { index, how }: Write, opened: bool) -> Result<(), BundleError> {
        let (file, blob) = (&self.bundle.manifest().files[index], &self.blobs[index]);
        let access = self.bundle.written(file).access();
        let content = match self.bundle.plain(&file.path) {
            Some(plain) => Content::Bytes(plain),
            None => Content::Of(blob),
        };
        if how == How::Replace {
            self.tree.remove(&file.path)?;
        }
        match (how, self.targets.get(&index)) {
            (How::Create | How::Replace, Some(target)) => self.tree.link(&file.path, target)?,
            (How::Create | How::Replace, None) => self.tree.create(&file.path, content, access)?,
            (How::Overwrite, _) => {
                // Others lose a file before it holds what they may not see, and get it after.
                if access.private {
                    self.tree.set_access(&file.path, access, false)?;
                }
                self.tree.overwrite(&file.path, content)?;
                self.tree.set_access(&file.path, access, opened)?;
            }
            (How::Mode, _) => self.tree.set_access(&file.path, access, opened)?,
        }
        Ok(())
    }

    /// Removes the directories that were made and are needed no more; answers those that are left.
    fn leave_dirs(
        &self,
        made: BTreeSet<String>,
        touched: &mut BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, BundleError> {
        let needed = needed(self.bundle.manifest());
        let mut left = BTreeSet::new();
        // Backwards: what is below comes before what is above.
        for dir in made.iter().rev() {
            if needed.contains(dir.as_str()) || !self.tree.remove_dir(dir)? {
                left.insert(dir.clone());
            }
        }
        if left.len() < made.len() {
            touched.insert("");
        }
        Ok(left)
    }
}

/// The directories a manifest's files are in.
fn needed(manifest: &Manifest) -> BTreeSet<&str> {
    manifest.files.iter().flat_map(|file| parents(&file.path)).collect()
}

/// The directory a path is in; empty: the tree's own.
fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}
