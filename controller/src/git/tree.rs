//! A commit's files, read from git's objects.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gix::object::tree::EntryKind as GitKind;
use gix::{ObjectId, ThreadSafeRepository};

use super::error::{Class, GitError};
use super::generation::{Generation, Place};
use super::settings::{DeployDir, GitLimits};
use super::watch::lock;
use crate::clock::Clock;
use crate::domain::stack::tree::{EntryKind, Node, Tree, TreeError};

/// One thing in the repository, by its whole path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Names joined with `/`; bytes, since git knows no encoding.
    pub path: Vec<u8>,
    pub kind: EntryKind,
    /// The object's id, lower-case hex; of a directory it stands for everything below it.
    pub oid: String,
}

/// A commit's files. Cheap to clone, read by any number of threads; keeps the files it reads from
/// in place for as long as it lives. Directories are read once and remembered.
#[derive(Debug, Clone)]
pub struct RepoTree {
    inner: Arc<Inner>,
    budget: Option<Arc<Budget>>,
}

#[derive(Debug)]
struct Inner {
    /// Before the place, so that nothing is open when that is removed.
    repositories: Mutex<Vec<gix::Repository>>,
    template: ThreadSafeRepository,
    place: Arc<Place>,
    root: ObjectId,
    deploy_dir: DeployDir,
    limits: GitLimits,
    clock: Clock,
    directories: Mutex<HashMap<Vec<u8>, Children>>,
    entries: AtomicUsize,
}

type Children = Arc<[Child]>;

#[derive(Debug)]
struct Child {
    name: Box<[u8]>,
    kind: EntryKind,
    oid: ObjectId,
}

/// When reading has to end.
#[derive(Debug)]
struct Budget {
    end_ms: u64,
    cancel: Arc<AtomicBool>,
}

impl RepoTree {
    pub(super) fn new(
        generation: &Generation,
        root: ObjectId,
        deploy_dir: &DeployDir,
        limits: GitLimits,
        clock: &Clock,
    ) -> Result<Self, GitError> {
        let tree = Self {
            inner: Arc::new(Inner {
                repositories: Mutex::new(Vec::new()),
                template: generation.repository.clone(),
                place: Arc::clone(&generation.place),
                root,
                deploy_dir: deploy_dir.clone(),
                limits,
                clock: clock.clone(),
                directories: Mutex::new(HashMap::new()),
                entries: AtomicUsize::new(0),
            }),
            budget: None,
        };
        if tree.list(deploy_dir.path().as_bytes())?.is_none() {
            let message = format!(
                "the commit has no directory `/{}`: look at the deploy directory's setting",
                deploy_dir.path()
            );
            return Err(GitError::new(Class::Path, message));
        }
        Ok(tree)
    }

    /// The same tree, whose reading ends after `walk_secs` from now, or when it is cancelled.
    #[must_use]
    pub fn bounded(&self, cancel: Arc<AtomicBool>) -> Self {
        let walk_ms = self.inner.limits.walk_secs.saturating_mul(1000);
        let end_ms = self.inner.clock.monotonic_ms().saturating_add(walk_ms);
        let budget = Some(Arc::new(Budget { end_ms, cancel }));
        Self { inner: Arc::clone(&self.inner), budget }
    }

    /// Where the stacks are looked for: a path without slashes at its ends.
    #[must_use]
    pub fn deploy_dir(&self) -> &str {
        self.inner.deploy_dir.path()
    }

    /// The id of the whole tree, lower-case hex: equal ids are equal files.
    #[must_use]
    pub fn oid(&self) -> String {
        self.inner.root.to_string()
    }

    /// Everything in the repository, directories before what they hold.
    ///
    /// # Errors
    /// Limits, and what cannot be read.
    pub fn entries(&self) -> Result<Vec<TreeEntry>, TreeError> {
        let mut found = Vec::new();
        let mut waiting = vec![Vec::new()];
        while let Some(directory) = waiting.pop() {
            let children = self.children(&directory)?.unwrap_or_default();
            let mut below = Vec::new();
            for child in children.iter() {
                let path = joined(&directory, &child.name);
                if child.kind == EntryKind::Directory {
                    below.push(path.clone());
                }
                found.push(TreeEntry { path, kind: child.kind, oid: child.oid.to_string() });
            }
            waiting.extend(below.into_iter().rev());
        }
        Ok(found)
    }

    fn check(&self) -> Result<(), TreeError> {
        let Some(budget) = &self.budget else { return Ok(()) };
        if budget.cancel.load(Ordering::Acquire) {
            return Err(TreeError::Cancelled);
        }
        if self.inner.clock.monotonic_ms() >= budget.end_ms {
            let secs = self.inner.limits.walk_secs;
            return Err(TreeError::Limit(format!("reading it takes longer than {secs} s")));
        }
        Ok(())
    }

    /// A directory's children; the directories on the way are read and remembered too.
    fn children(&self, path: &[u8]) -> Result<Option<Children>, TreeError> {
        self.check()?;
        if let Some(known) = lock(&self.inner.directories).get(path) {
            return Ok(Some(Arc::clone(known)));
        }
        let oid = if path.is_empty() {
            Some(self.inner.root)
        } else {
            let depth = path.iter().filter(|byte| **byte == b'/').count() + 1;
            if depth > self.inner.limits.tree_depth_max {
                let max = self.inner.limits.tree_depth_max;
                return Err(TreeError::Limit(format!("directories are nested deeper than {max}")));
            }
            let found = self.child(path)?;
            found.filter(|(kind, _)| *kind == EntryKind::Directory).map(|(_, oid)| oid)
        };
        // What is not there is not remembered: there is no end to what one may ask for.
        let Some(oid) = oid else { return Ok(None) };
        let children = self.inner.directory(oid)?;
        self.inner.remember(path, &children)?;
        Ok(Some(children))
    }

    fn child(&self, path: &[u8]) -> Result<Option<(EntryKind, ObjectId)>, TreeError> {
        let (parent, name) = split(path);
        let Some(siblings) = self.children(parent)? else { return Ok(None) };
        let found = siblings.binary_search_by(|child| child.name.as_ref().cmp(name));
        Ok(found.ok().and_then(|at| siblings.get(at)).map(|child| (child.kind, child.oid)))
    }
}

impl Tree for RepoTree {
    fn list(&self, dir: &[u8]) -> Result<Option<Vec<Node>>, TreeError> {
        let children = self.children(dir)?;
        Ok(children.map(|children| {
            children
                .iter()
                .map(|child| Node {
                    name: child.name.to_vec(),
                    kind: child.kind,
                    oid: hex::encode(child.oid.as_slice()),
                })
                .collect()
        }))
    }

    fn node(&self, path: &[u8]) -> Result<Option<Node>, TreeError> {
        if path.is_empty() {
            let oid = self.oid();
            return Ok(Some(Node { name: Vec::new(), kind: EntryKind::Directory, oid }));
        }
        let found = self.child(path)?;
        let name = split(path).1.to_vec();
        Ok(found.map(|(kind, oid)| Node { name, kind, oid: hex::encode(oid.as_slice()) }))
    }

    fn read(&self, oid: &str, max_bytes: usize) -> Result<Vec<u8>, TreeError> {
        self.check()?;
        let oid = ObjectId::from_hex(oid.as_bytes()).map_err(|_| TreeError::Missing)?;
        let limit_bytes = max_bytes.min(self.inner.limits.blob_bytes_max);
        self.inner.blob(oid, limit_bytes)
    }
}

impl Inner {
    /// Lends a handle: they are not shared between threads, and making one is not free.
    fn with<T>(&self, read: impl FnOnce(&gix::Repository) -> T) -> T {
        let lent = lock(&self.repositories).pop();
        let repository = lent.unwrap_or_else(|| self.template.to_thread_local());
        let result = read(&repository);
        lock(&self.repositories).push(repository);
        result
    }

    fn unreadable(&self, why: impl std::fmt::Display) -> TreeError {
        self.place.suspect();
        TreeError::Unreadable(super::error::plain(&why.to_string()))
    }

    fn directory(&self, oid: ObjectId) -> Result<Children, TreeError> {
        let children = self.with(|repository| {
            let object = repository.find_object(oid).map_err(|error| self.unreadable(error))?;
            let tree = object.try_into_tree().map_err(|error| self.unreadable(error))?;
            let mut children = Vec::new();
            for entry in tree.iter() {
                let entry = entry.map_err(|error| self.unreadable(error))?;
                children.push(self.entry(&entry)?);
            }
            // Git sorts directories as if they ended in a slash.
            children.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            Ok(children)
        })?;
        let twice = children.windows(2).any(|pair| pair[0].name == pair[1].name);
        if twice {
            return Err(TreeError::Unreadable("a directory has a name twice".to_owned()));
        }
        Ok(children.into())
    }

    /// Counts each directory once, though two threads may have read it at once.
    fn remember(&self, path: &[u8], children: &Children) -> Result<(), TreeError> {
        let mut directories = lock(&self.directories);
        if directories.contains_key(path) {
            return Ok(());
        }
        let before = self.entries.fetch_add(children.len(), Ordering::AcqRel);
        let files_max = self.limits.files_max;
        if before.saturating_add(children.len()) > files_max {
            return Err(TreeError::Limit(format!("it has more than {files_max} entries")));
        }
        directories.insert(path.to_owned(), Arc::clone(children));
        Ok(())
    }

    fn entry(&self, entry: &gix::object::tree::EntryRef<'_, '_>) -> Result<Child, TreeError> {
        let name: &[u8] = entry.filename();
        let fits = !name.is_empty()
            && name != b"."
            && name != b".."
            && !name.eq_ignore_ascii_case(b".git")
            && !name.contains(&b'/')
            && !name.contains(&0);
        if !fits {
            let shown = String::from_utf8_lossy(name).escape_debug().to_string();
            return Err(TreeError::Unreadable(format!("no file may be called `{shown}`")));
        }
        let kind = match entry.mode().kind() {
            GitKind::Tree => EntryKind::Directory,
            GitKind::Blob => EntryKind::File,
            GitKind::BlobExecutable => EntryKind::Executable,
            GitKind::Link => EntryKind::Symlink,
            GitKind::Commit => EntryKind::Submodule,
        };
        Ok(Child { name: name.into(), kind, oid: entry.object_id() })
    }

    fn blob(&self, oid: ObjectId, limit_bytes: usize) -> Result<Vec<u8>, TreeError> {
        self.with(|repository| {
            let header = repository.try_find_header(oid).map_err(|error| self.unreadable(error))?;
            let Some(header) = header else {
                self.place.suspect();
                return Err(TreeError::Missing);
            };
            if header.kind() != gix::object::Kind::Blob {
                return Err(TreeError::Missing);
            }
            let bytes = header.size();
            if usize::try_from(bytes).map_or(true, |bytes| bytes > limit_bytes) {
                return Err(TreeError::TooLarge { bytes, limit_bytes });
            }
            let mut object = repository.find_object(oid).map_err(|error| self.unreadable(error))?;
            Ok(std::mem::take(&mut object.data))
        })
    }
}

/// A path's parent and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    if !directory.is_empty() {
        path.extend_from_slice(directory);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
