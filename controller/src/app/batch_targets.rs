//! Which environments a batch is about.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{EnvironmentId, HostId, SiteId};

use super::App;
use crate::domain::label::{self, Labels};
use crate::domain::validate::Problems;
use crate::domain::{Environment, Host, Site};
use crate::store::{Page, StoreError};
use crate::views;

/// Rows read at once of what a batch could be about.
const ROWS: u32 = 1000;

/// Everything there is that a batch could be about.
pub(super) struct Fleet {
    pub(super) environments: Vec<Environment>,
    pub(super) hosts: BTreeMap<HostId, Host>,
    pub(super) sites: Vec<Site>,
}

impl App {
    pub(super) async fn fleet(&self) -> Result<Fleet, StoreError> {
        let mut fleet =
            Fleet { environments: Vec::new(), hosts: BTreeMap::new(), sites: Vec::new() };
        let mut page = Page::first(ROWS);
        loop {
            let (items, next) = self.store.environments(&Default::default(), &page).await?;
            fleet.environments.extend(items);
            let Some(next) = next else { break };
            page = Page::after(next, ROWS);
        }
        page = Page::first(ROWS);
        loop {
            let (items, next) = self.store.hosts(&page).await?;
            fleet.hosts.extend(items.into_iter().map(|host| (host.id.clone(), host)));
            let Some(next) = next else { break };
            page = Page::after(next, ROWS);
        }
        page = Page::first(ROWS);
        loop {
            let (items, next) = self.store.sites(&page).await?;
            fleet.sites.extend(items);
            let Some(next) = next else { return Ok(fleet) };
            page = Page::after(next, ROWS);
        }
    }
}

/// The environments that are meant, oldest first.
pub(super) fn select<'f>(
    fleet: &'f Fleet,
    asked: &views::BatchTargets,
    problems: &mut Problems,
) -> Vec<&'f Environment> {
    let environments =
        asked.environments.as_ref().map(|named| environments(fleet, named, problems));
    let hosts = asked.hosts.as_ref().map(|named| hosts(fleet, named, problems));
    let sites = asked.sites.as_ref().map(|named| sites(fleet, named, problems));
    for (key, value) in asked.labels.iter().flat_map(|labels| &labels.0) {
        label::check(key, Some(value), "/targets/labels", problems);
    }
    if asked.labels.as_ref().is_some_and(|labels| labels.0.is_empty()) {
        // Every environment carries all of no labels, and that must not be said by accident.
        problems.add("/targets/labels", "name a label; `all` means every environment");
    }
    let everything = asked.all == Some(true);
    let narrowed =
        environments.is_some() || hosts.is_some() || sites.is_some() || asked.labels.is_some();
    if !everything && !narrowed {
        problems.add("/targets", "name environments, hosts, sites or labels, or say `all`");
    }
    let none = Labels::new();
    let meant = |one: &&Environment| {
        let host = fleet.hosts.get(&one.host_id);
        let of_host = host.map_or(&none, |host| &host.labels);
        environments.as_ref().is_none_or(|ids| ids.contains(&one.id))
            && hosts.as_ref().is_none_or(|ids| ids.contains(&one.host_id))
            && sites.as_ref().is_none_or(|ids| ids.contains(&one.site_id))
            && asked
                .labels
                .as_ref()
                .is_none_or(|wanted| label::matches(&wanted.0, &one.labels, of_host))
    };
    fleet.environments.iter().filter(meant).collect()
}

fn environments(
    fleet: &Fleet,
    named: &[String],
    problems: &mut Problems,
) -> BTreeSet<EnvironmentId> {
    let full = |one: &Environment| format!("{}/{}", one.doc.site, one.doc.name);
    let by_name: BTreeMap<String, &EnvironmentId> =
        fleet.environments.iter().map(|one| (full(one), &one.id)).collect();
    let known: BTreeSet<&str> = fleet.environments.iter().map(|one| one.id.as_str()).collect();
    let mut found = BTreeSet::new();
    for (place, text) in named.iter().enumerate() {
        let id = text.parse().ok().filter(|_| known.contains(text.as_str()));
        match id.or_else(|| by_name.get(text).copied().cloned()) {
            Some(id) => drop(found.insert(id)),
            None => problems.add(
                format!("/targets/environments/{place}"),
                "there is no environment of this id or `site/name`",
            ),
        }
    }
    found
}

fn hosts(fleet: &Fleet, named: &[String], problems: &mut Problems) -> BTreeSet<HostId> {
    let mut found = BTreeSet::new();
    for (place, text) in named.iter().enumerate() {
        // An evicted host's name may be another's by now: the one that is enrolled is meant.
        let of_name = fleet.hosts.values().filter(|host| host.name == *text);
        let of_name = of_name.max_by_key(|host| (host.holds_name(), host.created_at));
        let id = text.parse().ok().filter(|id| fleet.hosts.contains_key(id));
        match id.or_else(|| of_name.map(|host| host.id.clone())) {
            Some(id) => drop(found.insert(id)),
            None => problems
                .add(format!("/targets/hosts/{place}"), "there is no host of this id or name"),
        }
    }
    found
}

fn sites(fleet: &Fleet, named: &[String], problems: &mut Problems) -> BTreeSet<SiteId> {
    let mut found = BTreeSet::new();
    for (place, text) in named.iter().enumerate() {
        let of = |site: &&Site| site.id.as_str() == text || site.name == *text;
        match fleet.sites.iter().find(of) {
            Some(site) => drop(found.insert(site.id.clone())),
            None => problems
                .add(format!("/targets/sites/{place}"), "there is no site of this id or name"),
        }
    }
    found
}
