//! `env_check`: what a toggle would stumble over, looked at without changing anything.

use std::path::Path;

use hostler_protocol::job::{
    AppKind, CheckFinding, CheckResult, CheckSpec, EnvironmentDoc, Severity,
};
use tokio_util::sync::CancellationToken;

use crate::host::fs::FsError;
use crate::host::links;
use crate::host::nginx::tree::{self, Sighting};
use crate::host::redis::Connection;
use crate::steps::effect;
use crate::steps::live::Live;
use crate::steps::nginx;
use crate::steps::object_cache;
use crate::steps::origin;
use crate::steps::purge;
use crate::steps::redis_switch;
use crate::steps::render;
use crate::steps::run::{Failure, Run, blocking};
use crate::steps::state::{self, Applied};
use crate::steps::tools::Tools;

/// The check of where probes come to.
const ORIGIN: &str = "probe_origin";
const PASSWD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &CheckSpec,
) -> Result<CheckResult, Failure> {
    let environment = &spec.environment;
    let cancel = run.cancel().clone();
    let applied = state::load(tools, &environment.id).await?;
    let mut findings = Findings(Vec::new());
    run.step("paths", async {
        site(tools, environment, &mut findings).await;
        Ok(((), "looked at".to_owned()))
    })
    .await?;
    if environment.fastcgi.is_some() {
        run.step("nginx", async {
            page_cache(tools, environment, applied.as_ref(), &mut findings).await;
            configuration(tools, environment, &cancel, &mut findings).await;
            Ok(((), "looked at".to_owned()))
        })
        .await?;
    }
    if environment.redis.is_some() {
        run.step("redis", async {
            object_cache(tools, environment, &mut findings).await;
            Ok(((), "looked at".to_owned()))
        })
        .await?;
    }
    run.step("probe", async {
        answers(tools, environment, applied.as_ref(), &mut findings).await;
        Ok(((), "looked at".to_owned()))
    })
    .await?;
    let ok = findings.0.iter().all(|finding| finding.severity != Severity::Error);
    Ok(CheckResult { ok, findings: findings.0 })
}

struct Findings(Vec<CheckFinding>);

impl Findings {
    fn add(&mut self, check: &str, severity: Severity, message: String, hint: Option<String>) {
        self.0.push(CheckFinding { check: check.to_owned(), severity, message, hint });
    }

    fn good(&mut self, check: &str, message: impl Into<String>) {
        self.add(check, Severity::Ok, message.into(), None);
    }

    fn warn(&mut self, check: &str, message: impl Into<String>, hint: &str) {
        self.add(check, Severity::Warning, message.into(), Some(hint.to_owned()));
    }

    fn bad(&mut self, check: &str, failure: Failure) {
        let error = failure.into_error();
        let message = format!("{}: {}", error.code, error.message);
        self.add(check, Severity::Error, message, error.hint);
    }

    fn result(&mut self, check: &str, result: Result<String, Failure>) {
        match result {
            Ok(message) => self.good(check, message),
            Err(failure) => self.bad(check, failure),
        }
    }
}

async fn site(tools: &Tools, environment: &EnvironmentDoc, findings: &mut Findings) {
    let (roots, docroot) = (tools.roots.clone(), environment.docroot.clone());
    let found = blocking(move || links::resolve(&roots, docroot.as_ref())).await;
    let docroot = &environment.docroot;
    let needed = environment.kind == AppKind::Wordpress && environment.redis.is_some();
    match found {
        Ok(path) if path.as_os_str() == docroot.as_str() => {
            findings.good("docroot", format!("{docroot} is a directory"));
        }
        Ok(path) => findings.good("docroot", format!("{docroot} leads to {}", path.display())),
        Err(failure) if needed => findings.bad("docroot", failure),
        Err(failure) => findings.warn(
            "docroot",
            failure.message(),
            "No job needs it as the environment is now; correct it if it is mistyped.",
        ),
    }
    let user = environment.user.clone();
    let known = blocking(move || -> Result<bool, FsError> {
        let text = std::fs::read("/etc/passwd").unwrap_or_default();
        let text = String::from_utf8_lossy(&text[..text.len().min(PASSWD_BYTES_MAX)]).into_owned();
        Ok(text.lines().any(|line| line.split(':').next() == Some(user.as_str())))
    })
    .await;
    let user = &environment.user;
    match known {
        Ok(true) => findings.good("user", format!("{user} exists")),
        Ok(false) => findings.warn(
            "user",
            format!("{user} is not in /etc/passwd"),
            "Correct the environment's user, unless a directory service knows it.",
        ),
        Err(failure) => findings.bad("user", failure),
    }
}

async fn page_cache(
    tools: &Tools,
    environment: &EnvironmentDoc,
    applied: Option<&Applied>,
    findings: &mut Findings,
) {
    let Some(fastcgi) = &environment.fastcgi else { return };
    let rendered = render::check(environment, fastcgi);
    findings.result("key_format", rendered.map(|()| format!("{} is usable", fastcgi.key_format)));
    let mut scratch = applied.cloned().unwrap_or_else(|| Applied::new(environment.clone()));
    let claimed = purge::claim(tools, environment, fastcgi, &mut scratch).await;
    let message = format!("{} is, or can be, this environment's own", fastcgi.cache_dir);
    findings.result("cache_dir", claimed.map(|()| message));
    let roots = tools.roots.clone();
    let parent = Path::new(&fastcgi.cache_dir).parent().map(Path::to_owned).unwrap_or_default();
    let opened = blocking(move || {
        let missing = roots.missing_levels(&parent)?;
        let still = if missing == 0 { "is a directory" } else { "will be made" };
        Ok::<_, FsError>(format!("{} {still}", parent.display()))
    });
    findings.result("cache_dir_parent", opened.await);
}

async fn configuration(
    tools: &Tools,
    environment: &EnvironmentDoc,
    cancel: &CancellationToken,
    findings: &mut Findings,
) {
    let files = match nginx::read_files(tools, environment).await {
        Ok(files) => files,
        Err(failure) => return findings.bad("nginx_files", failure),
    };
    if let Err(failure) = nginx::check_ours(environment, &files) {
        return findings.bad("nginx_files", failure);
    }
    let missing = files.iter().filter(|content| content.is_none()).count();
    let tested = match tools.nginx.dump(cancel).await {
        Ok(tested) => tested,
        Err(error) => return findings.bad("nginx_test", error.into()),
    };
    if !tested.ok {
        let ours = nginx::paths(environment).iter().zip(&files).any(|(path, content)| {
            content.is_none() && tested.tail.contains(&*path.to_string_lossy())
        });
        if ours {
            findings.warn(
                "nginx_test",
                tested.line(),
                "The vhost names a file that does not exist yet; the first toggle creates it.",
            );
        } else {
            let code = hostler_protocol::job::Code::NginxConfigBroken;
            findings.bad("nginx_test", nginx::refused(code, &tested));
        }
        return;
    }
    findings.good("nginx_test", "the configuration passes");
    if missing > 0 {
        findings.good("nginx_files", format!("{missing} of 3 files are still to be created"));
    }
    let sightings = tree::sightings(&tested.dump, &nginx::paths(environment));
    let placed = nginx::placed(environment, &sightings);
    findings.result("nginx_include", placed.map(|_| "all three files are included".to_owned()));
    included(environment, &sightings, findings);
    if let Err(failure) = origin::reaches(environment, &sightings) {
        findings.bad(ORIGIN, failure);
    }
}

fn included(environment: &EnvironmentDoc, sightings: &[Sighting], findings: &mut Findings) {
    let [_, _, location] = nginx::paths(environment);
    for sighting in sightings.iter().filter(|sighting| sighting.file == location) {
        let Some(level) = sighting.levels.last() else { continue };
        let name = format!("location {}", level.args.join(" "));
        if level.caches {
            findings.warn(
                "nginx_own_cache",
                format!("`{name}` turns a FastCGI cache on itself"),
                "Remove its `fastcgi_cache` lines: nginx refuses the directive twice.",
            );
        }
        if level.passes_fastcgi {
            findings.good("nginx_location", format!("`{name}` passes to FastCGI"));
        } else {
            findings.warn(
                "nginx_location",
                format!("`{name}` does not pass to FastCGI"),
                "Include the location file in the block with `fastcgi_pass`.",
            );
        }
    }
}

async fn object_cache(tools: &Tools, environment: &EnvironmentDoc, findings: &mut Findings) {
    let Some(doc) = &environment.redis else { return };
    let asked = async {
        let target = object_cache::target(tools, doc).await?;
        let mut connection = Connection::open(&target).await?;
        connection.ping().await?;
        Ok::<_, Failure>(connection)
    };
    match asked.await {
        Ok(mut connection) => {
            findings.good("redis_ping", "PING answered PONG");
            let permitted = connection.check_permissions(&doc.prefix).await;
            let permitted = permitted.map(|()| "SCAN and UNLINK are permitted".to_owned());
            findings.result("redis_permissions", permitted.map_err(Failure::from));
        }
        Err(failure) => findings.bad("redis_ping", failure),
    }
    let planned = redis_switch::plan(tools, environment, doc, true).await;
    findings.result("redis_switch", planned.map(|_| "Redis can be turned on".to_owned()));
    if environment.kind == AppKind::Wordpress {
        let prefix = redis_switch::prefix_is_set(tools, environment, doc).await;
        match prefix {
            Ok(true) => findings.good("redis_prefix", "wp-config.php names the prefix"),
            Ok(false) => findings.warn(
                "redis_prefix",
                "wp-config.php does not set WP_REDIS_PREFIX to the environment's prefix",
                "Without it the site's keys begin otherwise and a purge does not find them.",
            ),
            Err(failure) => findings.bad("redis_prefix", failure),
        }
    }
}

async fn answers(
    tools: &Tools,
    environment: &EnvironmentDoc,
    applied: Option<&Applied>,
    findings: &mut Findings,
) {
    let Ok(origin) = tools.origin(environment) else { return };
    let nginx = applied.and_then(|applied| applied.nginx.clone());
    if let Some(nginx) = &nginx {
        let live = Live::new(environment, origin.clone(), nginx);
        match effect::generation(&live).await {
            Ok(Some(found)) if found == nginx.generation => {
                findings.good("generation", format!("generation {found} answers"));
            }
            Ok(found) => findings.warn(
                "generation",
                format!("generation {} is applied, {found:?} answers", nginx.generation),
                "Reconcile the environment.",
            ),
            Err(failure) => findings.bad("generation", failure),
        }
    }
    // Without our files in place nothing tells a visitor's entry from a probe's; a plain request
    // is what a visitor would send.
    let live = match &nginx {
        Some(nginx) => Live::new(environment, origin, nginx),
        None => Live::plain(environment, origin),
    };
    let expected = environment.health.status;
    let answer = match effect::health(tools, &live).await {
        Ok(answer) => answer,
        Err(failure) => return findings.bad("health", failure),
    };
    let status = answer.status;
    if status == expected {
        return findings.good("health", format!("{} answers {status}", environment.health.path));
    }
    findings.warn(
        "health",
        format!("{} answers {status}, not {expected}", environment.health.path),
        "Look at the site, or correct the environment's health check.",
    );
    let known = findings.0.iter().any(|finding| finding.check == ORIGIN);
    if let Some(other) = origin::elsewhere(&live.origin, &answer).filter(|_| !known) {
        findings.bad(ORIGIN, origin::redirects(environment, &other));
    }
}
