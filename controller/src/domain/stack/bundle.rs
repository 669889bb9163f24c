//! What a stack is made of: every file below its directory, and everything it refers to outside of
//! it but inside the repository.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::bundle::{PATH_BYTES_MAX, is_path};

use super::cached::Cached;
use super::candidate::{Outside, standing};
use super::compose::{self, COMPOSE_BYTES_MAX, ComposeFile, Reference, ReferenceKind, Service};
use super::fingerprint::{self, BundleFile};
use super::path::{self, Place};
use super::problem::{Problem, code, warning};
use super::tree::{EntryKind, Node, Tree, TreeError};

/// Most compose files that become part of one stack by `include` and `extends`.
pub const COMPOSE_FILES_MAX: usize = 256;
/// What every pointer of Git LFS begins with
/// (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
pub const LFS_PREFIX: &[u8] = b"version https://git-lfs.github.com/spec/v1";
/// A pointer of Git LFS is smaller than this, by its specification.
pub const LFS_POINTER_BYTES_MAX: usize = 1024;

/// All files of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Sorted by path.
    pub files: Vec<BundleFile>,
    /// See [`fingerprint::bundle_digest`].
    pub digest: String,
}

/// A file or directory that a stack uses, as it is found in the repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The service that refers to it; none for what the whole stack uses.
    pub service: Option<String>,
    pub kind: ReferenceKind,
    /// Relative to the repository's root, links followed.
    pub path: String,
}

/// What was collected of a stack.
pub(super) struct Collected {
    pub(super) bundle: Bundle,
    pub(super) services: BTreeMap<String, Service>,
    pub(super) uses: Vec<Use>,
    pub(super) outside: Outside,
    pub(super) warnings: Vec<Problem>,
    /// What was found first.
    pub(super) problem: Option<Problem>,
}

/// A compose file's part of the stack that is still to be looked at.
struct Part {
    file: ComposeFile,
    /// What its paths are relative to.
    directory: String,
    /// Whether what it misses is a problem: a file that is extended is used only in parts.
    strict: bool,
}

/// Collects a stack, starting from its directory and the compose files in it.
pub(super) struct Collector<'a> {
    tree: &'a Cached<'a>,
    directory: &'a str,
    files_max: usize,
    files: BTreeMap<String, (EntryKind, String)>,
    listed: BTreeSet<String>,
    parts: Vec<Part>,
    read: BTreeSet<(String, String)>,
    services: BTreeMap<String, Service>,
    uses: BTreeSet<Use>,
    outside: Outside,
    warnings: Vec<Problem>,
    problem: Option<Problem>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(tree: &'a Cached<'a>, directory: &'a str, files_max: usize) -> Self {
        Self {
            tree,
            directory,
            files_max,
            files: BTreeMap::new(),
            listed: BTreeSet::new(),
            parts: Vec::new(),
            read: BTreeSet::new(),
            services: BTreeMap::new(),
            uses: BTreeSet::new(),
            outside: Outside::new(),
            warnings: Vec::new(),
            problem: None,
        }
    }

    /// Adds a compose file of the directory itself; a later one counts over an earlier one.
    pub(super) fn add_compose(&mut self, file: ComposeFile) {
        let directory = self.directory.to_owned();
        self.parts.push(Part { file, directory, strict: true });
    }

    /// Goes on until nothing more is referred to.
    pub(super) fn collect(mut self) -> Result<Collected, TreeError> {
        self.add_directory(self.directory)?;
        // Parts are taken from the front, so that they count in the order they were named.
        let mut parts = std::collections::VecDeque::from(std::mem::take(&mut self.parts));
        while let Some(part) = parts.pop_front() {
            if part.strict {
                self.services.extend(part.file.services);
            }
            for reference in &part.file.references {
                self.reference(reference, &part.directory, part.strict)?;
            }
            parts.extend(std::mem::take(&mut self.parts));
        }
        let file = |(path, (kind, oid))| BundleFile { path, kind, oid };
        let files: Vec<BundleFile> = self.files.into_iter().map(file).collect();
        let digest = fingerprint::bundle_digest(&files);
        Ok(Collected {
            bundle: Bundle { files, digest },
            services: self.services,
            uses: self.uses.into_iter().collect(),
            outside: self.outside,
            warnings: self.warnings,
            problem: self.problem,
        })
    }

    fn wrong(&mut self, code: &'static str, message: impl Into<String>) {
        if self.problem.is_none() {
            self.problem = Some(Problem::new(code, message));
        }
    }

    /// Adds all that is below a directory.
    fn add_directory(&mut self, directory: &str) -> Result<(), TreeError> {
        let mut ahead = vec![directory.to_owned()];
        while let Some(directory) = ahead.pop() {
            if !self.listed.insert(directory.clone()) {
                continue;
            }
            let Some(nodes) = self.tree.listed(directory.as_bytes())? else { continue };
            for node in nodes.iter() {
                let Some(name) = plain_name(&node.name) else {
                    let name = path::shown(&node.name);
                    self.wrong(
                        code::NAME_INVALID,
                        format!("`{name}` in `{directory}/` is no name a file may have here"),
                    );
                    continue;
                };
                let path = path::below(&directory, name);
                if node.kind == EntryKind::Directory {
                    ahead.push(path);
                } else {
                    self.add_entry(path, node)?;
                }
            }
        }
        Ok(())
    }

    /// Adds what is no directory.
    fn add_entry(&mut self, path: String, node: &Node) -> Result<(), TreeError> {
        if self.files.contains_key(&path) {
            return Ok(());
        }
        match node.kind {
            EntryKind::Submodule => {
                self.wrong(code::SUBMODULE, format!("`{path}` is a submodule"));
                return Ok(());
            }
            EntryKind::Directory => return Ok(()),
            EntryKind::File | EntryKind::Executable | EntryKind::Symlink => {}
        }
        if !is_path(&path) {
            self.wrong(code::NAME_INVALID, no_path(&path));
            return Ok(());
        }
        if self.files.len() >= self.files_max {
            let message = format!("it has more than {} files", self.files_max);
            self.wrong(code::TOO_MANY_FILES, message);
            return Ok(());
        }
        self.files.insert(path.clone(), (node.kind, node.oid.clone()));
        if node.kind == EntryKind::Symlink {
            // What a link leads to is part of the stack as much as the link.
            let place = self.follow(&path)?;
            match place {
                Place::At { path, node } => self.add(&path, &node)?,
                Place::Nothing => {}
                Place::Out => {
                    let message = format!("the link `{path}` leads out of the repository");
                    self.wrong(code::SYMLINK_LEAVES, message);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, node: &Node) -> Result<(), TreeError> {
        if node.kind == EntryKind::Directory {
            self.add_directory(path)
        } else {
            self.add_entry(path.to_owned(), node)
        }
    }

    /// Follows a path; links on the way become part of the bundle, and whatever the result hangs on
    /// outside of the stack's directory is kept.
    fn follow(&mut self, path: &str) -> Result<Place, TreeError> {
        let mut links = Vec::new();
        let (outside, directory) = (&mut self.outside, self.directory);
        let place = path::follow(self.tree, path, &mut |at, node| {
            if !path::is_within(at, directory) {
                outside.insert(at.to_owned(), standing(node));
            }
            if let Some(node) = node
                && node.kind == EntryKind::Symlink
            {
                links.push((at.to_owned(), node.oid.clone()));
            }
        })?;
        for (path, oid) in links {
            if !is_path(&path) {
                self.wrong(code::NAME_INVALID, no_path(&path));
                continue;
            }
            self.files.entry(path).or_insert((EntryKind::Symlink, oid));
        }
        Ok(place)
    }

    fn reference(
        &mut self,
        reference: &Reference,
        directory: &str,
        strict: bool,
    ) -> Result<(), TreeError> {
        let whose = described(reference);
        if !reference.resolvable {
            let message = format!("{whose} holds a variable and is not looked for");
            self.warnings.push(Problem::new(warning::VARIABLE_PATH, message));
            return Ok(());
        }
        let Some(path) = path::join(directory, &reference.path) else {
            self.wrong(code::REFERENCE_LEAVES, format!("{whose} leads out of the repository"));
            return Ok(());
        };
        match self.follow(&path)? {
            Place::At { path, node } => self.used(reference, directory, &path, &node, strict),
            Place::Out => {
                let message = format!("{whose} leads out of the repository by a link");
                self.wrong(code::SYMLINK_LEAVES, message);
                Ok(())
            }
            Place::Nothing => {
                if !self.encrypted(reference, &path)? && reference.required && strict {
                    let message = format!("{whose} is not in the repository");
                    self.wrong(code::REFERENCE_MISSING, message);
                }
                Ok(())
            }
        }
    }

    /// Whether a file that is not there is there encrypted: `x.age` for `x`, which the host
    /// decrypts beside it.
    fn encrypted(&mut self, reference: &Reference, path: &str) -> Result<bool, TreeError> {
        let may = match reference.kind {
            ReferenceKind::EnvFile
            | ReferenceKind::Config
            | ReferenceKind::Secret
            | ReferenceKind::Bind => true,
            ReferenceKind::Include | ReferenceKind::Extends | ReferenceKind::BuildContext => false,
        };
        if !may {
            return Ok(false);
        }
        let Place::At { path, node } = self.follow(&format!("{path}.age"))? else {
            return Ok(false);
        };
        if !node.kind.is_regular() {
            return Ok(false);
        }
        self.add(&path, &node)?;
        self.check_pointer(&path, &node)?;
        self.uses.insert(Use { service: reference.service.clone(), kind: reference.kind, path });
        Ok(true)
    }

    /// A reference that leads to something.
    fn used(
        &mut self,
        reference: &Reference,
        directory: &str,
        path: &str,
        node: &Node,
        strict: bool,
    ) -> Result<(), TreeError> {
        self.add(path, node)?;
        let (service, kind) = (reference.service.clone(), reference.kind);
        self.uses.insert(Use { service, kind, path: path.to_owned() });
        if !node.kind.is_regular() {
            return Ok(());
        }
        match reference.kind {
            ReferenceKind::BuildContext => Ok(()),
            ReferenceKind::EnvFile
            | ReferenceKind::Config
            | ReferenceKind::Secret
            | ReferenceKind::Bind => self.check_pointer(path, node),
            ReferenceKind::Include => {
                let above = reference.project_directory.as_deref().unwrap_or(".");
                match path::join(directory, above) {
                    Some(below) => self.read_part(path, node, below, strict),
                    None => {
                        let message = "a project directory leads out of the repository";
                        self.wrong(code::REFERENCE_LEAVES, message);
                        Ok(())
                    }
                }
            }
            ReferenceKind::Extends => {
                self.read_part(path, node, path::above(path).to_owned(), false)
            }
        }
    }

    fn check_pointer(&mut self, path: &str, node: &Node) -> Result<(), TreeError> {
        if let Some(bytes) = read_up_to(self.tree, &node.oid, LFS_POINTER_BYTES_MAX)?
            && is_pointer(&bytes)
        {
            self.wrong(code::LFS_POINTER, pointer_message(path));
        }
        Ok(())
    }

    /// Reads another compose file that becomes part of the stack.
    fn read_part(
        &mut self,
        path: &str,
        node: &Node,
        directory: String,
        strict: bool,
    ) -> Result<(), TreeError> {
        if !self.read.insert((path.to_owned(), directory.clone())) {
            return Ok(());
        }
        if self.read.len() > COMPOSE_FILES_MAX {
            let message = format!("more than {COMPOSE_FILES_MAX} compose files are included");
            self.wrong(code::COMPOSE_TOO_MANY, message);
            return Ok(());
        }
        let Some(bytes) = read_up_to(self.tree, &node.oid, COMPOSE_BYTES_MAX)? else {
            let message = format!("`{path}` has more than {COMPOSE_BYTES_MAX} bytes");
            self.wrong(code::COMPOSE_TOO_LARGE, message);
            return Ok(());
        };
        if is_pointer(&bytes) {
            self.wrong(code::LFS_POINTER, pointer_message(path));
            return Ok(());
        }
        match compose::read(&bytes) {
            Ok(file) => self.parts.push(Part { file, directory, strict }),
            Err(problem) => self.wrong(problem.code, format!("`{path}`: {}", problem.message)),
        }
        Ok(())
    }
}

fn no_path(path: &str) -> String {
    format!(
        "`{}` is no path a file of a stack may have: one has at most {PATH_BYTES_MAX} bytes, and no \
         backslash",
        path::named(path.as_bytes())
    )
}

/// A reference as a message names it.
fn described(reference: &Reference) -> String {
    let path = &reference.path;
    let what = match reference.kind {
        ReferenceKind::Include => "the included file",
        ReferenceKind::Extends => "the extended file",
        ReferenceKind::EnvFile => "the env file",
        ReferenceKind::Config => "the config",
        ReferenceKind::Secret => "the secret",
        ReferenceKind::Bind => "the bind mount",
        ReferenceKind::BuildContext => "the build context",
    };
    match &reference.service {
        Some(service) => format!("{what} `{path}` of service `{service}`"),
        None => format!("{what} `{path}`"),
    }
}

/// What a person is told of a pointer of Git LFS.
#[must_use]
pub fn pointer_message(path: &str) -> String {
    format!("`{path}` is a pointer to Git LFS; Hostler does not fetch LFS: commit the file itself")
}

/// Whether a file's bytes are a pointer of Git LFS.
#[must_use]
pub fn is_pointer(bytes: &[u8]) -> bool {
    bytes.len() < LFS_POINTER_BYTES_MAX && bytes.starts_with(LFS_PREFIX)
}

/// A blob's bytes; `None` if there are too many.
pub(super) fn read_up_to(
    tree: &dyn Tree,
    oid: &str,
    max_bytes: usize,
) -> Result<Option<Vec<u8>>, TreeError> {
    match tree.read(oid, max_bytes) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(TreeError::TooLarge { .. }) => Ok(None),
        Err(
            error @ (TreeError::Missing
            | TreeError::Unreadable(_)
            | TreeError::Limit(_)
            | TreeError::Cancelled),
        ) => Err(error),
    }
}

/// A name that every working tree can hold: git itself refuses the others, but a tree made by hand
/// may have them.
fn plain_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let refused = name.is_empty()
        || name == "."
        || name == ".."
        || name.eq_ignore_ascii_case(".git")
        || name.contains(['/', '\0']);
    (!refused).then_some(name)
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
