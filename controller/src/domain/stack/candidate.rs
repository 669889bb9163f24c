//! Which of a directory's files is its compose file, and which is laid over it.

use std::collections::BTreeMap;

use super::path::{self, Place};
use super::tree::{EntryKind, Node, Tree, TreeError};

/// The names of a compose file, the one that counts first.
pub(super) const COMPOSE_FILES: [&str; 2] = ["docker-compose.yml", "docker-compose.yaml"];

/// The names of the file beside it that Compose lays over it, the one that counts first.
pub(super) const OVERRIDE_FILES: [&str; 2] =
    ["docker-compose.override.yml", "docker-compose.override.yaml"];

/// What a stack hangs on outside of its directory: paths, and what stood there.
pub(super) type Outside = BTreeMap<String, Option<Standing>>;

/// The kind counts as much as the object: a digest changes with either.
pub(super) type Standing = (EntryKind, String);

/// What stands at a path.
pub(super) fn standing(node: Option<&Node>) -> Option<Standing> {
    node.map(|node| (node.kind, node.oid.clone()))
}

/// The compose file of a directory, or its override file.
pub(super) struct Candidate<'a> {
    pub(super) name: &'static str,
    node: &'a Node,
    /// Whether the other name is there too.
    pub(super) both: bool,
}

impl<'a> Candidate<'a> {
    /// The one of these names among a directory's children, if there is one.
    pub(super) fn among(nodes: &'a [Node], names: [&'static str; 2]) -> Option<Self> {
        let regular = regular(nodes, names);
        let (name, node) = regular.or_else(|| {
            names.into_iter().find_map(|name| {
                let node = named(nodes, name)?;
                (node.kind == EntryKind::Symlink).then_some((name, node))
            })
        })?;
        let here = |name: &&str| {
            named(nodes, name).is_some_and(|n| n.kind.is_regular() || n.kind == EntryKind::Symlink)
        };
        let both = names.iter().all(here);
        Some(Self { name, node, both })
    }

    /// The file itself: where it is a link, what that leads to, if that is a file of the repository.
    /// Compose takes the paths in it from the link's directory, as those of any other. All outside of
    /// the directory that this hangs on is noted: with other things there, it may lead elsewhere.
    pub(super) fn file(
        &self,
        tree: &dyn Tree,
        directory: &[u8],
        outside: &mut Outside,
    ) -> Result<Option<Node>, TreeError> {
        if self.node.kind.is_regular() {
            return Ok(Some(self.node.clone()));
        }
        let Ok(directory) = std::str::from_utf8(directory) else { return Ok(None) };
        let place = path::follow(tree, &path::below(directory, self.name), &mut |at, node| {
            if !path::is_within(at, directory) {
                outside.insert(at.to_owned(), standing(node));
            }
        })?;
        match place {
            Place::At { node, .. } if node.kind.is_regular() => Ok(Some(node)),
            Place::At { .. } | Place::Nothing | Place::Out => Ok(None),
        }
    }
}

/// The child of that name.
pub(super) fn named<'a>(nodes: &'a [Node], name: &str) -> Option<&'a Node> {
    let found = nodes.binary_search_by(|node| node.name.as_slice().cmp(name.as_bytes()));
    found.ok().map(|at| &nodes[at])
}

/// The first of these names that is a regular file's.
fn regular<'a>(nodes: &'a [Node], names: [&'static str; 2]) -> Option<(&'static str, &'a Node)> {
    names.into_iter().find_map(|name| {
        let node = named(nodes, name)?;
        node.kind.is_regular().then_some((name, node))
    })
}
