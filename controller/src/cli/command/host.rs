//! Hosts.

use hostler_controller::views::{ChangeHost, Host, Revocation, RevokeHost};
use reqwest::Method;
use serde_json::json;

use crate::cli::Context;
use crate::cli::args::HostVerb;
use crate::cli::client::view;
use crate::cli::confirm::confirm;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::names;

use super::label;

pub(super) async fn run(context: &Context, verb: HostVerb) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    match verb {
        HostVerb::List => {
            let rows = client.list(&["hosts"], &[], usize::MAX).await?;
            if out.is_json() {
                out.json(&rows)?;
            } else {
                let hosts = rows.iter().map(view).collect::<Result<Vec<Host>, _>>()?;
                out.text(&draw::hosts(out, &hosts))?;
            }
        }
        HostVerb::Show { host } => {
            let id = names::host(client, &host).await?;
            let document = client.get(&["hosts", &id]).await?;
            show(context, &document)?;
        }
        HostVerb::Rename { host, name } => {
            let id = names::host(client, &host).await?;
            let body = json!(ChangeHost { name: Some(name), ..ChangeHost::default() });
            let document = client.send(Method::PATCH, &["hosts", &id], Some(&body), None).await?;
            show(context, &document)?;
        }
        HostVerb::Label { host, labels } => {
            let labels = Some(label::changes(&labels)?);
            let id = names::host(client, &host).await?;
            let body = json!(ChangeHost { labels, ..ChangeHost::default() });
            let document = client.send(Method::PATCH, &["hosts", &id], Some(&body), None).await?;
            show(context, &document)?;
        }
        // What clap keeps apart are two ways to say one thing.
        HostVerb::Revoke { host, evict: _, ban, yes } => {
            let id = names::host(client, &host).await?;
            let (kind, told, done) = if ban {
                (Revocation::Ban, "bans the host", "banned: its keys are refused for good")
            } else {
                (Revocation::Evict, "evicts the host", "evicted: it needs a new token to come back")
            };
            confirm(&format!("this {told} {host}"), yes)?;
            let body = json!(RevokeHost { kind });
            let path = ["hosts", &id, "revoke"];
            let answer = client.send(Method::POST, &path, Some(&body), None).await?;
            out.say(&format!("{host} is {done}"));
            if !answer.is_null() {
                show(context, &answer)?;
            }
        }
        HostVerb::Delete { host, yes } => {
            let id = names::host(client, &host).await?;
            confirm(&format!("this forgets the host {host}"), yes)?;
            client.send(Method::DELETE, &["hosts", &id], None, None).await?;
            out.say(&format!("{host} is deleted"));
        }
    }
    Ok(Exit::Ok)
}

fn show(context: &Context, document: &serde_json::Value) -> Result<(), CliError> {
    if context.out.is_json() {
        return context.out.json(document);
    }
    context.out.text(&draw::host(&context.out, &view(document)?))
}
