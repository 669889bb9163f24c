//! The purge by `cache-purge.yml`: whole caches and exact URLs, gone at once. What needs the agent's own
//! purge engine is not for a playbook.

use hostler_protocol::job::{
    Code, PurgeMode, PurgeResult, PurgeScope, PurgeSpec, Selection, StepState,
};
use serde_json::json;

use super::absent;
use crate::host::ansible::{Ansible, Play};
use crate::steps::object_cache;
use crate::steps::playbook::{self, Told};
use crate::steps::purge::{self, Wanted};
use crate::steps::run::{Failure, Run};
use crate::steps::state;
use crate::steps::tools::Tools;

const PLAYBOOK: &str = "cache-purge.yml";

pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &PurgeSpec,
    ansible: &Ansible,
) -> Result<PurgeResult, Failure> {
    let environment = &spec.environment;
    let urls = urls(spec)?;
    // Whatever could refuse comes before anything goes.
    let wanted = Wanted::read(&environment.domain, &spec.scope)?;
    let applied = state::load(tools, &environment.id).await?;
    let fastcgi = environment.fastcgi.as_ref().filter(|_| spec.caches.fastcgi);
    let redis = environment.redis.as_ref().filter(|_| spec.caches.redis);
    let mut pages = false;
    if let Some(fastcgi) = fastcgi {
        let opened = purge::open_cache(tools, fastcgi, applied.as_ref()).await;
        pages = opened.map_err(|failure| failure.at_step("cache_purge"))?.is_some();
    }
    if fastcgi.is_none() && redis.is_none() {
        return Err(absent(if spec.caches.fastcgi { "FastCGI cache" } else { "Redis" }));
    }
    let mut secrets: Vec<String> =
        applied.iter().filter_map(|applied| Some(applied.nginx.as_ref()?.secret.clone())).collect();
    if let Some(redis) = redis {
        let target = object_cache::target(tools, redis).await;
        secrets.extend(target.map_err(|failure| failure.at_step("redis_purge"))?.password);
    }
    let cache_dirs = applied.map(|applied| applied.cache_dirs).unwrap_or_default();
    let mut variables = playbook::variables(tools, environment, &cache_dirs);
    variables.insert("hostler_fastcgi".to_owned(), json!(pages));
    variables.insert("hostler_redis".to_owned(), json!(redis.is_some()));
    variables.insert("hostler_dry_run".to_owned(), json!(spec.dry_run));
    if let Some(urls) = urls {
        variables.insert("hostler_urls".to_owned(), json!(urls));
    }
    let name = purge::bin_name(tools, run);
    let play = Play { playbook: PLAYBOOK, name, variables, files: Vec::new(), secrets };
    let mut told = Told::default();
    ansible.ready(PLAYBOOK)?;
    if pages || redis.is_some() {
        playbook::play(tools, ansible, run, play, &mut told).await?;
    }
    let fastcgi = match fastcgi {
        Some(_) if pages => Some(told.document("cache_purge")?),
        Some(_) => {
            run.record("cache_purge", StepState::Done, "there is no cache to purge", 0);
            Some(wanted.nothing())
        }
        None => None,
    };
    let redis = redis.map(|_| told.document("redis_purge")).transpose()?;
    Ok(PurgeResult { dry_run: spec.dry_run, fastcgi, redis })
}

/// The URLs a purge names, `None` for everything.
fn urls(spec: &PurgeSpec) -> Result<Option<&[String]>, Failure> {
    let native_only = |what: &str| {
        let message = format!("only the native executor purges {what}");
        Err(Failure::new(Code::ModeNotSupported, message))
    };
    if spec.mode != PurgeMode::Hard {
        return native_only(&format!("in mode `{}`", spec.mode.as_str()));
    }
    match &spec.scope {
        PurgeScope::All => Ok(None),
        PurgeScope::Urls { urls } => Ok(Some(urls)),
        PurgeScope::Select(Selection { urls, query_variants: false, prefixes, tags })
            if prefixes.is_empty() && tags.is_empty() =>
        {
            Ok(Some(urls))
        }
        PurgeScope::Select(_) => native_only("by prefix, by tag or with query variants"),
    }
}
