//! The section `x-hostler` of a compose file: where a stack runs and how it is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::path;
use super::project;
use super::yaml::Yaml;
use crate::domain::label::{self, Labels};
use crate::domain::validate::Problems;

/// How long a stack's services may take to be healthy, unless it says otherwise.
pub const HEALTH_SECS_DEFAULT: u32 = 120;
/// The longest it may say.
pub const HEALTH_SECS_MAX: u32 = 3600;
/// Most hosts, or stacks to wait for, one section names.
pub const NAMES_MAX: usize = 1_000;
/// Longest name of a host, in bytes.
pub const HOST_NAME_BYTES_MAX: usize = 253;

/// What happens when a host is no longer as it was synced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftPolicy {
    /// It is shown.
    #[default]
    Report,
    /// It is synced again.
    Revert,
}

/// When images are pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PullPolicy {
    /// When the host does not have them.
    #[default]
    Missing,
    Always,
    Never,
}

/// What happens to services a person stopped on the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum UserStopped {
    /// They stay stopped.
    #[default]
    Respect,
    /// A sync starts them.
    Start,
}

macro_rules! choice {
    ($name:ident { $($variant:ident => $text:literal),* }) => {
        impl $name {
            /// Every choice.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The choice's stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// The choice of that name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.as_str() == text)
            }
        }
    };
}

choice!(DriftPolicy { Report => "report", Revert => "revert" });
choice!(PullPolicy { Missing => "missing", Always => "always", Never => "never" });
choice!(UserStopped { Respect => "respect", Start => "start" });

/// The section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostlerSection {
    /// Hosts that run the stack, by name.
    pub hosts: Vec<String>,
    /// Labels; hosts that carry all of them run the stack too. None: no host does for them.
    pub labels: Labels,
    /// The compose project's name, over every other source of it.
    pub project: Option<String>,
    /// Paths of stacks, relative to the deploy directory, that are synced before this one.
    pub after: Vec<String>,
    /// Whether its removal waits for a person.
    pub protected: bool,
    pub drift: DriftPolicy,
    pub pull: PullPolicy,
    /// How long its services may take to be healthy.
    pub health_secs: u32,
    pub user_stopped: UserStopped,
    /// Whether it is left alone.
    pub suspend: bool,
}

impl Default for HostlerSection {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            labels: Labels::new(),
            project: None,
            after: Vec::new(),
            protected: false,
            drift: DriftPolicy::default(),
            pull: PullPolicy::default(),
            health_secs: HEALTH_SECS_DEFAULT,
            user_stopped: UserStopped::default(),
            suspend: false,
        }
    }
}

/// Reads the section.
///
/// # Errors
/// Everything that is wrong with it: JSON pointers below the section, and sentences.
pub fn read(section: &Yaml) -> Result<HostlerSection, Vec<(String, String)>> {
    let mut problems = Problems::default();
    let mut read = HostlerSection::default();
    match section {
        Yaml::Map(map) => {
            for (key, value) in map {
                one(&mut read, key, value, &mut problems);
            }
        }
        Yaml::Null => {}
        Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) | Yaml::List(_) => {
            problems.add("", format!("the section is a mapping, not {}", section.kind()));
        }
    }
    if problems.found().is_empty() { Ok(read) } else { Err(problems.found().to_vec()) }
}

fn one(read: &mut HostlerSection, key: &str, value: &Yaml, problems: &mut Problems) {
    let place = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
    match key {
        "hosts" => read.hosts = names(value, &place, check_host, problems),
        "after" => read.after = names(value, &place, check_stack, problems),
        "labels" => read.labels = labels(value, &place, problems),
        "project" => match value.as_text() {
            Some(name) if project::is_name(name) => read.project = Some(name.to_owned()),
            Some(_) => problems.add(
                place,
                "a project's name has lower-case letters, digits, `-` and `_`, and begins with a \
                 letter or digit",
            ),
            None => problems.add(place, format!("must be a text, not {}", value.kind())),
        },
        "protected" => flag(&mut read.protected, value, &place, problems),
        "suspend" => flag(&mut read.suspend, value, &place, problems),
        "drift" => {
            choose(&mut read.drift, DriftPolicy::parse(text(value)), &place, problems, || {
                DriftPolicy::ALL.iter().map(|choice| choice.as_str()).collect()
            })
        }
        "pull" => choose(&mut read.pull, PullPolicy::parse(text(value)), &place, problems, || {
            PullPolicy::ALL.iter().map(|choice| choice.as_str()).collect()
        }),
        "user_stopped" => {
            let chosen = UserStopped::parse(text(value));
            choose(&mut read.user_stopped, chosen, &place, problems, || {
                UserStopped::ALL.iter().map(|choice| choice.as_str()).collect()
            });
        }
        "health_secs" => match seconds(value) {
            Some(secs) => read.health_secs = secs,
            None => problems
                .add(place, format!("must be a whole number of seconds, 1 to {HEALTH_SECS_MAX}")),
        },
        _ => problems.add(
            place,
            "there is no such field; there are hosts, labels, project, after, protected, drift, \
             pull, health_secs, user_stopped and suspend",
        ),
    }
}

fn text(value: &Yaml) -> &str {
    value.as_text().unwrap_or_default()
}

fn seconds(value: &Yaml) -> Option<u32> {
    match value {
        Yaml::Number(number) => {
            number.parse().ok().filter(|secs| (1..=HEALTH_SECS_MAX).contains(secs))
        }
        Yaml::Null | Yaml::Bool(_) | Yaml::Text(_) | Yaml::List(_) | Yaml::Map(_) => None,
    }
}

fn flag(into: &mut bool, value: &Yaml, place: &str, problems: &mut Problems) {
    match value {
        Yaml::Bool(value) => *into = *value,
        Yaml::Null | Yaml::Number(_) | Yaml::Text(_) | Yaml::List(_) | Yaml::Map(_) => {
            problems.add(place, format!("must be true or false, not {}", value.kind()));
        }
    }
}

fn choose<T>(
    into: &mut T,
    chosen: Option<T>,
    place: &str,
    problems: &mut Problems,
    all: impl Fn() -> Vec<&'static str>,
) {
    match chosen {
        Some(chosen) => *into = chosen,
        None => problems.add(place, format!("must be one of: {}", all().join(", "))),
    }
}

fn check_host(name: &str) -> Result<(), String> {
    let fits = (1..=HOST_NAME_BYTES_MAX).contains(&name.len());
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits && plain {
        Ok(())
    } else {
        Err(format!(
            "a host's name has 1 to {HOST_NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"
        ))
    }
}

fn check_stack(stack: &str) -> Result<(), String> {
    if stack == "." || (!stack.is_empty() && path::clean(stack).as_deref() == Some(stack)) {
        Ok(())
    } else {
        Err("a stack is named by its path below the deploy directory, as `apps/web`, or `.`"
            .to_owned())
    }
}

/// A list of names, each checked, none twice.
fn names(
    value: &Yaml,
    place: &str,
    check: impl Fn(&str) -> Result<(), String>,
    problems: &mut Problems,
) -> Vec<String> {
    let Yaml::List(items) = value else {
        problems.add(place, format!("must be a list, not {}", value.kind()));
        return Vec::new();
    };
    if items.len() > NAMES_MAX {
        problems.add(place, format!("{} names are too many; {NAMES_MAX} may be", items.len()));
        return Vec::new();
    }
    let mut names: Vec<String> = Vec::new();
    for (n, item) in items.iter().enumerate() {
        let place = format!("{place}/{n}");
        let Some(name) = item.as_text() else {
            problems.add(place, format!("must be a text, not {}", item.kind()));
            continue;
        };
        problems.check(&place, check(name));
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn labels(value: &Yaml, place: &str, problems: &mut Problems) -> Labels {
    let Yaml::Map(map) = value else {
        problems.add(place, format!("must be a mapping, not {}", value.kind()));
        return Labels::new();
    };
    let mut changes = BTreeMap::new();
    for (key, value) in map {
        let text = match value {
            Yaml::Text(text) | Yaml::Number(text) => text.clone(),
            Yaml::Bool(value) => value.to_string(),
            Yaml::Null => String::new(),
            Yaml::List(_) | Yaml::Map(_) => {
                let pointer = key.replace('~', "~0").replace('/', "~1");
                let detail = format!("a label's value is a text, not {}", value.kind());
                problems.add(format!("{place}/{pointer}"), detail);
                continue;
            }
        };
        changes.insert(key.clone(), Some(text));
    }
    label::apply(&Labels::new(), &changes, place, problems)
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    fn section(text: &str) -> Result<HostlerSection, Vec<(String, String)>> {
        read(&yaml::read(text.as_bytes()).unwrap().remove(0))
    }

    #[test]
    fn every_field_is_read() {
        let text = "hosts: [web-1, web-1, web-2]\nlabels: {tier: prod, rack: 1, gpu: true}\n\
                    project: shop\nafter: [db, '.', apps/cache]\nprotected: true\ndrift: revert\n\
                    pull: always\nhealth_secs: 30\nuser_stopped: start\nsuspend: true\n";
        let read = section(text).unwrap();
        assert_eq!(read.hosts, ["web-1", "web-2"]);
        assert_eq!(read.labels.get("rack").map(String::as_str), Some("1"));
        assert_eq!(read.labels.get("gpu").map(String::as_str), Some("true"));
        assert_eq!(read.project.as_deref(), Some("shop"));
        assert_eq!(read.after, ["db", ".", "apps/cache"]);
        assert!(read.protected && read.suspend);
        assert_eq!(read.drift, DriftPolicy::Revert);
        assert_eq!(read.pull, PullPolicy::Always);
        assert_eq!(read.user_stopped, UserStopped::Start);
        assert_eq!(read.health_secs, 30);
        assert_eq!(section("~"), Ok(HostlerSection::default()));
        assert_eq!(section("{}").unwrap().health_secs, HEALTH_SECS_DEFAULT);
    }

    #[test]
    fn each_problem_is_named() {
        let text = "hosts: [1, 'a b']\nlabels: {'-': x, y: [1]}\nproject: Shop\n\
                    after: [../db, '']\nprotected: 'yes'\ndrift: heal\npull: 1\nhealth_secs: 0\n\
                    user_stopped: kill\nsuspend: ~\nhost: web-1\n";
        let found = section(text).unwrap_err();
        let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(
            places,
            [
                "/after/0",
                "/after/1",
                "/drift",
                "/health_secs",
                "/host",
                "/hosts/0",
                "/hosts/1",
                "/labels/y",
                "/labels/-",
                "/project",
                "/protected",
                "/pull",
                "/suspend",
                "/user_stopped"
            ]
        );
        assert!(section("health_secs: 3601").is_err() && section("health_secs: 1.5").is_err());
        assert_eq!(section("[1]").unwrap_err()[0].0, "");
    }
}
