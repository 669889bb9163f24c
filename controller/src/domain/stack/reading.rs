//! Reads one stack: its compose file, what that refers to, and what is wrong with either.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bundle::{self, Collector};
use super::cached::Cached;
use super::candidate::{COMPOSE_FILES, Candidate, OVERRIDE_FILES, Outside, named};
use super::compose::{self, COMPOSE_BYTES_MAX, ComposeFile};
use super::dotenv;
use super::fingerprint;
use super::found::Found;
use super::hostler::HostlerSection;
use super::path;
use super::problem::{Problem, code, warning};
use super::project;
use super::tree::{Node, TreeError};

/// Most bytes of a compose file that is hashed; what is larger has no hash.
pub(super) const HASHED_BYTES_MAX: usize = 16 << 20;

/// A directory with a compose file.
pub(super) struct Seat {
    /// Its path's bytes below the deploy directory.
    pub(super) stack: Vec<u8>,
    /// Its path's bytes below the repository's root.
    pub(super) directory: Vec<u8>,
    pub(super) tree_oid: String,
    /// What is in it.
    pub(super) nodes: Arc<[Node]>,
}

/// Reads stacks of one commit; by any number of threads.
pub(super) struct Reader<'a> {
    pub(super) tree: &'a Cached<'a>,
    /// Most files of one stack.
    pub(super) files_max: usize,
    /// The project of a stack that is the deploy directory itself.
    pub(super) repository: &'a str,
}

impl Reader<'_> {
    /// The stack there, with what is wrong with it.
    ///
    /// # Errors
    /// `Missing` if there is no compose file, and whatever of the tree cannot be read.
    pub(super) fn stack(&self, seat: &Seat) -> Result<Found, TreeError> {
        let candidate = Candidate::among(&seat.nodes, COMPOSE_FILES).ok_or(TreeError::Missing)?;
        let (stack, directory) = (seat.stack.as_slice(), seat.directory.as_slice());
        let mut found = Found {
            path: if stack.is_empty() { ".".to_owned() } else { path::named(stack) },
            directory: String::from_utf8(directory.to_vec())
                .unwrap_or_else(|_| path::shown(directory)),
            compose_file: candidate.name.to_owned(),
            override_file: None,
            compose_hash: None,
            tree_oid: seat.tree_oid.clone(),
            bundle: None,
            project: None,
            hostler: HostlerSection::default(),
            services: BTreeMap::new(),
            uses: Vec::new(),
            problem: None,
            warnings: Vec::new(),
            outside: Outside::new(),
        };
        if candidate.both {
            let [first, second] = COMPOSE_FILES;
            let message = format!("both {first} and {second} are there; {} counts", candidate.name);
            found.warnings.push(Problem::new(warning::BOTH_COMPOSE_FILES, message));
        }
        match self.read(&mut found, seat, &candidate)? {
            Ok(()) => {}
            Err(problem) => found.problem = Some(problem),
        }
        if found.problem.is_some() {
            found.bundle = None;
        }
        Ok(found)
    }

    /// Reads a stack as far as it can be read.
    fn read(
        &self,
        found: &mut Found,
        seat: &Seat,
        candidate: &Candidate<'_>,
    ) -> Result<Result<(), Problem>, TreeError> {
        let Seat { stack, directory, nodes, .. } = seat;
        let mut outside = Outside::new();
        let node = candidate.file(self.tree, directory, &mut outside)?;
        found.outside.clone_from(&outside);
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
        let mut collector = Collector::new(self.tree, directory, self.files_max);
        collector.add_compose(file);
        if let Some(over) = Candidate::among(nodes, OVERRIDE_FILES) {
            let file_name = over.name;
            match self.over(found, &over, directory, &mut outside)? {
                Ok(None) => {}
                Ok(Some(file)) => {
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
        found.outside = outside;
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

    /// Reads the override file; nothing if it is a link to nothing, which Compose passes over too.
    fn over(
        &self,
        found: &mut Found,
        over: &Candidate<'_>,
        directory: &str,
        outside: &mut Outside,
    ) -> Result<Result<Option<ComposeFile>, Problem>, TreeError> {
        let name = over.name;
        let Some(node) = over.file(self.tree, directory.as_bytes(), outside)? else {
            let message = format!(
                "{name} is a symbolic link that leads to no file of the repository: it is not used"
            );
            found.warnings.push(Problem::new(warning::OVERRIDE_LEADS_NOWHERE, message));
            return Ok(Ok(None));
        };
        found.override_file = Some(name.to_owned());
        let read = bundle::read_up_to(self.tree, &node.oid, COMPOSE_BYTES_MAX)?;
        let Some(bytes) = read else {
            let message = format!("{name} has more than {COMPOSE_BYTES_MAX} bytes");
            return Ok(Err(Problem::new(code::COMPOSE_TOO_LARGE, message)));
        };
        Ok(parse(name, &bytes).map(Some))
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
            self.repository
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
