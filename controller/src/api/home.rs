//! `GET /`: a plain page for people. Server-rendered, no script, everything escaped; a browser asks
//! for it anew by itself.

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
use crate::app::StackFilter;
use crate::store::{EnvironmentFilter, JobFilter, Page};
use crate::views::{
    CacheFlag, Environment, Host, HostState, Job, RefreshState, RefreshStatus, StackPage, StackRow,
    StackStatus,
};

/// Rows of each table; the API has the rest.
const ROWS_MAX: u32 = 100;
/// Stacks that are listed; a note says so where there are more.
const STACKS_MAX: u32 = 1000;
/// Seconds after which a browser asks for the page anew.
const RELOAD_SECS: u32 = 15;
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

/// A page for people: the desired state and its stacks, hosts, environments with their caches, recent
/// jobs.
#[utoipa::path(get, path = "/", tag = "service",
    responses((status = 200, body = String, content_type = "text/html")))]
async fn home(State(state): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    let page = Page::first(ROWS_MAX);
    let hosts = state.app.list_hosts(&page).await?;
    let environments = state.app.list_environments(&EnvironmentFilter::default(), &page).await?;
    let jobs = state.app.list_jobs(&JobFilter::default(), &Page::first(25)).await?;
    let status = state.app.refresh_status().await?;
    let stacks = state.app.list_stacks(&StackFilter::default(), &Page::first(STACKS_MAX)).await?;
    let shown = Shown {
        status: &status,
        stacks: &stacks,
        hosts: &hosts.items,
        environments: &environments.items,
        jobs: &jobs.items,
    };
    let body = render(&shown).unwrap_or_default();
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

/// What the page shows.
struct Shown<'a> {
    status: &'a RefreshStatus,
    stacks: &'a StackPage,
    hosts: &'a [Host],
    environments: &'a [Environment],
    jobs: &'a [Job],
}

fn render(shown: &Shown<'_>) -> Result<String, std::fmt::Error> {
    let mut page = String::new();
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Hostler</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"{RELOAD_SECS}\"><style>{STYLE}</style></head>\
         <body><h1>Hostler</h1>"
    )?;
    if shown.status.configured || !shown.stacks.items.is_empty() {
        desired_state(&mut page, shown.status)?;
        stacks_table(&mut page, shown.stacks)?;
    }
    hosts_table(&mut page, shown.hosts)?;
    environments_table(&mut page, shown.environments, shown.hosts)?;
    jobs_table(&mut page, shown.jobs, shown.environments, &shown.stacks.items)?;
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

/// What the repository says, since when, and whether that may be old.
fn desired_state(page: &mut String, status: &RefreshStatus) -> std::fmt::Result {
    write!(page, "<h2>Desired state</h2><p>")?;
    match (&status.revision, &status.commit, status.last_success_at) {
        (Some(revision), Some(commit), Some(at)) => write!(
            page,
            "Commit <code>{}</code> ({}, by {}), read {at}.",
            Escaped(short(revision)),
            Escaped(&commit.summary),
            Escaped(&commit.author),
        )?,
        (_, _, _) => write!(page, "Nothing was read from the repository yet.")?,
    }
    match status.status {
        Some(RefreshState::Refreshing | RefreshState::Queued) => {
            write!(page, " A refresh is under way.")?;
        }
        Some(RefreshState::Completed | RefreshState::Failed) | None => {}
    }
    write!(page, "</p>")?;
    if status.stale {
        let why = status.error.as_ref().map(|error| format!("{}: {}", error.code, error.message));
        let why = why.unwrap_or_default();
        let at = status.finished_at.map(|at| at.to_string()).unwrap_or_default();
        write!(
            page,
            "<p class=\"bad\">Stale: the refresh of {at} failed, and what was known stays. {}</p>",
            Escaped(&why)
        )?;
    }
    Ok(())
}

/// The beginning of a commit's id, which is enough for people.
fn short(revision: &str) -> &str {
    revision.get(..12).unwrap_or(revision)
}

fn stacks_table(page: &mut String, stacks: &StackPage) -> std::fmt::Result {
    let rows = &stacks.items;
    let columns = ["Stack", "Status", "In sync", "Hosts", "Changed in", "Last sync", "Note"];
    table(page, "Stacks", &columns, rows.is_empty())?;
    for stack in rows {
        let changed = short(&stack.changed_in);
        let last = stack.last_sync_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        let nothing_meant = stack.hosts == 0 || stack.status == StackStatus::Deleting;
        let in_sync = match (nothing_meant, stack.out_of_sync) {
            (true, _) => "-",
            (false, true) => "out of sync",
            (false, false) => "yes",
        };
        let (status, hosts) = (word(&stack.status), stack.hosts.to_string());
        row(page, &[&stack.path, &status, in_sync, &hosts, changed, &last, &note(stack)])?;
    }
    end(page, rows.is_empty())?;
    if stacks.next.is_some() {
        write!(page, "<p>There are more; <code>hostler stack list</code> has them all.</p>")?;
    }
    Ok(())
}

/// What is out of the ordinary about a stack.
fn note(stack: &StackRow) -> String {
    let mut notes = Vec::new();
    if stack.suspended {
        notes.push("suspended".to_owned());
    }
    if stack.drifted {
        notes.push("a host is no longer as it was synced".to_owned());
    }
    if stack.failed_hosts > 0 {
        notes.push(format!("the last sync failed on {} of its hosts", stack.failed_hosts));
    }
    if stack.unhealthy_hosts > 0 {
        notes.push(format!("unhealthy on {} of its hosts", stack.unhealthy_hosts));
    }
    if stack.unseen_hosts > 0 {
        notes.push(format!("what runs cannot be seen on {} of its hosts", stack.unseen_hosts));
    }
    if stack.removal_held.is_some() {
        notes.push("its removal waits for a person".to_owned());
    }
    if stack.hosts == 0 && stack.status == StackStatus::Missing && stack.problem.is_none() {
        notes.push("no host is meant to run it".to_owned());
    }
    notes.extend(stack.problem.as_ref().map(|why| format!("{}: {}", why.code, why.message)));
    notes.join("; ")
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

fn jobs_table(
    page: &mut String,
    jobs: &[Job],
    environments: &[Environment],
    stacks: &[StackRow],
) -> std::fmt::Result {
    let environment = |id: &str| {
        let found = environments.iter().find(|environment| environment.id == id);
        found.map_or_else(|| id.to_owned(), |found| format!("{}/{}", found.site, found.name))
    };
    let stack = |id: &str| {
        let found = stacks.iter().find(|stack| stack.id == id);
        found.map_or_else(|| id.to_owned(), |found| found.path.clone())
    };
    let columns = ["Job", "Type", "About", "State", "Made", "Message"];
    table(page, "Recent jobs", &columns, jobs.is_empty())?;
    for job in jobs {
        let of_stack = || job.stack_id.as_deref().map(stack);
        let about = job.environment_id.as_deref().map(environment).or_else(of_stack);
        let about = about.unwrap_or_else(|| "–".to_owned());
        let (kind, state) = (word(&job.job_type), word(&job.state));
        let error = job.error.as_ref().map(|error| format!("{}: {}", error.code, error.message));
        let message = error.or_else(|| job.reason.clone()).unwrap_or_default();
        let made = job.created_at.to_string();
        row(page, &[&job.id, &kind, &about, &state, &made, &message])?;
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
