//! A tree in memory, for tests that need no git.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use super::tree::{EntryKind, Node, Tree, TreeError};

#[derive(Debug, Clone)]
enum Entry {
    Blob(EntryKind, Vec<u8>),
    Submodule,
    Directory(BTreeMap<Vec<u8>, Entry>),
}

impl Entry {
    fn kind(&self) -> EntryKind {
        match self {
            Self::Blob(kind, _) => *kind,
            Self::Submodule => EntryKind::Submodule,
            Self::Directory(_) => EntryKind::Directory,
        }
    }
}

/// A tree that is put together entry by entry, then sealed; it counts what is asked of it.
#[derive(Debug, Default)]
pub struct MemoryTree {
    root: BTreeMap<Vec<u8>, Entry>,
    nodes: BTreeMap<Vec<u8>, Node>,
    lists: BTreeMap<Vec<u8>, Vec<Node>>,
    blobs: BTreeMap<String, Vec<u8>>,
    listed: AtomicUsize,
    read: AtomicUsize,
}

impl MemoryTree {
    /// A tree of plain files.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, content) in files {
            tree.put(path.as_bytes(), EntryKind::File, content.as_bytes());
        }
        tree.seal();
        tree
    }

    /// A sealed tree that has one more entry.
    #[must_use]
    pub fn with(mut self, path: &[u8], kind: EntryKind, content: &[u8]) -> Self {
        self.put(path, kind, content);
        self.seal();
        self
    }

    /// Puts an entry at a path, replacing what is there; directories above it come by themselves.
    /// The content of a directory or submodule counts for nothing. [`MemoryTree::seal`] it after.
    pub fn put(&mut self, path: &[u8], kind: EntryKind, content: &[u8]) {
        let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let Some(last) = names.pop() else { return };
        let mut dir = &mut self.root;
        for name in names {
            let entry =
                dir.entry(name.to_vec()).or_insert_with(|| Entry::Directory(BTreeMap::new()));
            if entry.kind() != EntryKind::Directory {
                *entry = Entry::Directory(BTreeMap::new());
            }
            match entry {
                Entry::Directory(below) => dir = below,
                Entry::Blob(..) | Entry::Submodule => return,
            }
        }
        let entry = match kind {
            EntryKind::Directory => Entry::Directory(BTreeMap::new()),
            EntryKind::Submodule => Entry::Submodule,
            EntryKind::File | EntryKind::Executable | EntryKind::Symlink => {
                Entry::Blob(kind, content.to_vec())
            }
        };
        dir.insert(last.to_vec(), entry);
    }

    /// Gives every entry its id, as git does: a directory's follows from all that is below it.
    pub fn seal(&mut self) {
        self.nodes.clear();
        self.lists.clear();
        self.blobs.clear();
        let root = std::mem::take(&mut self.root);
        let oid = self.seal_dir(&[], &root);
        self.root = root;
        self.nodes.insert(Vec::new(), Node { name: Vec::new(), kind: EntryKind::Directory, oid });
    }

    fn seal_dir(&mut self, path: &[u8], entries: &BTreeMap<Vec<u8>, Entry>) -> String {
        let mut hash = Sha256::new();
        let mut list = Vec::new();
        for (name, entry) in entries {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name);
            let oid = match entry {
                Entry::Blob(_, content) => {
                    let oid = hex::encode(Sha256::digest(content));
                    self.blobs.insert(oid.clone(), content.clone());
                    oid
                }
                Entry::Submodule => "5".repeat(64),
                Entry::Directory(entries) => self.seal_dir(&below, entries),
            };
            let node = Node { name: name.clone(), kind: entry.kind(), oid };
            hash.update(name);
            hash.update([0]);
            hash.update(node.kind.as_str());
            hash.update(&node.oid);
            list.push(node.clone());
            self.nodes.insert(below, node);
        }
        self.lists.insert(path.to_vec(), list);
        hex::encode(hash.finalize())
    }

    /// Makes a blob unreadable, as a pack that lacks it does.
    pub fn lose(&mut self, oid: &str) {
        self.blobs.remove(oid);
    }

    /// How many directories were listed.
    #[must_use]
    pub fn listed(&self) -> usize {
        self.listed.load(Ordering::Relaxed)
    }

    /// How many blobs were read.
    #[must_use]
    pub fn read_count(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }
}

impl Tree for MemoryTree {
    fn list(&self, dir: &[u8]) -> Result<Option<Vec<Node>>, TreeError> {
        self.listed.fetch_add(1, Ordering::Relaxed);
        Ok(self.lists.get(dir).cloned())
    }

    fn node(&self, path: &[u8]) -> Result<Option<Node>, TreeError> {
        Ok(self.nodes.get(path).cloned())
    }

    fn read(&self, oid: &str, max_bytes: usize) -> Result<Vec<u8>, TreeError> {
        let content = self.blobs.get(oid).ok_or(TreeError::Missing)?;
        if content.len() > max_bytes {
            let bytes = content.len() as u64;
            return Err(TreeError::TooLarge { bytes, limit_bytes: max_bytes });
        }
        self.read.fetch_add(1, Ordering::Relaxed);
        Ok(content.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_changes_with_what_is_below_it() {
        let tree = MemoryTree::of(&[("a/b/c", "1"), ("a/d", "2"), ("e", "3")]);
        let oid = |tree: &MemoryTree, path: &str| tree.node(path.as_bytes()).unwrap().unwrap().oid;
        let (root, other) = (oid(&tree, ""), oid(&tree, "e"));
        let tree = tree.with(b"a/b/c", EntryKind::File, b"4");
        assert_ne!(oid(&tree, ""), root);
        assert_eq!(oid(&tree, "e"), other);
        let names: Vec<_> = tree.list(b"a").unwrap().unwrap().into_iter().map(|n| n.name).collect();
        assert_eq!(names, [b"b".to_vec(), b"d".to_vec()]);
        assert_eq!(tree.list(b"nowhere").unwrap(), None);
        assert_eq!(tree.list(b"e").unwrap(), None, "a file is no directory");
        let oid = oid(&tree, "a/d");
        assert_eq!(tree.read(&oid, 1), Ok(b"2".to_vec()));
        assert_eq!(tree.read(&oid, 0), Err(TreeError::TooLarge { bytes: 1, limit_bytes: 0 }));
    }
}
