//! Sites: created, renamed, deleted.

use hostler_protocol::id::SiteId;
use serde_json::json;

use super::enqueue::missing;
use crate::domain::validate::{Problems, text};
use crate::domain::{
    Change, Decision, EventKind, Micros, NewEvent, Refusal, RefusalKind, Site, Snapshot, Subject,
};

fn check_name(name: &str) -> Result<(), Refusal> {
    let mut problems = Problems::default();
    problems.check("/name", text::name(name));
    problems.finish()
}

fn taken(snapshot: &Snapshot, name: &str, own: Option<&SiteId>) -> Result<(), Refusal> {
    let other = snapshot.site_named.iter().chain(&snapshot.site);
    if other.into_iter().any(|site| site.name == name && Some(&site.id) != own) {
        let message = format!("there is a site named `{name}` already");
        let mut refusal = Refusal::new(RefusalKind::Conflict, "NAME_TAKEN", message);
        refusal.fields.push(("/name".to_owned(), "taken".to_owned()));
        return Err(refusal);
    }
    Ok(())
}

fn about(site: &Site, kind: EventKind, at: Micros) -> NewEvent {
    NewEvent {
        at,
        kind,
        subject: Subject { site: Some(site.id.clone()), ..Subject::default() },
        document: json!({ "name": site.name }),
    }
}

/// A new site.
///
/// # Errors
/// `INVALID_REQUEST`, `NAME_TAKEN`.
pub fn create(
    snapshot: &Snapshot,
    id: SiteId,
    name: &str,
    now: Micros,
) -> Result<Decision<Site>, Refusal> {
    check_name(name)?;
    taken(snapshot, name, None)?;
    let site = Site { id, name: name.to_owned(), created_at: now };
    Ok(Decision {
        events: vec![about(&site, EventKind::SiteCreated, now)],
        changes: vec![Change::InsertSite(site.clone())],
        reply: site,
    })
}

/// Another name; the site's environments repeat it.
///
/// # Errors
/// `NOT_FOUND`, `INVALID_REQUEST`, `NAME_TAKEN`.
pub fn rename(
    snapshot: &Snapshot,
    id: &SiteId,
    name: &str,
    now: Micros,
) -> Result<Decision<Site>, Refusal> {
    let site = snapshot.site.as_ref().ok_or_else(|| missing("site", id))?;
    check_name(name)?;
    taken(snapshot, name, Some(id))?;
    let renamed = Site { name: name.to_owned(), ..site.clone() };
    if renamed == *site {
        return Ok(super::enqueue::nothing(renamed));
    }
    let mut changes = vec![Change::UpdateSite(renamed.clone())];
    for environment in &snapshot.site_environments {
        let mut told = environment.clone();
        told.doc.site = name.to_owned();
        told.version += 1;
        told.updated_at = now;
        changes.push(Change::UpdateEnvironment(Box::new(told)));
    }
    let events = vec![about(&renamed, EventKind::SiteRenamed, now)];
    Ok(Decision { changes, events, reply: renamed })
}

/// Deletes a site that has no environments.
///
/// # Errors
/// `NOT_FOUND`, `SITE_NOT_EMPTY`.
pub fn delete(snapshot: &Snapshot, id: &SiteId, now: Micros) -> Result<Decision<()>, Refusal> {
    let site = snapshot.site.as_ref().ok_or_else(|| missing("site", id))?;
    if let Some(first) = snapshot.site_environments.first() {
        let count = snapshot.site_environments.len();
        let message = format!(
            "the site still has {count} environments (`{}` is one): delete them first",
            first.doc.name
        );
        return Err(Refusal::new(RefusalKind::Conflict, "SITE_NOT_EMPTY", message));
    }
    Ok(Decision {
        changes: vec![Change::DeleteSite(site.id.clone())],
        events: vec![about(site, EventKind::SiteDeleted, now)],
        reply: (),
    })
}
