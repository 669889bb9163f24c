//! Environments.

use std::time::Duration;

use hostler_controller::views::{Environment, Host, Labels};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::args::{ChangeArgs, CreateArgs, EnvironmentVerb, Wait};
use crate::cli::client::view;
use crate::cli::confirm::confirm;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::names::{self, Names};

use super::fields;
use super::label;
use super::queued::queued;

/// What only looks is waited for without being asked: its answer is the point of it.
pub(super) const LOOK: Wait = Wait::Follow(Some(Duration::from_secs(60)));

pub(super) async fn run(context: &Context, verb: EnvironmentVerb) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    match verb {
        EnvironmentVerb::Create(args) => create(context, *args).await,
        EnvironmentVerb::Change(args) => change(context, *args).await,
        EnvironmentVerb::List { site, host, labels } => {
            list(context, site, host, &label::wanted(&labels)?).await
        }
        EnvironmentVerb::Show { environment } => {
            let id = names::environment(client, &environment).await?;
            let document = client.get(&["environments", &id]).await?;
            show(context, &document).await?;
            Ok(Exit::Ok)
        }
        EnvironmentVerb::Label { environment, labels } => {
            let labels = label::changes(&labels)?;
            let id = names::environment(client, &environment).await?;
            let body = json!({ "labels": labels });
            let path = ["environments", &id];
            let document = client.send(Method::PATCH, &path, Some(&body), None).await?;
            show(context, &document).await?;
            Ok(Exit::Ok)
        }
        EnvironmentVerb::Delete { environment, yes, wait } => {
            let id = names::environment(client, &environment).await?;
            confirm(&format!("this deletes the environment {environment}"), yes)?;
            let key = wait.idempotency_key.as_deref();
            let answer = client.send(Method::DELETE, &["environments", &id], None, key).await?;
            if answer.is_null() {
                out.say(&format!("{environment} is deleted"));
                return Ok(Exit::Ok);
            }
            queued(context, &answer, wait.or(Wait::No)).await
        }
        EnvironmentVerb::Check { environment, wait } => {
            let id = names::environment(client, &environment).await?;
            let path = ["environments", &id, "check"];
            let key = wait.idempotency_key.as_deref();
            let answer = client.send(Method::POST, &path, None, key).await?;
            queued(context, &answer, wait.or(LOOK)).await
        }
    }
}

async fn create(context: &Context, args: CreateArgs) -> Result<Exit, CliError> {
    let (site, name) = names::split(&args.environment)?;
    let body = fields::creation(&args.fields, site, name)?;
    let site_id = names::site(&context.client, site).await?;
    let path = ["sites", &site_id, "environments"];
    let document = context.client.send(Method::POST, &path, Some(&body), None).await?;
    show(context, &document).await?;
    context.out.say(&draw::next_steps(&view(&document)?));
    Ok(Exit::Ok)
}

async fn change(context: &Context, args: ChangeArgs) -> Result<Exit, CliError> {
    let body = fields::change(&args.fields, args.name.as_deref())?;
    let id = names::environment(&context.client, &args.environment).await?;
    let path = ["environments", &id];
    let document = context.client.send(Method::PATCH, &path, Some(&body), None).await?;
    show(context, &document).await?;
    Ok(Exit::Ok)
}

async fn list(
    context: &Context,
    site: Option<String>,
    host: Option<String>,
    labels: &Labels,
) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    let mut filter: Vec<(&str, String)> = Vec::new();
    if let Some(site) = &site {
        filter.push(("site", names::site(client, site).await?));
    }
    if let Some(host) = &host {
        filter.push(("host", names::host(client, host).await?));
    }
    let filter: Vec<_> = filter.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut rows = client.list(&["environments"], &filter, usize::MAX).await?;
    if !labels.0.is_empty() {
        let hosts: Vec<Host> = names::all(client, "hosts", &[]).await?;
        let of_host = |id: &str| hosts.iter().find(|host| host.id == id).map(|host| &host.labels);
        let carries = |one: &Environment| {
            let value = |key: &String| {
                one.labels
                    .0
                    .get(key)
                    .or_else(|| of_host(&one.host_id).and_then(|all| all.0.get(key)))
            };
            labels.0.iter().all(|(key, wanted)| value(key) == Some(wanted))
        };
        rows.retain(|row| view::<Environment>(row).is_ok_and(|one| carries(&one)));
    }
    if out.is_json() {
        out.json(&rows)?;
    } else {
        let found = rows.iter().map(view).collect::<Result<Vec<Environment>, _>>()?;
        let names = Names::read(client).await?;
        out.text(&draw::environments(out, &found, &names))?;
    }
    Ok(Exit::Ok)
}

async fn show(context: &Context, document: &Value) -> Result<(), CliError> {
    if context.out.is_json() {
        return context.out.json(document);
    }
    let names = Names::read(&context.client).await?;
    context.out.text(&draw::environment(&context.out, &view(document)?, &names))
}
