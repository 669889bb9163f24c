//! A tree that asks another one for each directory once, and may be read by many threads.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::tree::{Node, Tree, TreeError};

type Listing = Option<Arc<[Node]>>;

/// Keeps every listing for as long as one discovery runs; a node is looked up in the listing of the
/// directory above it.
pub(super) struct Cached<'a> {
    tree: &'a dyn Tree,
    lists: RwLock<HashMap<Vec<u8>, Listing>>,
}

impl<'a> Cached<'a> {
    pub(super) fn new(tree: &'a dyn Tree) -> Self {
        Self { tree, lists: RwLock::new(HashMap::new()) }
    }

    /// A directory's children, shared.
    pub(super) fn listed(&self, dir: &[u8]) -> Result<Listing, TreeError> {
        // A listing is put in whole: nothing a panic could leave half done.
        let known = self.lists.read().unwrap_or_else(PoisonError::into_inner).get(dir).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let listing: Listing = self.tree.list(dir)?.map(Arc::from);
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        lists.insert(dir.to_vec(), listing.clone());
        Ok(listing)
    }
}

impl Tree for Cached<'_> {
    fn list(&self, dir: &[u8]) -> Result<Option<Vec<Node>>, TreeError> {
        Ok(self.listed(dir)?.map(|nodes| nodes.to_vec()))
    }

    fn node(&self, path: &[u8]) -> Result<Option<Node>, TreeError> {
        let cut = path.iter().rposition(|byte| *byte == b'/');
        let (dir, name) = match cut {
            Some(at) => (&path[..at], &path[at + 1..]),
            None if path.is_empty() => return self.tree.node(path),
            None => (&path[..0], path),
        };
        let Some(nodes) = self.listed(dir)? else { return Ok(None) };
        let found = nodes.binary_search_by(|node| node.name.as_slice().cmp(name));
        Ok(found.ok().map(|at| nodes[at].clone()))
    }

    fn read(&self, oid: &str, max_bytes: usize) -> Result<Vec<u8>, TreeError> {
        self.tree.read(oid, max_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::MemoryTree;
    use super::*;

    #[test]
    fn each_directory_is_asked_for_once() {
        let tree = MemoryTree::of(&[("a/b/c", "1"), ("a/d", "2")]);
        let cached = Cached::new(&tree);
        for path in ["", "a", "a/b", "a/b/c", "a/d", "a/x", "x/y", "a/d/e"] {
            let path = path.as_bytes();
            assert_eq!(cached.node(path).unwrap(), tree.node(path).unwrap());
        }
        let asked = tree.listed();
        assert_eq!(asked, 5);
        assert_eq!(cached.list(b"a/b").unwrap().unwrap().len(), 1);
        assert_eq!(tree.listed(), asked);
    }
}
