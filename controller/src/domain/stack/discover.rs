//! Finds the stacks of a commit.
//!
//! Whatever is wrong with one stack is data beside it; an error of the whole is only what leaves
//! open which stacks there are. What has not changed since the last time is taken from there: a
//! stack hangs on the tree of its directory and on what it refers to outside of it, nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bundle::{self, Bundle, Collector, Use};
use super::cached::Cached;
use super::candidate::{COMPOSE_FILES, Candidate, Outside, named, regular};
use super::compose::{self, COMPOSE_BYTES_MAX, ComposeFile, Service};
use super::dotenv;
use super::fingerprint;
use super::hostler::HostlerSection;
use super::path;
use super::problem::{Problem, code, warning};
use super::project;
use super::tree::{EntryKind, Node, Tree, TreeError};

/// The names of the file beside it that Compose lays over it, the one that counts first.
pub const OVERRIDE_FILES: [&str; 2] =
    ["docker-compose.override.yml", "docker-compose.override.yaml"];
/// Most bytes of a compose file that is hashed; what is larger has no hash.
pub const HASHED_BYTES_MAX: usize = 16 << 20;

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

/// One stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Relative to the deploy directory, `.` for that itself; see [`path::named`].
    pub path: String,
    /// Its directory, relative to the repository's root; empty for the root. One that is not UTF-8, with
    /// which there is a problem, as [`path::shown`].
    pub directory: String,
    /// The compose file's name.
    pub compose_file: String,
    /// The name of the file that is laid over it.
    pub override_file: Option<String>,
    /// Of the compose file; none only if its bytes could not be read. See
    /// [`fingerprint::compose_hash`].
    pub compose_hash: Option<String>,
    /// The object id of the directory's tree.
    pub tree_oid: String,
    /// Its files; none exactly if there is a problem.
    pub bundle: Option<Bundle>,
    /// The compose project's name, if one follows.
    pub project: Option<String>,
    /// Its section `x-hostler`, or the defaults; with a problem it says nothing that may be acted
    /// on.
    pub hostler: HostlerSection,
    pub services: BTreeMap<String, Service>,
    /// What its services use, sorted.
    pub uses: Vec<Use>,
    /// What keeps it from being synced.
    pub problem: Option<Problem>,
    pub warnings: Vec<Problem>,
    /// What else it hangs on: paths outside its directory, and the object that stood there.
    pub outside: Vec<(String, Option<String>)>,
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
    let mut walk = Walk {
        tree: &cached,
        deploy_dir: deploy_dir.as_bytes(),
        before,
        looked_into: 0,
        found: Discovery {
            stacks: BTreeMap::new(),
            tree_oid: root.oid.clone(),
            reused: 0,
            source: source.clone(),
            limits: *limits,
        },
    };
    walk.go(&root)?;
    Ok(walk.found)
}

struct Walk<'a> {
    tree: &'a Cached<'a>,
    deploy_dir: &'a [u8],
    before: Option<&'a Discovery>,
    looked_into: usize,
    found: Discovery,
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
            if let Some(candidate) = Candidate::among(&nodes) {
                self.add(&stack, &directory, &oid, &candidate, &nodes)?;
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

    fn insert(&mut self, stack: &[u8], found: Arc<Found>) -> Result<(), TreeError> {
        let most = self.found.limits.stacks_max;
        if self.found.stacks.len() >= most {
            return Err(TreeError::Limit(format!("more than {most} stacks")));
        }
        self.found.stacks.insert(stack.to_vec(), found);
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
        for (path, oid) in &known.outside {
            let now = self.tree.node(path.as_bytes())?;
            if now.map(|node| node.oid) != *oid {
                let directory = join(self.deploy_dir, stack);
                let nodes = self.tree.listed(&directory)?.ok_or(TreeError::Missing)?;
                let candidate = Candidate::among(&nodes).ok_or(TreeError::Missing)?;
                return self.add(stack, &directory, &known.tree_oid, &candidate, &nodes);
            }
        }
        self.found.reused += 1;
        self.insert(stack, Arc::clone(known))
    }

    fn add(
        &mut self,
        stack: &[u8],
        directory: &[u8],
        tree_oid: &str,
        candidate: &Candidate<'_>,
        nodes: &[Node],
    ) -> Result<(), TreeError> {
        let mut found = Found {
            path: if stack.is_empty() { ".".to_owned() } else { path::named(stack) },
            directory: String::from_utf8(directory.to_vec())
                .unwrap_or_else(|_| path::shown(directory)),
            compose_file: candidate.name.to_owned(),
            override_file: None,
            compose_hash: None,
            tree_oid: tree_oid.to_owned(),
            bundle: None,
            project: None,
            hostler: HostlerSection::default(),
            services: BTreeMap::new(),
            uses: Vec::new(),
            problem: None,
            warnings: Vec::new(),
            outside: Vec::new(),
        };
        if candidate.both {
            let [first, second] = COMPOSE_FILES;
            let message = format!("both {first} and {second} are there; {} counts", candidate.name);
            found.warnings.push(Problem::new(warning::BOTH_COMPOSE_FILES, message));
        }
        match self.read(&mut found, stack, directory, candidate, nodes)? {
            Ok(()) => {}
            Err(problem) => found.problem = Some(problem),
        }
        if found.problem.is_some() {
            found.bundle = None;
        }
        self.insert(stack, Arc::new(found))
    }

    /// Reads a stack as far as it can be read.
    fn read(
        &self,
        found: &mut Found,
        stack: &[u8],
        directory: &[u8],
        candidate: &Candidate<'_>,
        nodes: &[Node],
    ) -> Result<Result<(), Problem>, TreeError> {
        let mut outside = Outside::new();
        let node = candidate.file(self.tree, directory, &mut outside)?;
        found.outside = outside.clone().into_iter().collect();
        let Some(node) = node else {
            let message = format!(
                "{} is a symbolic link that leads to no file of the repository; put the file itself \
                 there",
                candidate.name
            );
            return Ok(Err(Problem::new(code::COMPOSE_IS_SYMLINK, message)));
        };
        let file = match self.compose(found, candidate.name, &node)? {
            Ok(file) => file,
            Err(problem) => return Ok(Err(problem)),
        };
        let (bytes, most) = (path::shown(stack).len(), path::STACK_BYTES_MAX);
        if bytes > most {
            let message = format!("its path has {bytes} bytes; a stack's may have {most}");
            return Ok(Err(Problem::new(code::PATH_TOO_LONG, message)));
        }
        let Ok(directory) = std::str::from_utf8(directory) else {
            let message = format!("the path `{}` is not UTF-8", found.path);
            return Ok(Err(Problem::new(code::NAME_INVALID, message)));
        };
        if let Some(node) = named(nodes, ".env").filter(|node| node.kind.is_regular())
            && let Some(bytes) = bundle::read_up_to(self.tree, &node.oid, dotenv::BYTES_MAX)?
        {
            found.warnings.extend(dotenv::warnings(&bytes));
        }
        let mut name = file.name.clone();
        let includes = file.references.iter().any(|to| to.kind == compose::ReferenceKind::Include);
        let mut problem = section_problem(&file);
        found.hostler = file.hostler.clone().unwrap_or_default();
        let mut empty = file.services.is_empty() && !includes;
        let mut collector = Collector::new(self.tree, directory, self.found.limits.files_max);
        collector.add_compose(file);
        if let Some((file_name, node)) = regular(nodes, OVERRIDE_FILES) {
            found.override_file = Some(file_name.to_owned());
            match self.over(file_name, node)? {
                Ok(file) => {
                    if file.hostler.is_some() || !file.hostler_problems.is_empty() {
                        let message = format!(
                            "the section x-hostler of {file_name} is not read: put it into {}",
                            candidate.name
                        );
                        found.warnings.push(Problem::new(warning::SECTION_UNUSED, message));
                    }
                    name = file.name.clone().or(name);
                    empty &= file.services.is_empty();
                    collector.add_compose(file);
                }
                Err(wrong) => problem = problem.or(Some(wrong)),
            }
        }
        if empty {
            let message = format!("{} has no services", candidate.name);
            problem = problem.or(Some(Problem::new(code::COMPOSE_INVALID, message)));
        }
        match self.project(&found.hostler, name.as_deref(), stack, directory) {
            Ok(project) => found.project = Some(project),
            Err(wrong) => problem = problem.or(Some(wrong)),
        }
        let collected = collector.collect()?;
        found.bundle = Some(collected.bundle);
        found.services = collected.services;
        found.uses = collected.uses;
        outside.extend(collected.outside);
        found.outside = outside.into_iter().collect();
        found.warnings.extend(collected.warnings);
        found.problem = problem.or(collected.problem);
        Ok(Ok(()))
    }

    /// Hashes and reads the compose file.
    fn compose(
        &self,
        found: &mut Found,
        name: &str,
        node: &Node,
    ) -> Result<Result<ComposeFile, Problem>, TreeError> {
        let read = bundle::read_up_to(self.tree, &node.oid, HASHED_BYTES_MAX)?;
        let Some(bytes) = read else {
            let message = format!("{name} has more than {HASHED_BYTES_MAX} bytes");
            return Ok(Err(Problem::new(code::COMPOSE_TOO_LARGE, message)));
        };
        found.compose_hash = Some(fingerprint::compose_hash(&bytes));
        Ok(parse(name, &bytes))
    }

    fn over(&self, name: &str, node: &Node) -> Result<Result<ComposeFile, Problem>, TreeError> {
        let read = bundle::read_up_to(self.tree, &node.oid, COMPOSE_BYTES_MAX)?;
        let Some(bytes) = read else {
            let message = format!("{name} has more than {COMPOSE_BYTES_MAX} bytes");
            return Ok(Err(Problem::new(code::COMPOSE_TOO_LARGE, message)));
        };
        Ok(parse(name, &bytes))
    }

    /// The project's name: what the section says, else the compose files, else the directory.
    fn project(
        &self,
        section: &HostlerSection,
        name: Option<&str>,
        stack: &[u8],
        directory: &str,
    ) -> Result<String, Problem> {
        if let Some(project) = &section.project {
            return Ok(project.clone());
        }
        let named = match name {
            Some(name) if name.contains('$') => {
                let message = format!(
                    "the name `{name}` holds a variable; name the project in x-hostler.project"
                );
                return Err(Problem::new(code::PROJECT_NAME_INVALID, message));
            }
            Some(name) if name.len() > project::NAME_BYTES_MAX => {
                let most = project::NAME_BYTES_MAX;
                let message = format!("the compose file's `name` has more than {most} bytes");
                return Err(Problem::new(code::PROJECT_NAME_INVALID, message));
            }
            Some(name) => project::normalise(name),
            None => None,
        };
        let directory = if stack.is_empty() {
            self.found.source.repository.as_str()
        } else {
            directory.rsplit('/').next().unwrap_or(directory)
        };
        named.or_else(|| project::normalise(directory)).ok_or_else(|| {
            let message = format!(
                "`{directory}` has no letter or digit a project's name may have; give the compose \
                 file a `name`"
            );
            Problem::new(code::PROJECT_NAME_INVALID, message)
        })
    }
}

fn parse(name: &str, bytes: &[u8]) -> Result<ComposeFile, Problem> {
    if bundle::is_pointer(bytes) {
        return Err(Problem::new(code::LFS_POINTER, bundle::pointer_message(name)));
    }
    compose::read(bytes)
        .map_err(|problem| Problem::new(problem.code, format!("{name}: {}", problem.message)))
}

fn section_problem(file: &ComposeFile) -> Option<Problem> {
    if file.hostler_problems.is_empty() {
        return None;
    }
    let each: Vec<String> =
        file.hostler_problems.iter().map(|(place, says)| format!("{place}: {says}")).collect();
    Some(Problem::new(code::HOSTLER_SECTION_INVALID, format!("x-hostler: {}", each.join("; "))))
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
