//! What compose makes of the files: each service's definition, and what of the bundle it has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::contents::Contents;
use super::state::Seen;

/// Parts of a definition that make no container anew when they change.
const NOT_ITS_CONTAINERS: &[&str] = &["build", "pull_policy", "scale", "profiles", "depends_on"];
/// What names definitions that stand beside the services.
const NAMED: &[&str] = &["networks", "volumes", "configs", "secrets"];
/// What a variable's name has in it if its value is a secret.
const SECRET_WORDS: &[&str] = &["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "PRIVATE", "AUTH"];
/// A value shorter than this is not taken for a secret: replacing it would spoil every text.
const SECRET_CHARS_MIN: usize = 5;

/// A project as compose understands it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    pub services: BTreeMap<String, Service>,
    /// Values that must not be shown, from the services' variables.
    pub(super) secrets: Vec<String>,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// A digest of each part of its definition, by key.
    pub(super) keys: BTreeMap<String, String>,
    /// Paths of the bundle it has mounted: true for configs and secrets.
    pub(super) mounts: BTreeMap<String, bool>,
    /// Its build context, if that is in the bundle; empty is all of it.
    pub(super) build: Option<String>,
    pub(super) is_built: bool,
    pub(super) image: Option<String>,
    /// How many containers it is to have.
    pub(super) replicas: u64,
}

impl Resolved {
    /// Reads what `compose config` printed: JSON, or YAML from the first generation. Whatever it
    /// says of `looked_at`, where the files were for it, is read as being of `files`.
    ///
    /// # Errors
    /// A text for people.
    pub fn parse(printed: &[u8], looked_at: &Path, files: &Path) -> Result<Self, String> {
        let text = std::str::from_utf8(printed).map_err(|_| "it is no text".to_owned())?;
        let mut config: Value = match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map_err(|error| error.to_string())?,
            false => serde_norway::from_str(text).map_err(|error| error.to_string())?,
        };
        if looked_at != files {
            move_paths(&mut config, &looked_at.to_string_lossy(), &files.to_string_lossy());
        }
        let files = files.to_string_lossy();
        let mut resolved = Self::default();
        for (name, service) in object(&config, "services") {
            secrets_of(service, &mut resolved.secrets);
            resolved.services.insert(name.clone(), read_service(service, &config, &files));
        }
        Ok(resolved)
    }

    /// What is remembered of it, with what the bundle gives its services.
    pub(super) fn seen(&self, contents: &Contents<'_>) -> BTreeMap<String, Seen> {
        let seen = |service: &Service| {
            let digest = |path: &String| contents.digest(path).unwrap_or_default();
            Seen {
                keys: service.keys.clone(),
                mounts: service.mounts.keys().map(|path| (path.clone(), digest(path))).collect(),
                build: service.build.as_ref().map(digest),
                ..Seen::default()
            }
        };
        self.services.iter().map(|(name, service)| (name.clone(), seen(service))).collect()
    }
}

fn object<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(key).and_then(Value::as_object).into_iter().flatten()
}

fn read_service(service: &Value, config: &Value, files: &str) -> Service {
    let none = Map::new();
    let definition = service.as_object().unwrap_or(&none);
    let mut keys = BTreeMap::new();
    for (key, value) in definition {
        if NOT_ITS_CONTAINERS.contains(&key.as_str()) || is_empty(value) {
            continue;
        }
        let value = if key == "deploy" { without_replicas(value) } else { value.clone() };
        let mut sum = Sha256::new();
        write_canonical(&value, &mut sum);
        if NAMED.contains(&key.as_str()) {
            for name in named(&value) {
                let own = config.get(key).and_then(|defined| defined.get(&name));
                write_canonical(own.unwrap_or(&Value::Null), &mut sum);
            }
        }
        keys.insert(key.clone(), hex::encode(sum.finalize()));
    }
    let replicas = definition.get("scale").or_else(|| service.pointer("/deploy/replicas"));
    Service {
        keys,
        mounts: mounts(service, config, files),
        build: definition.get("build").and_then(|build| context(build, files)),
        is_built: definition.contains_key("build"),
        image: definition.get("image").and_then(Value::as_str).map(str::to_owned),
        replicas: replicas.and_then(Value::as_u64).unwrap_or(1),
    }
}

fn without_replicas(deploy: &Value) -> Value {
    let mut deploy = deploy.clone();
    if let Some(deploy) = deploy.as_object_mut() {
        deploy.remove("replicas");
    }
    deploy
}

fn is_empty(value: &Value) -> bool {
    value.is_null()
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(Map::is_empty)
}

/// The names a service's `networks`, `volumes`, `configs` or `secrets` have, in every form.
fn named(value: &Value) -> BTreeSet<String> {
    let of_item = |item: &Value| source(item).map(str::to_owned);
    match value {
        Value::Array(items) => items.iter().filter_map(of_item).collect(),
        Value::Object(items) => items.keys().cloned().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
    }
}

/// What a mount, a config or a secret of a service is of: `source:target:mode`, or an object.
fn source(item: &Value) -> Option<&str> {
    match item.as_str() {
        Some(text) => text.split(':').next(),
        None => item.get("source").and_then(Value::as_str),
    }
}

fn mounts(service: &Value, config: &Value, files: &str) -> BTreeMap<String, bool> {
    let mut mounts = BTreeMap::new();
    for volume in service.get("volumes").and_then(Value::as_array).into_iter().flatten() {
        if let Some(path) = source(volume).and_then(|source| inside(source, files)) {
            mounts.insert(path, false);
        }
    }
    for kind in ["configs", "secrets"] {
        for name in service.get(kind).map(named).unwrap_or_default() {
            let file = config.get(kind).and_then(|defined| defined.get(&name)?.get("file"));
            if let Some(path) = file.and_then(Value::as_str).and_then(|file| inside(file, files)) {
                mounts.insert(path, true);
            }
        }
    }
    mounts
}

fn context(build: &Value, files: &str) -> Option<String> {
    let context = build.as_str().or_else(|| build.get("context").and_then(Value::as_str))?;
    inside(context, files)
}

/// The bundle's path of a file of the host; `None` when it is not of the bundle.
fn inside(path: &str, files: &str) -> Option<String> {
    let rest = path.strip_prefix(files)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/').to_owned())
}

/// Feeds a value in a form that does not depend on the order of keys.
fn write_canonical(value: &Value, sum: &mut Sha256) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            sum.update(b"{");
            for (key, value) in sorted {
                sum.update(Value::from(key.as_str()).to_string());
                write_canonical(value, sum);
            }
            sum.update(b"}");
        }
        Value::Array(items) => {
            sum.update(b"[");
            for item in items {
                write_canonical(item, sum);
            }
            sum.update(b"]");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            sum.update(value.to_string());
            sum.update(b",");
        }
    }
}

fn move_paths(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text.contains(from) => *text = text.replace(from, to),
        Value::Array(items) => items.iter_mut().for_each(|item| move_paths(item, from, to)),
        Value::Object(map) => map.values_mut().for_each(|item| move_paths(item, from, to)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn secrets_of(service: &Value, secrets: &mut Vec<String>) {
    for (name, value) in object(service, "environment") {
        let name = name.to_ascii_uppercase();
        let value = value.as_str().unwrap_or_default();
        if value.len() >= SECRET_CHARS_MIN && SECRET_WORDS.iter().any(|word| name.contains(word)) {
            secrets.push(value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "services:\n  web:\n    image: box\n    environment: {API_TOKEN: s3cr3t}\n    \
        volumes:\n    - /h/check/conf:/conf:ro\n    - data:/data:rw\n    - /etc/hosts:/h\n    \
        secrets:\n    - source: key\nsecrets:\n  key: {file: /h/check/key.txt}\nvolumes: {data: {}}\n";

    fn parse(text: &str) -> Resolved {
        Resolved::parse(text.as_bytes(), Path::new("/h/check"), Path::new("/h/files")).unwrap()
    }

    #[test]
    fn both_generations_say_the_same_of_mounts() {
        let second = r#"{"services":{"web":{"image":"box","build":{"context":"/h/check"},
            "deploy":{"replicas":3},"volumes":[{"type":"bind","source":"/h/check/conf","target":"/c"},
            {"type":"volume","source":"data","target":"/data"}],"secrets":[{"source":"key"}]}},
            "secrets":{"key":{"name":"p_key","file":"/h/check/key.txt"}}}"#;
        let expected = BTreeMap::from([("conf".to_owned(), false), ("key.txt".to_owned(), true)]);
        let (first, second) = (parse(FIRST), parse(second));
        assert_eq!(first.services["web"].mounts, expected);
        let web = &second.services["web"];
        assert_eq!(web.mounts, expected);
        assert_eq!((web.build.as_deref(), web.replicas, web.is_built), (Some(""), 3, true));
        assert_eq!(first.secrets, ["s3cr3t"]);
    }

    #[test]
    fn where_the_files_were_looked_at_does_not_matter() {
        let there = FIRST.replace("/h/check", "/h/files");
        let files = Path::new("/h/files");
        assert_eq!(Resolved::parse(there.as_bytes(), files, files).unwrap(), parse(FIRST));
    }

    #[test]
    fn what_makes_no_container_anew_is_no_change() {
        let of = |definition: &str| {
            let text = format!("services: {{web: {{image: box, {definition}}}}}");
            parse(&text).services["web"].keys.clone()
        };
        let usual = of("command: [a]");
        assert_eq!(usual, of("command: [a], depends_on: [db], build: /x, networks: null"));
        assert_eq!(usual, of("scale: 4, command: [a]"));
        assert_ne!(usual, of("command: [b]"));
        assert_ne!(usual, of("command: [a], user: root"));
        assert_ne!(of("command: [ab, c]"), of("command: [a, bc]"));
    }

    #[test]
    fn a_network_s_own_definition_is_part_of_its_services() {
        let of = |driver: &str| {
            let text = format!(
                "services: {{a: {{networks: {{n: null}}}}, b: {{image: x}}}}\n\
                 networks: {{n: {{driver: {driver}}}}}\n"
            );
            parse(&text)
        };
        let (one, two) = (of("bridge"), of("macvlan"));
        assert_ne!(one.services["a"].keys, two.services["a"].keys);
        assert_eq!(one.services["b"].keys, two.services["b"].keys);
    }

    #[test]
    fn what_is_no_config_is_refused() {
        let there = Path::new("/h");
        assert!(Resolved::parse(b"\xff", there, there).is_err());
        assert!(Resolved::parse(b"{", there, there).is_err());
        assert!(Resolved::parse(b"- [", there, there).is_err());
    }
}
