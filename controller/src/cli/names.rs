//! From the names people type to ids, and back from ids to names for tables.

use std::collections::HashMap;

use hostler_controller::views::{Environment, Host, HostState, Site, StackRow};
use serde::de::DeserializeOwned;

use super::client::{Client, view};
use super::error::CliError;
use super::suggest::nearest;

/// Most rows that are read to find one name.
const ROWS_MAX: usize = 100_000;

/// Whether a text is an id with that prefix. No name has an underscore.
fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_'))
}

/// Every row of a list.
pub(super) async fn all<T: DeserializeOwned>(
    client: &Client,
    noun: &str,
    filter: &[(&str, &str)],
) -> Result<Vec<T>, CliError> {
    client.list(&[noun], filter, ROWS_MAX).await?.iter().map(view).collect()
}

/// The error for a name that is none, with the nearest one.
pub(super) fn unknown<'a>(
    kind: &'static str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> CliError {
    CliError::UnknownName {
        kind,
        name: name.to_owned(),
        suggestion: nearest(name, known).map(str::to_owned),
    }
}

/// The id of a site given by id or name.
pub(super) async fn site(client: &Client, text: &str) -> Result<String, CliError> {
    if is_id(text, "site") {
        return Ok(text.to_owned());
    }
    let sites: Vec<Site> = all(client, "sites", &[]).await?;
    match sites.iter().find(|site| site.name == text) {
        Some(site) => Ok(site.id.clone()),
        None => Err(unknown("site", text, sites.iter().map(|site| site.name.as_str()))),
    }
}

/// The id of a host given by id or name. An evicted host's name may be another's by now: the one
/// that is enrolled is meant, else the newest.
pub(super) async fn host(client: &Client, text: &str) -> Result<String, CliError> {
    if is_id(text, "host") {
        return Ok(text.to_owned());
    }
    let hosts: Vec<Host> = all(client, "hosts", &[]).await?;
    let named = hosts.iter().filter(|host| host.name == text);
    match named.max_by_key(|host| (host.state == HostState::Enrolled, host.created_at)) {
        Some(host) => Ok(host.id.clone()),
        None => Err(unknown("host", text, hosts.iter().map(|host| host.name.as_str()))),
    }
}

/// The id of an environment given by id or as `site/name`.
pub(super) async fn environment(client: &Client, text: &str) -> Result<String, CliError> {
    if is_id(text, "env") {
        return Ok(text.to_owned());
    }
    let (site_name, name) = split(text)?;
    let site_id = match site(client, site_name).await {
        Ok(id) => Some(id),
        Err(CliError::UnknownName { .. }) => None,
        Err(error) => return Err(error),
    };
    // Without the site every environment is read, to find the one that may have been meant.
    let filter: Vec<_> = site_id.iter().map(|id| ("site", id.as_str())).collect();
    let environments: Vec<Environment> = all(client, "environments", &filter).await?;
    let found = environments.iter().find(|environment| {
        site_id.as_ref() == Some(&environment.site_id) && environment.name == name
    });
    if let Some(environment) = found {
        return Ok(environment.id.clone());
    }
    let known: Vec<_> = environments.iter().map(full_name).collect();
    Err(unknown("environment", text, known.iter().map(String::as_str)))
}

/// The id of a stack given by id or path.
pub(super) async fn stack(client: &Client, text: &str) -> Result<String, CliError> {
    if is_stack_id(text) {
        return Ok(text.to_owned());
    }
    let path = stack_path(text);
    let found: Vec<StackRow> = all(client, "stacks", &[("path", path)]).await?;
    if let Some(stack) = found.first() {
        return Ok(stack.id.clone());
    }
    let stacks: Vec<StackRow> = all(client, "stacks", &[]).await?;
    Err(unknown("stack", path, stacks.iter().map(|stack| stack.path.as_str())))
}

/// A directory may well be called `stack_…`: only what is an id in full is taken for one.
fn is_stack_id(text: &str) -> bool {
    text.strip_prefix("stack_").is_some_and(|rest| {
        rest.len() == 26 && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    })
}

/// A path as the API writes it, from what a shell completed.
fn stack_path(text: &str) -> &str {
    let path = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
    if path.is_empty() { "." } else { path }
}

/// The two halves of `site/name`.
pub(super) fn split(text: &str) -> Result<(&str, &str), CliError> {
    match text.split_once('/') {
        Some((site, name)) if !site.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((site, name))
        }
        Some(_) | None => Err(CliError::Usage(format!(
            "`{text}` is no environment: write `site/name` (shop/production) or its id (env_…)"
        ))),
    }
}

/// `site/name` of an environment.
pub(super) fn full_name(environment: &Environment) -> String {
    format!("{}/{}", environment.site, environment.name)
}

/// What ids are called, for tables.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: HashMap<String, String>,
}

impl Names {
    /// The names of every environment and host.
    pub(super) async fn read(client: &Client) -> Result<Self, CliError> {
        let environments: Vec<Environment> = all(client, "environments", &[]).await?;
        let hosts: Vec<Host> = all(client, "hosts", &[]).await?;
        let mut names: HashMap<_, _> =
            environments.iter().map(|one| (one.id.clone(), full_name(one))).collect();
        names.extend(hosts.into_iter().map(|host| (host.id, host.name)));
        Ok(Self { names })
    }

    /// The name behind an id; the id itself if it has none any more.
    pub(super) fn of<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_are_named_by_site_and_name() {
        assert_eq!(split("shop/production").unwrap(), ("shop", "production"));
        for bad in ["shop", "shop/", "/production", "a/b/c", ""] {
            assert_eq!(split(bad).unwrap_err().exit().code(), 2, "`{bad}` should be refused");
        }
    }

    #[test]
    fn stacks_are_named_by_path() {
        assert_eq!(stack_path("./shop/web/"), "shop/web");
        assert_eq!((stack_path("."), stack_path("./")), (".", "."));
        assert!(is_stack_id("stack_01kah2m3n4p5q6r7s8t9v0w1x2"));
        assert!(!is_stack_id("stack_of_mine") && !is_stack_id("shop/web"));
    }

    #[test]
    fn ids_are_told_from_names() {
        assert!(is_id("env_01kah2m3n4p5q6r7s8t9v0w1x2", "env"));
        assert!(!is_id("environment", "env") && !is_id("host-1", "host"));
    }
}
