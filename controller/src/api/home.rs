//! `GET /`: a plain page for people. Server-rendered, no script, everything escaped.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::ApiError;
use crate::store::{EnvironmentFilter, JobFilter, Page};
use crate::views::{CacheFlag, Environment, Host, HostState, Job};

/// Rows of each table; the API has the rest.
const ROWS_MAX: u32 = 100;
/// Nothing is loaded or run; the one style sheet is allowed by its hash.
const POLICY: &str = "default-src 'none'; style-src \
                      'sha256-STYLE'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;\
padding:0 1rem;color-scheme:light dark}table{border-collapse:collapse;width:100%;margin-bottom:2rem}\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884;\
vertical-align:top}code{font-size:.85em}.bad{font-weight:600}";

/// Routes at the root.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new().routes(routes!(home))
}

/// A page for people: hosts, environments with their caches, recent jobs.
#[utoipa::path(get, path = "/", tag = "service",
    responses((status = 200, body = String, content_type = "text/html")))]
async fn home(State(state): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    let page = Page::first(ROWS_MAX);
    let hosts = state.app.list_hosts(&page).await?;
    let environments = state.app.list_environments(&EnvironmentFilter::default(), &page).await?;
    let jobs = state.app.list_jobs(&JobFilter::default(), &Page::first(25)).await?;
    let body = render(&hosts.items, &environments.items, &jobs.items).unwrap_or_default();
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CONTENT_SECURITY_POLICY, policy()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    Ok((headers, body).into_response())
}

fn policy() -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(STYLE.as_bytes());
    let hash = data_encoding::BASE64.encode(&digest);
    POLICY.replace("STYLE", &hash)
}

/// Text that cannot be taken for markup.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn render(
    hosts: &[Host],
    environments: &[Environment],
    jobs: &[Job],
) -> Result<String, std::fmt::Error> {
    let mut page = String::new();
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Hostler</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body><h1>Hostler</h1>"
    )?;
    hosts_table(&mut page, hosts)?;
    environments_table(&mut page, environments, hosts)?;
    jobs_table(&mut page, jobs, environments)?;
    writeln!(
        page,
        "<p>This page changes nothing; use <code>hostler</code> or the \
         <a href=\"/openapi.json\">API</a>.</p></body></html>"
    )?;
    Ok(page)
}

fn table(page: &mut String, title: &str, columns: &[&str], empty: bool) -> std::fmt::Result {
    write!(page, "<h2>{title}</h2>")?;
    if empty {
        return write!(page, "<p>None yet.</p>");
    }
    write!(page, "<table><thead><tr>")?;
    for column in columns {
        write!(page, "<th scope=\"col\">{column}</th>")?;
    }
    write!(page, "</tr></thead><tbody>")
}

fn row(page: &mut String, cells: &[&str]) -> std::fmt::Result {
    write!(page, "<tr>")?;
    for cell in cells {
        write!(page, "<td>{}</td>", Escaped(cell))?;
    }
    write!(page, "</tr>")
}

fn end(page: &mut String, empty: bool) -> std::fmt::Result {
    if empty { Ok(()) } else { write!(page, "</tbody></table>") }
}

fn hosts_table(page: &mut String, hosts: &[Host]) -> std::fmt::Result {
    table(page, "Hosts", &["Name", "State", "Agent", "Last seen"], hosts.is_empty())?;
    for host in hosts {
        let state = match (host.state, host.connected) {
            (HostState::Revoked, _) => "revoked",
            (HostState::Enrolled, true) => "connected",
            (HostState::Enrolled, false) => "not connected",
        };
        let seen = host.last_seen_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        row(page, &[&host.name, state, host.agent_build.as_deref().unwrap_or("–"), &seen])?;
    }
    end(page, hosts.is_empty())
}

fn environments_table(
    page: &mut String,
    environments: &[Environment],
    hosts: &[Host],
) -> std::fmt::Result {
    let names: HashMap<_, _> = hosts.iter().map(|host| (&host.id, host.name.as_str())).collect();
    let columns = ["Environment", "Domain", "Host", "State", "FastCGI cache", "Redis cache"];
    table(page, "Environments", &columns, environments.is_empty())?;
    for environment in environments {
        let name = format!("{}/{}", environment.site, environment.name);
        let host = names.get(&environment.host_id).copied().unwrap_or(&environment.host_id);
        let state = word(&environment.state);
        let fastcgi = flag(environment.cache.fastcgi.as_ref());
        let redis = flag(environment.cache.redis.as_ref());
        row(page, &[&name, &environment.domain, host, &state, &fastcgi, &redis])?;
    }
    end(page, environments.is_empty())
}

fn flag(flag: Option<&CacheFlag>) -> String {
    let Some(flag) = flag else { return "–".to_owned() };
    let on = |on: bool| if on { "on" } else { "off" };
    let is = flag.applied.map_or("unknown", on);
    let mut text = format!("should be {}, is {is}", on(flag.desired));
    if let Some(error) = &flag.last_error {
        text.push_str(&format!(" ({}: {})", error.code, error.message));
    }
    text
}

fn jobs_table(page: &mut String, jobs: &[Job], environments: &[Environment]) -> std::fmt::Result {
    let name = |id: &str| {
        let found = environments.iter().find(|environment| environment.id == id);
        found.map(|found| format!("{}/{}", found.site, found.name))
    };
    let columns = ["Job", "Type", "Environment", "State", "Made", "Message"];
    table(page, "Recent jobs", &columns, jobs.is_empty())?;
    for job in jobs {
        let environment = job.environment_id.as_deref().unwrap_or("–");
        let environment = name(environment).unwrap_or_else(|| environment.to_owned());
        let (kind, state) = (word(&job.job_type), word(&job.state));
        let error = job.error.as_ref().map(|error| format!("{}: {}", error.code, error.message));
        let message = error.or_else(|| job.reason.clone()).unwrap_or_default();
        let made = job.created_at.to_string();
        row(page, &[&job.id, &kind, &environment, &state, &made, &message])?;
    }
    end(page, jobs.is_empty())
}

/// An enum as the API writes it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_row_says_it_stays_text() {
        let mut page = String::new();
        row(&mut page, &["<script>alert('1')</script>", "a&b\"c"]).unwrap();
        assert_eq!(
            page,
            "<tr><td>&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;</td>\
             <td>a&amp;b&quot;c</td></tr>"
        );
    }

    #[test]
    fn the_policy_allows_the_style_sheet_and_nothing_else() {
        let policy = policy();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("STYLE"));
        assert!(!policy.contains("script-src") && !policy.contains("unsafe-inline"), "{policy}");
    }
}
