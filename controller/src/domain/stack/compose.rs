//! What Hostler reads of a compose file: its services, the files it refers to, and its own section.
//!
//! Compose itself is the judge of everything else. Paths stay as they are written, relative to the
//! file's project directory; whoever knows the tree resolves them. A path that holds a variable
//! cannot be resolved before the host is known: it is kept and marked.

use std::collections::{BTreeMap, BTreeSet};

use super::hostler::{self, HostlerSection};
use super::problem::{Problem, code};
use super::volumes;
use super::yaml::{self, Yaml};

/// Most bytes of a compose file that is read.
pub const COMPOSE_BYTES_MAX: usize = 1 << 20;
/// Most references one file makes.
pub const REFERENCES_MAX: usize = 10_000;

/// What a compose file refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReferenceKind {
    /// Another compose file that becomes part of this one.
    Include,
    /// Another compose file, one service of which is taken over.
    Extends,
    EnvFile,
    Config,
    Secret,
    Bind,
    BuildContext,
}

/// One path that a compose file refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// As it is written, with `$$` undone; relative to the project directory.
    pub path: String,
    pub kind: ReferenceKind,
    /// The service that refers to it, if it is one.
    pub service: Option<String>,
    /// Whether the stack cannot start without it.
    pub required: bool,
    /// `false` if the path holds a variable.
    pub resolvable: bool,
    /// Of an included file: the directory its own paths are relative to, as this path is.
    pub project_directory: Option<String>,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// As it is written, variables and all.
    pub image: Option<String>,
    /// Whether the host builds it.
    pub build: bool,
    /// Whether it starts only when a profile is asked for.
    pub profiled: bool,
}

/// A compose file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComposeFile {
    /// The project name it gives itself, as it is written.
    pub name: Option<String>,
    pub services: BTreeMap<String, Service>,
    /// In the order of the file's sections; none stands twice.
    pub references: Vec<Reference>,
    /// Its section `x-hostler`, if it has one that is right.
    pub hostler: Option<HostlerSection>,
    /// What is wrong with that section: JSON pointers below it, and sentences.
    pub hostler_problems: Vec<(String, String)>,
}

/// Reads a compose file; of several documents in it, all count.
///
/// # Errors
/// `COMPOSE_TOO_LARGE` or `COMPOSE_INVALID`.
pub fn read(bytes: &[u8]) -> Result<ComposeFile, Problem> {
    if bytes.len() > COMPOSE_BYTES_MAX {
        return Err(Problem::new(
            code::COMPOSE_TOO_LARGE,
            format!("{} bytes are more than the {COMPOSE_BYTES_MAX} that are read", bytes.len()),
        ));
    }
    let invalid = |message| Problem::new(code::COMPOSE_INVALID, message);
    let documents = yaml::read(bytes).map_err(invalid)?;
    let mut reader = Reader::default();
    for document in &documents {
        reader.document(document).map_err(invalid)?;
    }
    Ok(reader.file)
}

#[derive(Default)]
struct Reader {
    file: ComposeFile,
    seen: BTreeSet<(ReferenceKind, String, Option<String>)>,
}

/// A path below a place, for messages.
fn at(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

fn wrong<T>(place: &str, wanted: &str, value: &Yaml) -> Result<T, String> {
    Err(format!("`{place}` must be {wanted}, not {}", value.kind()))
}

/// What stands under a key, unless that is nothing.
fn field<'a>(map: &'a BTreeMap<String, Yaml>, key: &str) -> Option<&'a Yaml> {
    map.get(key).filter(|value| **value != Yaml::Null)
}

/// The mapping under a key; an absent one is empty.
fn mapping<'a>(
    map: &'a BTreeMap<String, Yaml>,
    key: &str,
    place: &str,
) -> Result<Vec<(&'a String, &'a Yaml)>, String> {
    match field(map, key) {
        None => Ok(Vec::new()),
        Some(Yaml::Map(map)) => Ok(map.iter().collect()),
        Some(other) => wrong(&at(place, key), "a mapping", other),
    }
}

/// One text or a list of items.
fn one_or_many(value: &Yaml) -> &[Yaml] {
    match value {
        Yaml::List(items) => items,
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) | Yaml::Map(_) => {
            std::slice::from_ref(value)
        }
    }
}

fn text<'a>(value: &'a Yaml, place: &str) -> Result<&'a str, String> {
    match value {
        Yaml::Text(text) | Yaml::Number(text) => Ok(text),
        Yaml::Null | Yaml::Bool(_) | Yaml::List(_) | Yaml::Map(_) => wrong(place, "a text", value),
    }
}

/// Whether a place for files is not a path: another protocol's, or a git remote.
fn is_remote(path: &str) -> bool {
    path.contains("://") || path.starts_with("git@") || path.starts_with("github.com/")
}

/// Whether a path says nothing of the repository: it begins at the host's root or somebody's home.
fn is_of_the_host(path: &str) -> bool {
    path.starts_with('/') || path.starts_with('~')
}

impl Reader {
    fn document(&mut self, document: &Yaml) -> Result<(), String> {
        let root = match document {
            Yaml::Map(root) => root,
            Yaml::Null => return Ok(()),
            Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) | Yaml::List(_) => {
                return Err(format!("a compose file is a mapping, not {}", document.kind()));
            }
        };
        if let Some(name) = field(root, "name") {
            self.file.name = Some(text(name, "name")?.to_owned());
        }
        for item in field(root, "include").map(one_or_many).unwrap_or_default() {
            self.include(item)?;
        }
        for (name, service) in mapping(root, "services", "")? {
            self.service(name, service)?;
        }
        for (key, kind) in [("configs", ReferenceKind::Config), ("secrets", ReferenceKind::Secret)]
        {
            self.files_of_names(root, key, kind)?;
        }
        for (_, volume) in mapping(root, "volumes", "")? {
            if let Some(device) = volumes::bound_device(volume) {
                self.refer(device, ReferenceKind::Bind, None, false)?;
            }
        }
        if let Some(section) = root.get("x-hostler") {
            match hostler::read(section) {
                Ok(section) => self.file.hostler = Some(section),
                Err(problems) => self.file.hostler_problems = problems,
            }
        }
        Ok(())
    }

    /// Configs or secrets that come from files: a reference for each service that names one.
    fn files_of_names(
        &mut self,
        root: &BTreeMap<String, Yaml>,
        key: &str,
        kind: ReferenceKind,
    ) -> Result<(), String> {
        let services = mapping(root, "services", "")?;
        for (name, value) in mapping(root, key, "")? {
            let Some(file) = value.get("file").filter(|file| **file != Yaml::Null) else {
                continue;
            };
            let file = text(file, &format!("{key}.{name}.file"))?;
            let names = |service: &Yaml| {
                let all = service.get(key).map(Yaml::items).unwrap_or_default();
                all.iter().any(|item| item.get("source").unwrap_or(item).as_text() == Some(name))
            };
            let mut used = false;
            for (service, _) in services.iter().filter(|(_, service)| names(service)) {
                self.refer(file, kind, Some(service), true)?;
                used = true;
            }
            if !used {
                self.refer(file, kind, None, false)?;
            }
        }
        Ok(())
    }

    fn include(&mut self, item: &Yaml) -> Result<(), String> {
        let Some(long) = item.as_map() else {
            return self.included(&[text(item, "include")?], None);
        };
        let Some(path) = field(long, "path") else {
            return Err("`include.path` is missing".to_owned());
        };
        let paths = one_or_many(path)
            .iter()
            .map(|path| text(path, "include.path"))
            .collect::<Result<Vec<&str>, String>>()?;
        let directory = match field(long, "project_directory") {
            Some(directory) => Some(text(directory, "include.project_directory")?),
            None => None,
        };
        for file in field(long, "env_file").map(one_or_many).unwrap_or_default() {
            self.refer(text(file, "include.env_file")?, ReferenceKind::EnvFile, None, true)?;
        }
        self.included(&paths, directory)
    }

    /// Files that are included together: the first one's directory is that of all their paths,
    /// unless it is given (<https://docs.docker.com/reference/compose-file/include/>).
    fn included(&mut self, paths: &[&str], directory: Option<&str>) -> Result<(), String> {
        let first = paths.first().copied().unwrap_or_default();
        let above = first.rsplit_once('/').map_or(".", |(above, _)| above);
        let directory = directory.unwrap_or(above);
        for path in paths {
            self.refer(path, ReferenceKind::Include, None, true)?;
            if let Some(last) = self.file.references.last_mut()
                && last.kind == ReferenceKind::Include
            {
                last.project_directory = Some(directory.to_owned());
            }
        }
        if !is_remote(first) {
            self.refer(&format!("{directory}/.env"), ReferenceKind::EnvFile, None, false)?;
        }
        Ok(())
    }

    fn service(&mut self, name: &str, value: &Yaml) -> Result<(), String> {
        let place = format!("services.{name}");
        let map = match value {
            Yaml::Map(map) => map,
            Yaml::Null => {
                self.file.services.entry(name.to_owned()).or_default();
                return Ok(());
            }
            Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) | Yaml::List(_) => {
                return wrong(&place, "a mapping", value);
            }
        };
        let mut service = Service::default();
        if let Some(image) = field(map, "image") {
            service.image = Some(text(image, &at(&place, "image"))?.to_owned());
        }
        service.profiled = field(map, "profiles").is_some_and(|all| !one_or_many(all).is_empty());
        if let Some(build) = field(map, "build") {
            service.build = true;
            self.build(name, build, &at(&place, "build"))?;
        }
        for key in ["env_file", "label_file"] {
            for item in field(map, key).map(one_or_many).unwrap_or_default() {
                self.env_file(name, item, &at(&place, key))?;
            }
        }
        if let Some(file) = field(map, "extends").and_then(|extends| extends.get("file")) {
            let file = text(file, &at(&place, "extends.file"))?;
            self.refer(file, ReferenceKind::Extends, Some(name), true)?;
        }
        if let Some(file) = field(map, "credential_spec").and_then(|spec| spec.get("file")) {
            let file = text(file, &at(&place, "credential_spec.file"))?;
            self.refer(file, ReferenceKind::Config, Some(name), true)?;
        }
        if let Some(all) = field(map, "volumes") {
            let Yaml::List(all) = all else {
                return wrong(&at(&place, "volumes"), "a list", all);
            };
            for volume in all {
                if let Some(source) = volumes::bind_source(volume) {
                    self.refer(source, ReferenceKind::Bind, Some(name), false)?;
                }
            }
        }
        self.file.services.insert(name.to_owned(), service);
        Ok(())
    }

    fn build(&mut self, service: &str, build: &Yaml, place: &str) -> Result<(), String> {
        let kind = ReferenceKind::BuildContext;
        let Some(map) = build.as_map() else {
            return self.refer(text(build, place)?, kind, Some(service), true);
        };
        let context = match field(map, "context") {
            Some(context) => text(context, &at(place, "context"))?,
            None => ".",
        };
        self.refer(context, kind, Some(service), true)?;
        if let Some(file) = field(map, "dockerfile") {
            let file = text(file, &at(place, "dockerfile"))?;
            // An absolute one is of the host, and one of a remote context comes with it.
            if !is_of_the_host(file) && !is_of_the_host(context) && !is_remote(context) {
                self.refer(&format!("{context}/{file}"), kind, Some(service), true)?;
            }
        }
        for context in additional_contexts(map, place)? {
            self.refer(context, kind, Some(service), true)?;
        }
        Ok(())
    }

    fn env_file(&mut self, service: &str, item: &Yaml, place: &str) -> Result<(), String> {
        let Some(long) = item.as_map() else {
            let path = text(item, place)?;
            return self.refer(path, ReferenceKind::EnvFile, Some(service), true);
        };
        let Some(path) = field(long, "path") else {
            return Err(format!("`{place}.path` is missing"));
        };
        let required = match field(long, "required") {
            None | Some(Yaml::Bool(true)) => true,
            Some(Yaml::Bool(false)) => false,
            Some(other) => return wrong(&at(place, "required"), "true or false", other),
        };
        let path = text(path, &at(place, "path"))?;
        self.refer(path, ReferenceKind::EnvFile, Some(service), required)
    }

    /// Notes a reference, unless it is none to a file of the repository.
    fn refer(
        &mut self,
        path: &str,
        kind: ReferenceKind,
        service: Option<&str>,
        required: bool,
    ) -> Result<(), String> {
        if path.is_empty() || is_of_the_host(path) || is_remote(path) {
            return Ok(());
        }
        let service = service.map(str::to_owned);
        if !self.seen.insert((kind, path.to_owned(), service.clone())) {
            return Ok(());
        }
        if self.file.references.len() == REFERENCES_MAX {
            return Err(format!("the file refers to more than {REFERENCES_MAX} paths"));
        }
        let literal = path.replace("$$", "");
        self.file.references.push(Reference {
            path: path.replace("$$", "$"),
            kind,
            service,
            required,
            resolvable: !literal.contains('$'),
            project_directory: None,
        });
        Ok(())
    }
}

/// The paths of further build contexts, given as a mapping or as a list of `name=path`.
fn additional_contexts<'a>(
    build: &'a BTreeMap<String, Yaml>,
    place: &str,
) -> Result<Vec<&'a str>, String> {
    let place = at(place, "additional_contexts");
    let all = match field(build, "additional_contexts") {
        None => Vec::new(),
        Some(Yaml::Map(map)) => {
            map.values().map(|path| text(path, &place)).collect::<Result<_, String>>()?
        }
        Some(Yaml::List(items)) => {
            let pair = |item| text(item, &place).map(|pair| pair.split_once('=').map(|p| p.1));
            let pairs = items.iter().map(pair).collect::<Result<Vec<_>, String>>()?;
            pairs.into_iter().flatten().collect()
        }
        Some(other) => return wrong(&place, "a mapping or a list", other),
    };
    // `service:name` is the image of another service.
    Ok(all.into_iter().filter(|path| !path.starts_with("service:")).collect())
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
