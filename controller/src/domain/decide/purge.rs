//! Purges of an environment's caches: what may be asked, how a queued job keeps it, and how it is
//! read again when the job is claimed.

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{CacheSet, Executor, PurgeMode, PurgeScope, Selection};
use serde_json::{Value, json};

use super::enqueue::{Made, Making, enqueue, ready, replay};
use crate::domain::validate::{self, Problems};
use crate::domain::{Decision, Environment, Refusal, Snapshot};

/// What to purge, as asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Purge {
    /// `None`: every cache there is (with URLs, prefixes or tags: FastCGI alone).
    pub caches: Option<CacheSet>,
    pub urls: Option<Vec<String>>,
    pub query_variants: bool,
    pub prefixes: Option<Vec<String>>,
    pub tags: Option<Vec<String>>,
    pub mode: PurgeMode,
    /// Queue a warm-up when it has succeeded.
    pub warm: bool,
    pub dry_run: bool,
}

impl Purge {
    /// The lists that were given, each with its place in the request.
    fn lists(&self) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
        let all = [("/urls", &self.urls), ("/prefixes", &self.prefixes), ("/tags", &self.tags)];
        all.into_iter().filter_map(|(place, list)| list.as_ref().map(|list| (place, list)))
    }
}

/// Queues a purge.
///
/// # Errors
/// As [`ready`]; `INVALID_REQUEST` for what is not of this domain, a cache that is not there, or
/// what the environment's executor cannot do; `KEY_REUSED`.
pub fn purge(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    asked: &Purge,
    making: &Making,
) -> Result<Decision<Made>, Refusal> {
    if let Some(known) = replay(snapshot, making)? {
        return Ok(known);
    }
    let environment = ready(snapshot, id)?;
    let mut problems = Problems::default();
    let caches = caches(environment, asked, &mut problems);
    let asked = &lists(asked, &environment.doc.domain, &mut problems);
    if !caches.fastcgi && asked.mode != PurgeMode::Hard {
        let why = "Redis keys are always removed: leave `mode` out, or purge the FastCGI cache";
        problems.add("/mode", why);
    }
    if !caches.fastcgi && asked.warm {
        problems.add("/warm", "pages are warmed into the FastCGI cache: purge that one");
    }
    if making.template.executor_for(environment.doc.executor) == Executor::Ansible {
        native_only(asked, &mut problems);
    }
    problems.finish()?;
    Ok(enqueue(snapshot, environment, request(asked, caches), making))
}

/// The same purge with every URL in its plain form: what waits, is compared and is told from here on.
fn lists(asked: &Purge, domain: &str, problems: &mut Problems) -> Purge {
    let mut plain = asked.clone();
    if let Some(urls) = &mut plain.urls {
        *urls = validate::purge::urls(urls, domain, problems);
    } else if asked.query_variants {
        problems.add("/query_variants", "query variants are of URLs: name them in `urls`");
    }
    if let Some(prefixes) = &mut plain.prefixes {
        *prefixes = validate::purge::prefixes(prefixes, domain, problems);
    }
    if let Some(tags) = &asked.tags {
        validate::purge::tags(tags, problems);
    }
    validate::purge::together(plain.lists().map(|(_, list)| list.as_slice()), problems);
    plain
}

/// What no playbook does.
fn native_only(asked: &Purge, problems: &mut Problems) {
    let soft = asked.mode != PurgeMode::Hard;
    for (place, given, what) in [
        ("/mode", soft, "only the mode `hard`"),
        ("/query_variants", asked.query_variants, "no query variants"),
        ("/prefixes", asked.prefixes.is_some(), "no prefixes"),
        ("/tags", asked.tags.is_some(), "no tags"),
    ] {
        if given {
            let why = "the environment's executor is `ansible`, whose playbook knows";
            problems.add(place, format!("{why} {what}: set its executor to `native`"));
        }
    }
}

fn caches(environment: &Environment, asked: &Purge, problems: &mut Problems) -> CacheSet {
    let there =
        CacheSet { fastcgi: environment.fastcgi.is_some(), redis: environment.redis.is_some() };
    let whole = asked.lists().next().is_none();
    let Some(named) = asked.caches else {
        let caches = CacheSet { redis: there.redis && whole, ..there };
        if !caches.fastcgi && !caches.redis {
            problems.add("", "the environment has no cache that this could purge");
        }
        return caches;
    };
    if !named.fastcgi && !named.redis {
        problems.add("/caches", "name at least one cache, or leave `caches` out for every one");
    }
    if named.fastcgi && !there.fastcgi {
        problems.add("/caches", "the environment has no FastCGI cache configured");
    }
    if named.redis && !there.redis {
        problems.add("/caches", "the environment has no Redis cache configured");
    }
    for (place, _) in asked.lists().filter(|_| named.redis) {
        let what = place.trim_start_matches('/');
        let why = format!("Redis keys have no {what}: purge Redis in a request without `{what}`");
        problems.add(place, why);
    }
    named
}

/// What the job keeps of it; only what differs from the plainest purge.
fn request(asked: &Purge, caches: CacheSet) -> Value {
    let mut request = json!({ "caches": names(caches), "dry_run": asked.dry_run });
    for (place, list) in asked.lists() {
        request[place.trim_start_matches('/')] = json!(list);
    }
    if asked.query_variants {
        request["query_variants"] = true.into();
    }
    if asked.mode != PurgeMode::Hard {
        request["mode"] = asked.mode.as_str().into();
    }
    if asked.warm {
        request["warm"] = true.into();
    }
    request
}

fn names(caches: CacheSet) -> Vec<&'static str> {
    let both = [(caches.fastcgi, "fastcgi"), (caches.redis, "redis")];
    both.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect()
}

/// What a queued purge's request says, as its spec wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeAsk {
    pub caches: CacheSet,
    pub scope: PurgeScope,
    pub mode: PurgeMode,
    pub warm: bool,
    pub dry_run: bool,
}

/// Reads the request of a queued purge, also one an older controller queued; `None` if it is none.
#[must_use]
pub fn purge_ask(request: &Value) -> Option<PurgeAsk> {
    let named = request.get("caches")?.as_array()?;
    let names = |name: &str| named.iter().any(|cache| cache.as_str() == Some(name));
    let caches = CacheSet { fastcgi: names("fastcgi"), redis: names("redis") };
    let flag = |name: &str| request.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mode = match request.get("mode") {
        None => PurgeMode::Hard,
        Some(mode) => PurgeMode::parse(mode.as_str()?)?,
    };
    let selection = Selection {
        urls: texts(request, "urls")?,
        query_variants: flag("query_variants"),
        prefixes: texts(request, "prefixes")?,
        tags: texts(request, "tags")?,
    };
    let plain =
        !selection.query_variants && selection.prefixes.is_empty() && selection.tags.is_empty();
    let scope = match (plain, selection.urls.is_empty()) {
        (true, true) => PurgeScope::All,
        // As every agent reads it.
        (true, false) => PurgeScope::Urls { urls: selection.urls },
        (false, _) => PurgeScope::Select(selection),
    };
    Some(PurgeAsk { caches, scope, mode, warm: flag("warm"), dry_run: flag("dry_run") })
}

/// The texts of a list that may be missing.
fn texts(request: &Value, name: &str) -> Option<Vec<String>> {
    let Some(list) = request.get(name) else { return Some(Vec::new()) };
    list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_again_as_it_was_meant() {
        let both = CacheSet { fastcgi: true, redis: true };
        let pages = CacheSet { fastcgi: true, redis: false };
        let list = |text: &str| Some(vec![text.to_owned()]);
        let read = |asked: &Purge, caches| purge_ask(&request(asked, caches)).unwrap();
        let all = read(&Purge::default(), both);
        assert_eq!((all.caches, all.scope, all.mode), (both, PurgeScope::All, PurgeMode::Hard));

        let urls = Purge { urls: list("http://a.test/"), warm: true, ..Purge::default() };
        let asked = read(&urls, pages);
        assert_eq!(asked.scope, PurgeScope::Urls { urls: vec!["http://a.test/".to_owned()] });
        assert!(asked.warm && !asked.dry_run);

        let more = Purge {
            query_variants: true,
            prefixes: list("http://a.test/b"),
            tags: list("post-1"),
            mode: PurgeMode::Refresh,
            dry_run: true,
            ..urls
        };
        let asked = read(&more, pages);
        let selection = Selection {
            urls: vec!["http://a.test/".to_owned()],
            query_variants: true,
            prefixes: vec!["http://a.test/b".to_owned()],
            tags: vec!["post-1".to_owned()],
        };
        assert_eq!(asked.scope, PurgeScope::Select(selection));
        assert_eq!((asked.mode, asked.dry_run), (PurgeMode::Refresh, true));
    }

    #[test]
    fn requests_of_older_controllers_are_read() {
        let stored = json!({ "caches": ["fastcgi"], "dry_run": false, "urls": ["http://a.test/"] });
        let asked = purge_ask(&stored).unwrap();
        assert_eq!((asked.mode, asked.warm), (PurgeMode::Hard, false));
        assert_eq!(asked.scope, PurgeScope::Urls { urls: vec!["http://a.test/".to_owned()] });
        for rubbish in [json!({}), json!({ "caches": [], "mode": "gentle" }), json!(null)] {
            assert_eq!(purge_ask(&rubbish), None, "{rubbish}");
        }
    }
}
