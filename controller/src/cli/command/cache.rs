//! The caches of an environment.

use hostler_controller::views::{CacheName, PurgeCaches, PurgeMode, SetCaches, WarmCache};
use reqwest::Method;

use crate::cli::Context;
use crate::cli::args::{
    CacheVerb, Mode, Only, PurgeArgs, PurgeWhat, SetArgs, Switch, Switches, UrlArgs, Wait, WarmArgs,
};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::names;

use super::environment::LOOK;
use super::queued::request;
use super::{input, look};

pub(super) async fn run(context: &Context, verb: CacheVerb) -> Result<Exit, CliError> {
    match verb {
        CacheVerb::Set(args) => set(context, args).await,
        CacheVerb::Purge(args) => purge(context, args).await,
        CacheVerb::Warm(args) => warm(context, args).await,
        CacheVerb::Show { environment, no_facts } => {
            look::show(context, &environment, !no_facts).await
        }
        CacheVerb::Explain { url, environment, wait } => {
            look::explain(context, &url, environment.as_deref(), &wait).await
        }
        CacheVerb::Reconcile { environment, wait } => {
            let id = names::environment(&context.client, &environment).await?;
            let path = ["environments", &id, "cache", "reconcile"];
            request(context, Method::POST, &path, None::<()>, &wait, Wait::No).await
        }
    }
}

async fn set(context: &Context, args: SetArgs) -> Result<Exit, CliError> {
    let id = names::environment(&context.client, &args.environment).await?;
    let path = ["environments", &id, "cache"];
    let body = switched(&args.switches);
    request(context, Method::PATCH, &path, Some(body), &args.wait, Wait::No).await
}

/// The request's document of these switches.
pub(super) fn switched(switches: &Switches) -> SetCaches {
    let on = |switch: Switch| switch == Switch::On;
    SetCaches {
        fastcgi_cache_enabled: switches.fastcgi.map(on),
        redis_cache_enabled: switches.redis.map(on),
    }
}

async fn purge(context: &Context, args: PurgeArgs) -> Result<Exit, CliError> {
    let mut body = purged(args.what)?;
    body.dry_run = args.dry_run.then_some(true);
    let id = names::environment(&context.client, &args.environment).await?;
    let path = ["environments", &id, "cache", "purge"];
    let default = if args.dry_run { LOOK } else { Wait::No };
    request(context, Method::POST, &path, Some(body), &args.wait, default).await
}

/// The request's document of this purge.
///
/// # Errors
/// [`CliError::Usage`] for what goes with nothing; whatever is wrong with the file.
pub(super) fn purged(what: PurgeWhat) -> Result<PurgeCaches, CliError> {
    let urls = urls(what.urls)?;
    if urls.is_none() && what.query_variants {
        return Err(CliError::Usage("--query-variants are of URLs: name some".to_owned()));
    }
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    Ok(PurgeCaches {
        caches: what.only.map(|only| {
            vec![match only {
                Only::Fastcgi => CacheName::Fastcgi,
                Only::Redis => CacheName::Redis,
            }]
        }),
        urls,
        query_variants: what.query_variants.then_some(true),
        prefixes: some(what.prefixes),
        tags: some(what.tags),
        mode: what.mode.map(|mode| match mode {
            Mode::Hard => PurgeMode::Hard,
            Mode::Soft => PurgeMode::Soft,
            Mode::Refresh => PurgeMode::Refresh,
        }),
        warm: what.warm.then_some(true),
        dry_run: None,
    })
}

async fn warm(context: &Context, args: WarmArgs) -> Result<Exit, CliError> {
    let body = warmed(args.urls)?;
    let id = names::environment(&context.client, &args.environment).await?;
    let path = ["environments", &id, "cache", "warm"];
    request(context, Method::POST, &path, Some(body), &args.wait, Wait::No).await
}

/// The request's document of a warm-up of these pages.
///
/// # Errors
/// [`CliError::Usage`] where none are named; whatever is wrong with the file.
pub(super) fn warmed(args: UrlArgs) -> Result<WarmCache, CliError> {
    let urls = urls(args)?
        .ok_or_else(|| CliError::Usage("name pages by --url or --urls-from".to_owned()))?;
    Ok(WarmCache { urls })
}

/// The URLs of options and file together; `None` where neither was given.
fn urls(args: UrlArgs) -> Result<Option<Vec<String>>, CliError> {
    let mut urls = args.urls;
    if let Some(path) = &args.urls_from {
        urls.extend(input::lines(path)?);
        // An empty list must not become the purge of everything that no list at all means.
        if urls.is_empty() {
            return Err(CliError::Usage(format!("{} names no URL", path.display())));
        }
    }
    Ok((!urls.is_empty()).then_some(urls))
}
