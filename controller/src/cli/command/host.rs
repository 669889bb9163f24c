//! Hosts.

use hostler_controller::views::{Host, RenameHost};
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
            let body = json!(RenameHost { name });
            let document = client.send(Method::PATCH, &["hosts", &id], Some(&body), None).await?;
            show(context, &document)?;
        }
        HostVerb::Revoke { host, yes } => {
            let id = names::host(client, &host).await?;
            confirm(&format!("this shuts the host {host} out for good"), yes)?;
            let answer = client.send(Method::POST, &["hosts", &id, "revoke"], None, None).await?;
            out.say(&format!("{host} is revoked"));
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
