//! Sites.

use hostler_controller::views::{CreateSite, Environment, RenameSite, Site};
use reqwest::Method;
use serde_json::json;

use crate::cli::Context;
use crate::cli::args::SiteVerb;
use crate::cli::client::view;
use crate::cli::confirm::confirm;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::names;

pub(super) async fn run(context: &Context, verb: SiteVerb) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    match verb {
        SiteVerb::Create { name } => {
            let body = json!(CreateSite { name });
            let document = client.send(Method::POST, &["sites"], Some(&body), None).await?;
            show(context, &document)?;
        }
        SiteVerb::List => {
            let rows = client.list(&["sites"], &[], usize::MAX).await?;
            if out.is_json() {
                out.json(&rows)?;
            } else {
                let sites = rows.iter().map(view).collect::<Result<Vec<Site>, _>>()?;
                out.text(&draw::sites(out, &sites))?;
            }
        }
        SiteVerb::Show { site } => {
            let id = names::site(client, &site).await?;
            let document = client.get(&["sites", &id]).await?;
            show(context, &document)?;
            if !out.is_json() {
                let filter = [("site", id.as_str())];
                let rows = client.list(&["environments"], &filter, usize::MAX).await?;
                let found = rows.iter().map(view).collect::<Result<Vec<Environment>, _>>()?;
                let names = names::Names::read(client).await?;
                out.text(&format!("\n{}", draw::environments(out, &found, &names)))?;
            }
        }
        SiteVerb::Rename { site, name } => {
            let id = names::site(client, &site).await?;
            let body = json!(RenameSite { name });
            let document = client.send(Method::PATCH, &["sites", &id], Some(&body), None).await?;
            show(context, &document)?;
        }
        SiteVerb::Delete { site, yes } => {
            let id = names::site(client, &site).await?;
            confirm(&format!("this deletes the site {site}"), yes)?;
            client.send(Method::DELETE, &["sites", &id], None, None).await?;
            out.say(&format!("{site} is deleted"));
        }
    }
    Ok(Exit::Ok)
}

fn show(context: &Context, document: &serde_json::Value) -> Result<(), CliError> {
    if context.out.is_json() {
        return context.out.json(document);
    }
    let site: Site = view(document)?;
    context.out.text(&draw::sites(&context.out, std::slice::from_ref(&site)))
}
