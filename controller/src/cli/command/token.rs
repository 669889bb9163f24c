//! Enrolment tokens.

use hostler_controller::views::{CreateEnrolmentToken, EnrolmentToken, EnrolmentTokenCreated};
use reqwest::Method;
use serde_json::json;

use crate::cli::Context;
use crate::cli::args::TokenVerb;
use crate::cli::client::view;
use crate::cli::confirm::confirm;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;

pub(super) async fn run(context: &Context, verb: TokenVerb) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    match verb {
        TokenVerb::Create { name, ttl } => {
            let ttl_secs = ttl.map(|span| span.0.as_secs());
            let body = json!(CreateEnrolmentToken { host_name: name, ttl_secs });
            let answer =
                client.send(Method::POST, &["enrolment-tokens"], Some(&body), None).await?;
            if out.is_json() {
                out.json(&answer)?;
            } else {
                let token: EnrolmentTokenCreated = view(&answer)?;
                out.text(&token.join)?;
                out.say(&next_step(&token));
            }
        }
        TokenVerb::List => {
            let rows = client.list(&["enrolment-tokens"], &[], usize::MAX).await?;
            if out.is_json() {
                out.json(&rows)?;
            } else {
                let tokens = rows.iter().map(view).collect::<Result<Vec<EnrolmentToken>, _>>()?;
                out.text(&draw::tokens(out, &tokens))?;
            }
        }
        TokenVerb::Delete { id, yes } => {
            confirm(&format!("this deletes the enrolment token {id}"), yes)?;
            client.send(Method::DELETE, &["enrolment-tokens", &id], None, None).await?;
            out.say(&format!("{id} is deleted"));
        }
    }
    Ok(Exit::Ok)
}

fn next_step(token: &EnrolmentTokenCreated) -> String {
    format!(
        "\nOnce, until {}, on the new host as root (paste the line above, then Ctrl-D):\n\n  \
         hostler-agent enroll --token-file -\n",
        draw::when(token.expires_at)
    )
}
