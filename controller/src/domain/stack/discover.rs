//! Finds the stacks of a commit.
//!
//! Whatever is wrong with one stack is data beside it; an error of the whole is only what leaves
//! open which stacks there are. What has not changed since the last time is taken from there: a
//! stack hangs on the tree of its directory and on what it refers to outside of it, nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cached::Cached;
use super::candidate::{COMPOSE_FILES, Candidate, standing};
use super::found::Found;
use super::parallel;
use super::path;
use super::reading::{Reader, Seat};
use super::tree::{EntryKind, Node, Tree, TreeError};

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most stacks of a repository.
    pub stacks_max: usize,
    /// Most directories that are looked into for stacks.
    pub directories_max: usize,
    /// Deepest directory that is looked into, below the deploy directory.
    pub depth_max: usize,
    /// Most files of one stack.
    pub files_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { stacks_max: 20_000, directories_max: 200_000, depth_max: 32, files_max: 20_000 }
    }
}

/// Where the stacks are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The deploy directory, relative to the repository's root; empty, `.` and `/` are the root.
    pub deploy_dir: String,
    /// The repository's name: the project of a stack that is the deploy directory itself.
    pub repository: String,
}

/// The stacks of one commit.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// By their path's bytes below the deploy directory, the empty path for that itself.
    pub stacks: BTreeMap<Vec<u8>, Arc<Found>>,
    /// The object id of the deploy directory's tree.
    pub tree_oid: String,
    /// How many stacks were taken from the time before.
    pub reused: usize,
    source: Source,
    limits: Limits,
}

/// Finds every stack below the deploy directory, and that itself. A directory is a stack if it
/// holds a compose file; stacks within stacks are their own. Links are not followed, submodules
/// not entered, and directories whose name begins with a dot passed over.
///
/// # Errors
/// `Missing` if there is no deploy directory, `Limit` if there is more to look at than permitted,
/// and whatever of the tree cannot be read.
pub fn discover(
    tree: &dyn Tree,
    source: &Source,
    limits: &Limits,
    before: Option<&Discovery>,
) -> Result<Discovery, TreeError> {
    let cached = Cached::new(tree);
    let trimmed = source.deploy_dir.trim_start_matches('/');
    let deploy_dir = path::clean(trimmed).ok_or(TreeError::Missing)?;
    let root = cached.node(deploy_dir.as_bytes())?.ok_or(TreeError::Missing)?;
    if root.kind != EntryKind::Directory {
        return Err(TreeError::Missing);
    }
    let before = before.filter(|before| before.source == *source && before.limits == *limits);
    let mut found = Discovery {
        stacks: BTreeMap::new(),
        tree_oid: root.oid.clone(),
        reused: 0,
        source: source.clone(),
        limits: *limits,
    };
    let reader =
        Reader { tree: &cached, files_max: limits.files_max, repository: &source.repository };
    let walk = |hand: &mut dyn FnMut(Seat)| {
        let (tree, deploy_dir, found) = (&cached, deploy_dir.as_bytes(), &mut found);
        Walk { tree, deploy_dir, before, looked_into: 0, handed: 0, hand, found }.go(&root)
    };
    // Stacks know nothing of each other: they are read while others are still looked for.
    for (read, stack) in parallel::each(walk, |seat| (reader.stack(&seat), seat.stack))? {
        found.stacks.insert(stack, Arc::new(read?));
    }
    Ok(found)
}

struct Walk<'a> {
    tree: &'a Cached<'a>,
    deploy_dir: &'a [u8],
    before: Option<&'a Discovery>,
    looked_into: usize,
    handed: usize,
    /// Takes what is to be read.
    hand: &'a mut dyn FnMut(Seat),
    /// Holds what was taken from before.
    found: &'a mut Discovery,
}

impl Walk<'_> {
    fn go(&mut self, root: &Node) -> Result<(), TreeError> {
        let mut ahead = vec![(Vec::new(), root.oid.clone(), 0_usize)];
        while let Some((stack, oid, depth)) = ahead.pop() {
            if self.take_unchanged(&stack, &oid)? {
                continue;
            }
            let limits = self.found.limits;
            self.looked_into += 1;
            if self.looked_into > limits.directories_max {
                let most = limits.directories_max;
                return Err(TreeError::Limit(format!("more than {most} directories")));
            }
            let directory = join(self.deploy_dir, &stack);
            let nodes = self.tree.listed(&directory)?.ok_or(TreeError::Missing)?;
            if Candidate::among(&nodes, COMPOSE_FILES).is_some() {
                self.note(&stack, directory.clone(), &oid, &nodes)?;
            }
            for node in nodes.iter() {
                if node.kind != EntryKind::Directory || node.name.starts_with(b".") {
                    continue;
                }
                if depth == limits.depth_max {
                    let (most, place) = (limits.depth_max, String::from_utf8_lossy(&directory));
                    let message = format!("directories nest deeper than {most}: {place}/…");
                    return Err(TreeError::Limit(message));
                }
                ahead.push((join(&stack, &node.name), node.oid.clone(), depth + 1));
            }
        }
        Ok(())
    }

    /// Hands on a stack that is to be read.
    fn note(
        &mut self,
        stack: &[u8],
        directory: Vec<u8>,
        tree_oid: &str,
        nodes: &Arc<[Node]>,
    ) -> Result<(), TreeError> {
        self.make_room()?;
        self.handed += 1;
        let (stack, tree_oid) = (stack.to_vec(), tree_oid.to_owned());
        (self.hand)(Seat { stack, directory, tree_oid, nodes: Arc::clone(nodes) });
        Ok(())
    }

    fn make_room(&self) -> Result<(), TreeError> {
        let most = self.found.limits.stacks_max;
        if self.found.stacks.len() + self.handed >= most {
            return Err(TreeError::Limit(format!("more than {most} stacks")));
        }
        Ok(())
    }

    /// Takes a directory and all below it from the time before, if its tree is the same; a stack
    /// that something outside has changed for is looked at again.
    fn take_unchanged(&mut self, stack: &[u8], oid: &str) -> Result<bool, TreeError> {
        let Some(before) = self.before else { return Ok(false) };
        let same = if stack.is_empty() {
            before.tree_oid == oid
        } else {
            before.stacks.get(stack).is_some_and(|known| known.tree_oid == oid)
        };
        if !same {
            return Ok(false);
        }
        let own = before.stacks.get_key_value(stack).into_iter();
        let mut below = own.chain(before.stacks.range(children_of(stack)));
        below.try_for_each(|(path, known)| self.take(path, known))?;
        Ok(true)
    }

    fn take(&mut self, stack: &[u8], known: &Arc<Found>) -> Result<(), TreeError> {
        for (path, stood) in &known.outside {
            let now = self.tree.node(path.as_bytes())?;
            if standing(now.as_ref()) != *stood {
                let directory = join(self.deploy_dir, stack);
                let nodes = self.tree.listed(&directory)?.ok_or(TreeError::Missing)?;
                return self.note(stack, directory, &known.tree_oid, &nodes);
            }
        }
        self.make_room()?;
        self.found.reused += 1;
        self.found.stacks.insert(stack.to_vec(), Arc::clone(known));
        Ok(())
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if !path.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The keys below a directory, without its own.
fn children_of(directory: &[u8]) -> (std::ops::Bound<Vec<u8>>, std::ops::Bound<Vec<u8>>) {
    use std::ops::Bound::{Excluded, Unbounded};
    if directory.is_empty() {
        return (Excluded(Vec::new()), Unbounded);
    }
    let mut first = directory.to_vec();
    first.push(b'/');
    // No name is empty, so nothing is `first` itself; and `0` follows `/`.
    let mut last = directory.to_vec();
    last.push(b'0');
    (Excluded(first), Excluded(last))
}

#[cfg(test)]
#[path = "discover_tests.rs"]
mod tests;
