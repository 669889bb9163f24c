//! Documents as the API gives them.

use serde_json::{Value, json};

use super::fake::{Say, Seen, page};

pub(super) const SITE: &str = "site_01kah2m3n4p5q6r7s8t9v0w1x2";
pub(super) const ENVIRONMENT: &str = "env_01kah2m3n4p5q6r7s8t9v0w1x2";
pub(super) const HOST: &str = "host_01kah2m3n4p5q6r7s8t9v0w1x2";
pub(super) const JOB: &str = "job_01kah2m3n4p5q6r7s8t9v0w1x2";
const TIME: &str = "2026-01-31T12:00:00.000000Z";

pub(super) fn host(name: &str, connected: bool) -> Value {
    json!({
        "id": HOST, "name": name, "state": "enrolled", "connected": connected,
        "key_sha256": "0".repeat(64), "certificate_expires_at": TIME, "agent_build": "0.1.0",
        "facts": {"os": "Debian 12"}, "last_seen_at": TIME, "created_at": TIME, "revoked_at": null,
        "certificate_renewed_at": TIME, "recoveries": 0, "recovered_at": null, "revoked_as": null,
        "clock_skew_ms": 12,
        "field_of_a_later_version": true,
    })
}

pub(super) fn site() -> Value {
    json!({"id": SITE, "name": "shop", "created_at": TIME})
}

pub(super) fn environment() -> Value {
    let flag = json!({"desired": true, "applied": true, "applied_at": TIME, "last_error": null});
    json!({
        "id": ENVIRONMENT, "site_id": SITE, "site": "shop", "name": "production", "host_id": HOST,
        "state": "active", "domain": "shop.example", "kind": "php", "docroot": "/var/www/shop",
        "user": "www-data",
        "nginx": {"http_file": "/h.conf", "server_file": "/s.conf", "location_file": "/l.conf",
            "probe_origin": "http://127.0.0.1:80"},
        "fastcgi": {"cache_dir": "/c", "key_format": "$host$request_uri", "zone_mib": 10,
            "size_mib_max": 1024, "inactive_secs": 86400, "valid_secs": 3600},
        "redis": null,
        "health": {"path": "/", "status": 200, "timeout_ms": 5000},
        "cache": {"environment_id": ENVIRONMENT, "in_sync": true, "fastcgi": flag, "redis": null},
        "version": 1, "created_at": TIME, "updated_at": TIME,
    })
}

/// A purge in some state.
pub(super) fn job(state: &str) -> Value {
    json!({
        "id": JOB, "type": "cache_purge", "state": state, "reason": null,
        "template": "hostler/cache_purge@1", "host_id": HOST, "site_id": SITE,
        "environment_id": ENVIRONMENT, "priority": 0, "request": {}, "attempt": 1, "failures": 0,
        "crashes": 0, "timeout_secs": 60, "run_after": TIME, "expires_at": TIME,
        "created_at": TIME, "started_at": TIME, "accepted_at": TIME,
        "cancel_requested_at": null, "finished_at": "2026-01-31T12:00:00.250000Z",
        "error": null, "result": null, "steps": [], "waits_for": [], "request_id": null,
        "retry_of": null, "parent_id": null, "children": [], "executor": "native",
    })
}

pub(super) fn with(mut document: Value, name: &str, value: Value) -> Value {
    document[name] = value;
    document
}

/// One event of the job's stream, as it is sent.
pub(super) fn event(seq: u32, kind: &str, document: &Value) -> String {
    let event = json!({
        "seq": seq, "at": TIME, "kind": kind, "site_id": SITE, "environment_id": ENVIRONMENT,
        "host_id": HOST, "job_id": JOB, "document": document,
    });
    format!("id: {seq}\nevent: {kind}\ndata: {event}\n\n")
}

pub(super) fn step(seq: u32, step: &str, state: &str) -> String {
    event(seq, "job.progress", &json!({"step": step, "state": state, "message": "told so"}))
}

/// The end of the job's stream.
pub(super) fn end(state: &str) -> String {
    format!("event: end\ndata: {}\n\n", json!({"job_id": JOB, "state": state}))
}

/// What every test's controller knows: one host, one site, one environment.
pub(super) fn world(seen: &Seen) -> Say {
    match seen.line().as_str() {
        "GET /api/hosts" => page(json!([host("web1", true)])),
        "GET /api/sites" => page(json!([site()])),
        "GET /api/environments" => page(json!([environment()])),
        "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache/purge"
        | "PATCH /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache"
        | "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache/warm"
        | "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache/facts"
        | "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache/explain"
        | "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/check" => {
            Say::Json(202, json!({ "job_id": JOB }))
        }
        line => super::fake::problem(404, "NOT_FOUND", &format!("{line}: nothing is there")),
    }
}
