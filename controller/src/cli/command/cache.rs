//! The caches of an environment.

use hostler_controller::views::{CacheName, PurgeCaches, SetCaches};
use reqwest::Method;
use serde::Serialize;
use serde_json::json;

use crate::cli::Context;
use crate::cli::args::{CacheVerb, Only, PurgeArgs, SetArgs, Switch, Wait, WaitArgs};
use crate::cli::client::view;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::names;

use super::environment::LOOK;
use super::input;
use super::queued::queued;

pub(super) async fn run(context: &Context, verb: CacheVerb) -> Result<Exit, CliError> {
    match verb {
        CacheVerb::Set(args) => set(context, args).await,
        CacheVerb::Purge(args) => purge(context, args).await,
        CacheVerb::Show { environment } => {
            let id = names::environment(&context.client, &environment).await?;
            let document = context.client.get(&["environments", &id, "cache"]).await?;
            if context.out.is_json() {
                context.out.json(&document)?;
            } else {
                context.out.text(&draw::caches(&context.out, &view(&document)?))?;
            }
            Ok(Exit::Ok)
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
    let on = |switch: Switch| switch == Switch::On;
    let body = SetCaches {
        fastcgi_cache_enabled: args.fastcgi.map(on),
        redis_cache_enabled: args.redis.map(on),
    };
    let path = ["environments", &id, "cache"];
    request(context, Method::PATCH, &path, Some(body), &args.wait, Wait::No).await
}

async fn purge(context: &Context, args: PurgeArgs) -> Result<Exit, CliError> {
    let mut urls = args.urls;
    if let Some(path) = &args.urls_from {
        urls.extend(input::lines(path)?);
        // An empty list must not become the purge of everything that no list at all means.
        if urls.is_empty() {
            return Err(CliError::Usage(format!("{} names no URL", path.display())));
        }
    }
    let id = names::environment(&context.client, &args.environment).await?;
    let body = PurgeCaches {
        caches: args.only.map(|only| {
            vec![match only {
                Only::Fastcgi => CacheName::Fastcgi,
                Only::Redis => CacheName::Redis,
            }]
        }),
        urls: (!urls.is_empty()).then_some(urls),
        dry_run: args.dry_run.then_some(true),
        ..PurgeCaches::default()
    };
    let path = ["environments", &id, "cache", "purge"];
    let default = if args.dry_run { LOOK } else { Wait::No };
    request(context, Method::POST, &path, Some(body), &args.wait, default).await
}

async fn request(
    context: &Context,
    method: Method,
    path: &[&str],
    body: Option<impl Serialize>,
    wait: &WaitArgs,
    default: Wait,
) -> Result<Exit, CliError> {
    let body = body.map(|body| json!(body));
    let key = wait.idempotency_key.as_deref();
    let answer = context.client.send(method, path, body.as_ref(), key).await?;
    queued(context, &answer, wait.or(default)).await
}
