//! What is decided and told of services, without an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hostler_protocol::bundle::{File, FileKind, Manifest};
use hostler_protocol::job::ServiceAction;

use super::contents::Contents;
use super::observe::{self, remember};
use super::*;
use crate::host::docker::Container;

pub(super) fn container(service: &str, status: &str, exit_code: i64) -> Container {
    made(service, status, exit_code, None)
}

pub(super) fn with_health(status: &str, health: &str) -> Container {
    made("web", status, 0, Some(health))
}

/// A container that ended then.
pub(super) fn ended(service: &str, exit_code: i64, at: &str) -> Container {
    let mut own = container(service, "exited", exit_code);
    own.state.finished_at = at.to_owned();
    own
}

/// A container that runs since then, and that the engine has started again so often.
pub(super) fn restarted(service: &str, restarts: u64, since: &str) -> Container {
    let told = serde_json::json!({
        "Id": format!("{service}-1"),
        "Name": format!("/p-{service}-1"),
        "Image": "sha256:1",
        "RestartCount": restarts,
        "State": { "Status": "running", "StartedAt": since },
        "Config": { "Labels": {
            "com.docker.compose.service": service,
            "com.docker.compose.config-hash": "h",
        } },
        "HostConfig": { "RestartPolicy": { "Name": "always" } },
    });
    serde_json::from_value(told).unwrap()
}

fn made(service: &str, status: &str, exit_code: i64, health: Option<&str>) -> Container {
    let health = health.map(|status| serde_json::json!({ "Status": status }));
    serde_json::from_value(serde_json::json!({
        "Id": format!("{service}-1"),
        "Name": format!("/p-{service}-1"),
        "Image": "sha256:1",
        "State": { "Status": status, "ExitCode": exit_code, "StartedAt": "1", "Health": health },
        "Config": {
            "Image": "box",
            "Labels": {
                "com.docker.compose.service": service,
                "com.docker.compose.config-hash": "h",
            },
        },
    }))
    .unwrap()
}

fn again(own: &Container, id: &str, started_at: &str) -> Container {
    let mut own = own.clone();
    own.id = id.to_owned();
    own.state.started_at = started_at.to_owned();
    own
}

const COMPOSE: &str = "services:\n  web:\n    image: box\n    volumes: ['/f/conf:/conf:ro']\n  \
    db:\n    image: box\n    secrets: [{source: key}]\nsecrets: {key: {file: /f/key}}\n";

fn resolved(text: &str) -> Resolved {
    Resolved::parse(text.as_bytes(), Path::new("/f"), Path::new("/f")).unwrap()
}

fn manifest(conf: u8, key: u8) -> Manifest {
    let file = |path: &str, content: u8| File {
        path: path.to_owned(),
        kind: FileKind::File,
        sha256: format!("{content:02x}").repeat(32),
        bytes: 1,
    };
    Manifest { files: vec![file("conf/site.conf", conf), file("key", key)] }
}

/// What is remembered of a stack that ran like that.
fn applied(text: &str, manifest: &Manifest, containers: &[Container]) -> Applied {
    let mut services = resolved(text).seen(&Contents { manifest, links: &BTreeMap::new() });
    for (name, seen) in &mut services {
        remember(seen, name, containers, false);
    }
    Applied {
        desired: "d".to_owned(),
        bundle: "b".to_owned(),
        directory: String::new(),
        compose_files: Vec::new(),
        host_env: None,
        services,
        at_us: 0,
    }
}

/// What is known where all that ended did so while the engine was up.
fn all_stopped(containers: &[Container]) -> Stopped {
    Stopped::default().seen(containers, None)
}

fn as_wanted(before: &Applied, containers: &[Container], respect: bool) -> bool {
    is_as_wanted(before, containers, respect.then_some(&all_stopped(containers)), 0)
}

struct Case<'a> {
    before: Option<&'a Applied>,
    now: &'a str,
    manifest: &'a Manifest,
    changed: &'a [&'a str],
    containers: &'a [Container],
    respect: bool,
}

impl Case<'_> {
    fn decide(&self) -> Intents {
        let changed: BTreeSet<String> = self.changed.iter().map(|s| (*s).to_owned()).collect();
        decide(&Look {
            before: self.before,
            now: &resolved(self.now),
            contents: Contents { manifest: self.manifest, links: &BTreeMap::new() },
            changed: &changed,
            containers: self.containers,
            images: &BTreeMap::from([("box".to_owned(), "sha256:1".to_owned())]),
            respected: self.respect.then_some(&all_stopped(self.containers)),
        })
    }
}

fn both() -> [Container; 2] {
    [container("db", "running", 0), container("web", "running", 0)]
}

fn told(intents: &Intents) -> Vec<(&str, ServiceAction, Option<Remount>)> {
    intents.iter().map(|(name, own)| (name.as_str(), own.action, own.remount)).collect()
}

#[test]
fn nothing_changed_is_nothing_done() {
    let (containers, files) = (both(), manifest(1, 1));
    let before = applied(COMPOSE, &files, &containers);
    let case = Case {
        before: Some(&before),
        now: COMPOSE,
        manifest: &files,
        changed: &[],
        containers: &containers,
        respect: false,
    };
    assert_eq!(
        told(&case.decide()),
        [("db", ServiceAction::Unchanged, None), ("web", ServiceAction::Unchanged, None)]
    );
}

#[test]
fn a_mounted_file_concerns_those_that_have_it_mounted() {
    let containers = both();
    let before = applied(COMPOSE, &manifest(1, 1), &containers);
    let (conf, key) = (manifest(2, 1), manifest(1, 2));
    let mut case = Case {
        before: Some(&before),
        now: COMPOSE,
        manifest: &conf,
        changed: &["conf/site.conf"],
        containers: &containers,
        respect: false,
    };
    let intents = case.decide();
    assert_eq!(
        told(&intents),
        [
            ("db", ServiceAction::Unchanged, None),
            ("web", ServiceAction::Restarted, Some(Remount::Restart))
        ]
    );
    assert_eq!(intents["web"].reasons, ["its mounted file conf/site.conf changed"]);
    // The files were placed by an attempt that was cut off: only the digests tell.
    case.changed = &[];
    assert_eq!(case.decide()["web"].reasons, ["its mounted file conf changed"]);
    case.manifest = &key;
    assert_eq!(case.decide()["db"].remount, Some(Remount::Recreate));
    assert_eq!(case.decide()["db"].action, ServiceAction::Recreated);
}

#[test]
fn a_directory_that_becomes_a_file_takes_a_new_container() {
    let containers = both();
    let before = applied(COMPOSE, &manifest(1, 1), &containers);
    let files = manifest(2, 1);
    for (changed, how) in [
        (&["conf", "conf/site.conf"][..], Remount::Recreate),
        (&["conf/other", "conf/site.conf"], Remount::Restart),
        (&["conf", "config/site.conf"], Remount::Restart),
    ] {
        let case = Case {
            before: Some(&before),
            now: COMPOSE,
            manifest: &files,
            changed,
            containers: &containers,
            respect: false,
        };
        assert_eq!(case.decide()["web"].remount, Some(how), "{changed:?}");
    }
}

#[test]
fn what_changed_in_a_definition_is_named_without_its_value() {
    let (containers, files) = (both(), manifest(1, 1));
    let before = applied(COMPOSE, &files, &containers);
    let now = COMPOSE.replacen("image: box", "image: box\n    environment: {A: secret}", 1);
    let case = Case {
        before: Some(&before),
        now: &now,
        manifest: &files,
        changed: &[],
        containers: &containers,
        respect: false,
    };
    let intents = case.decide();
    assert_eq!(intents["web"].action, ServiceAction::Recreated);
    assert_eq!(intents["web"].reasons, ["its `environment` is new"]);
    assert_eq!(intents["db"].action, ServiceAction::Unchanged);
}

#[test]
fn services_come_and_go() {
    let files = manifest(1, 1);
    let containers = [container("old", "running", 0), container("web", "running", 0)];
    let before = applied(COMPOSE, &files, &containers);
    let case = Case {
        before: Some(&before),
        now: COMPOSE,
        manifest: &files,
        changed: &[],
        containers: &containers,
        respect: false,
    };
    assert_eq!(
        told(&case.decide()),
        [
            ("db", ServiceAction::Created, None),
            ("old", ServiceAction::Removed, None),
            ("web", ServiceAction::Unchanged, None)
        ]
    );
}

#[test]
fn what_somebody_stopped_stays_so_where_that_is_respected() {
    let files = manifest(1, 1);
    let before = applied(COMPOSE, &files, &both());
    let stopped = [container("db", "running", 0), container("web", "exited", 143)];
    let mut case = Case {
        before: Some(&before),
        now: COMPOSE,
        manifest: &files,
        changed: &[],
        containers: &stopped,
        respect: true,
    };
    let intents = case.decide();
    assert!(intents["web"].left_out && intents["web"].action == ServiceAction::Unchanged);
    assert!(as_wanted(&before, &stopped, true) && !as_wanted(&before, &stopped, false));
    case.respect = false;
    assert_eq!(case.decide()["web"].action, ServiceAction::Started);
    // One that fell over was not stopped by anybody.
    let crashed = [container("db", "running", 0), container("web", "exited", 1)];
    case.respect = true;
    case.containers = &crashed;
    assert_eq!(case.decide()["web"].action, ServiceAction::Started);
    assert!(!as_wanted(&before, &crashed, true));
    // Its definition changed: whoever stopped it stopped another one.
    let now = COMPOSE.replacen("image: box", "image: box\n    user: root", 1);
    case.containers = &stopped;
    case.now = &now;
    assert_eq!(case.decide()["web"].action, ServiceAction::Recreated);
}

#[test]
fn what_containers_say_is_what_was_done() {
    let before = both();
    let of = |after: &[Container]| -> Vec<ServiceAction> {
        observe::outcome(&before, after, &Intents::new()).iter().map(|own| own.action).collect()
    };
    let [db, web] = &before;
    assert!(of(&before).is_empty() || of(&before) == [ServiceAction::Unchanged; 2]);
    assert_eq!(
        of(&[db.clone(), again(web, "web-1", "2")]),
        [ServiceAction::Unchanged, ServiceAction::Restarted]
    );
    assert_eq!(
        of(&[db.clone(), again(web, "web-2", "2")]),
        [ServiceAction::Unchanged, ServiceAction::Recreated]
    );
    let more = [db.clone(), web.clone(), container("job", "exited", 0)];
    assert_eq!(of(&more)[1], ServiceAction::Created);
}

#[test]
fn a_stack_that_lost_or_gained_something_is_not_as_wanted() {
    let files = manifest(1, 1);
    let before = applied(COMPOSE, &files, &both());
    let [db, web] = both();
    assert!(as_wanted(&before, &[db.clone(), web.clone()], false));
    assert!(!as_wanted(&before, std::slice::from_ref(&db), false));
    let orphan = [db, web, container("orphan", "running", 0)];
    assert!(!as_wanted(&before, &orphan, false));
}
