//! Whether two environments would step on each other.

use hostler_protocol::id::HostId;
use hostler_protocol::job::EnvironmentDoc;

use super::{Problems, redis, text};
use crate::domain::{Environment, Refusal, RefusalKind};

/// Refuses a document that claims what another environment has: anything on the same host, and
/// keys of the same Redis server wherever that environment is.
///
/// # Errors
/// `OVERLAP`, naming each claim and whose it is.
pub fn check<'a>(
    doc: &EnvironmentDoc,
    host: &HostId,
    others: impl Iterator<Item = &'a Environment>,
) -> Result<(), Refusal> {
    let mut problems = Problems::default();
    let mut seen = vec![doc.id.clone()];
    for other in others {
        if seen.contains(&other.id) {
            continue;
        }
        seen.push(other.id.clone());
        let same_host = other.host_id == *host;
        if same_host {
            on_one_host(doc, &other.doc, &mut problems);
        }
        in_redis(doc, &other.doc, same_host, &mut problems);
    }
    match problems.found().first() {
        None => Ok(()),
        Some((_, first)) => {
            let message = format!("the environment overlaps another one: {first}");
            let mut refusal = Refusal::new(RefusalKind::Conflict, "OVERLAP", message);
            refusal.fields = problems.found().to_vec();
            refusal.fields.truncate(super::PROBLEMS_MAX);
            Err(refusal)
        }
    }
}

fn whose(other: &EnvironmentDoc) -> String {
    format!("{}/{} ({})", other.site, other.name, other.id)
}

fn on_one_host(doc: &EnvironmentDoc, other: &EnvironmentDoc, problems: &mut Problems) {
    let whose = whose(other);
    if doc.domain == other.domain {
        problems.add("/domain", format!("{whose} on this host has this domain"));
    }
    if text::nested(&doc.docroot, &other.docroot) {
        problems.add("/docroot", format!("{} is the docroot of {whose}", other.docroot));
    }
    for (pointer, file) in files(doc) {
        if let Some((_, theirs)) = files(other).into_iter().find(|(_, theirs)| *theirs == file) {
            problems.add(pointer, format!("{theirs} is a file of {whose}"));
        }
    }
    let (ours, theirs) = (doc.fastcgi.as_ref(), other.fastcgi.as_ref());
    if let Some(ours) = ours {
        let pointer = "/fastcgi/cache_dir";
        if text::nested(&ours.cache_dir, &other.docroot) {
            problems.add(pointer, format!("{} is the docroot of {whose}", other.docroot));
        }
        for (_, file) in files(other) {
            if text::nested(&ours.cache_dir, file) {
                problems.add(pointer, format!("{file} is a file of {whose}"));
            }
        }
        if theirs.is_some_and(|theirs| text::nested(&ours.cache_dir, &theirs.cache_dir)) {
            problems.add(pointer, format!("it overlaps the cache directory of {whose}"));
        }
    }
    if let Some(theirs) = theirs {
        if text::nested(&doc.docroot, &theirs.cache_dir) {
            problems.add("/docroot", format!("it overlaps the cache directory of {whose}"));
        }
        for (pointer, file) in files(doc) {
            if text::nested(file, &theirs.cache_dir) {
                problems.add(pointer, format!("it lies in the cache directory of {whose}"));
            }
        }
    }
}

/// Files Hostler writes for an environment.
fn files(doc: &EnvironmentDoc) -> Vec<(&'static str, &str)> {
    let mut files = vec![
        ("/nginx/http_file", doc.nginx.http_file.as_str()),
        ("/nginx/server_file", doc.nginx.server_file.as_str()),
        ("/nginx/location_file", doc.nginx.location_file.as_str()),
    ];
    if let Some(file) = doc.redis.as_ref().and_then(|redis| redis.switch_file.as_deref()) {
        files.push(("/redis/switch_file", file));
    }
    files
}

fn in_redis(
    doc: &EnvironmentDoc,
    other: &EnvironmentDoc,
    same_host: bool,
    problems: &mut Problems,
) {
    let (Some(ours), Some(theirs)) = (&doc.redis, &other.redis) else { return };
    let (Ok(our_server), Ok(their_server)) = (redis::server(&ours.url), redis::server(&theirs.url))
    else {
        return;
    };
    let comparable = same_host || !(our_server.loopback || their_server.loopback);
    let same = our_server.database == their_server.database
        && (our_server.key == their_server.key || our_server.may_be(&their_server));
    let prefixes_overlap =
        ours.prefix.starts_with(&theirs.prefix) || theirs.prefix.starts_with(&ours.prefix);
    if comparable && same && prefixes_overlap {
        problems.add(
            "/redis/prefix",
            format!(
                "the prefix {:?} of {} in the same Redis database{} overlaps it",
                theirs.prefix,
                whose(other),
                if our_server.key == their_server.key {
                    ""
                } else {
                    " (a socket and another local address may be one server)"
                }
            ),
        );
    }
}
