//! Environments.

use comfy_table::{Cell, Color};
use hostler_controller::views::{CacheFlag, Environment, EnvironmentState};

use crate::cli::names::{Names, full_name};
use crate::cli::output::{Output, cell, colored};

use super::cache::{caches, summary};
use super::units::{labels, when, word};

pub(in crate::cli) fn environments(out: &Output, all: &[Environment], names: &Names) -> String {
    let flag = |flag: &Option<CacheFlag>| cell(flag.as_ref().map_or("none", summary));
    let rows = all.iter().map(|environment| {
        vec![
            cell(full_name(environment)),
            state(environment),
            cell(names.of(&environment.host_id)),
            cell(&environment.domain),
            cell(word(&environment.kind)),
            flag(&environment.cache.fastcgi),
            flag(&environment.cache.redis),
            cell(&environment.id),
        ]
    });
    let heading = ["ENVIRONMENT", "STATE", "HOST", "DOMAIN", "KIND", "FASTCGI", "REDIS", "ID"];
    out.table(&heading, rows.collect())
}

pub(in crate::cli) fn environment(out: &Output, one: &Environment, names: &Names) -> String {
    let mut pairs = vec![
        ("Environment", cell(full_name(one))),
        ("Id", cell(&one.id)),
        ("State", state(one)),
        ("Host", cell(names.of(&one.host_id))),
        ("Domain", cell(&one.domain)),
        ("Kind", cell(word(&one.kind))),
        ("Docroot", cell(&one.docroot)),
        ("User", cell(&one.user)),
        ("http file", cell(&one.nginx.http_file)),
        ("server file", cell(&one.nginx.server_file)),
        ("location file", cell(&one.nginx.location_file)),
        ("Probe origin", cell(&one.nginx.probe_origin)),
        ("Health check", health(one)),
        ("Executor", cell(executor(one))),
        ("Labels", cell(labels(&one.labels))),
    ];
    if let Some(fastcgi) = &one.fastcgi {
        pairs.extend([
            ("FastCGI directory", cell(&fastcgi.cache_dir)),
            ("FastCGI key", cell(&fastcgi.key_format)),
            ("FastCGI size", cell(size(fastcgi.zone_mib, fastcgi.size_mib_max))),
            ("FastCGI times", cell(times(fastcgi.valid_secs, fastcgi.inactive_secs))),
        ]);
    }
    if let Some(redis) = &one.redis {
        pairs.extend([
            ("Redis", cell(&redis.url)),
            ("Redis prefix", cell(&redis.prefix)),
            ("Redis password file", cell(redis.password_file.as_deref().unwrap_or("-"))),
            ("Redis switch file", cell(redis.switch_file.as_deref().unwrap_or("-"))),
        ]);
    }
    pairs.push(("Changed", cell(format!("{} (version {})", when(one.updated_at), one.version))));
    format!("{}\n\n{}", out.pairs(pairs), caches(out, &one.cache))
}

fn executor(one: &Environment) -> String {
    one.executor.as_ref().map_or_else(|| "as each job's template says".to_owned(), word)
}

fn health(one: &Environment) -> Cell {
    let health = &one.health;
    cell(format!("{} answers {} within {} ms", health.path, health.status, health.timeout_ms))
}

fn size(zone_mib: u32, size_mib_max: u32) -> String {
    format!("{size_mib_max} MiB on disk, keys {zone_mib} MiB")
}

fn times(valid_secs: u32, inactive_secs: u32) -> String {
    format!("fresh for {valid_secs} s, gone after {inactive_secs} s unasked")
}

fn state(environment: &Environment) -> Cell {
    match environment.state {
        EnvironmentState::Active => colored("active", Color::Green),
        EnvironmentState::Failed => colored("failed", Color::Red),
        EnvironmentState::Deleting => colored("deleting", Color::Yellow),
    }
}

/// What to do with a new environment.
pub(in crate::cli) fn next_steps(environment: &Environment) -> String {
    let name = full_name(environment);
    let nginx = &environment.nginx;
    // A pattern matches nothing until the file is there, so the lines are safe to add at once.
    let pattern = |file: &str| match file.strip_suffix(".conf") {
        Some(stem) => format!("{stem}*.conf"),
        None => file.to_owned(),
    };
    format!(
        "\nOnce, on its host, include Hostler's files in the nginx configuration:\n\
         \n  http {{ }}                         include {};\
         \n  server {{ }} of {:<18} include {};\
         \n  location {{ }} that passes to PHP  include {};\n\
         \nThen: hostler env check {name}",
        pattern(&nginx.http_file),
        environment.domain,
        pattern(&nginx.server_file),
        pattern(&nginx.location_file)
    )
}
