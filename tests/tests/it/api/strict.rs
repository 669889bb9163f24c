//! Every route of the contract, asked wrongly: bodies nobody means, things that do not exist,
//! states that waiting cannot cure. New routes are here by themselves.

use axum::body::Body;
use axum::http::{Method, Request};
use hostler_controller::api;
use hostler_controller::domain::{Change, EnvironmentState};
use serde_json::{Value, json};

use super::rig::{Rig, environment};

/// An operation: its method and path, and whether it reads a body.
struct Route {
    method: Method,
    path: String,
    reads: bool,
}

fn routes() -> Vec<Route> {
    let contract = api::contract();
    let mut routes = Vec::new();
    for (path, item) in contract["paths"].as_object().unwrap() {
        // A webhook's body is bytes that are signed, whatever they say.
        if path == "/api/webhook" {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            routes.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                reads: operation["requestBody"].is_object(),
            });
        }
    }
    routes
}

fn prefix(path: &str) -> &'static str {
    match path.trim_start_matches("/api/").split('/').next().unwrap() {
        "sites" => "site",
        "environments" => "env",
        "hosts" => "host",
        "jobs" => "job",
        "batches" => "batch",
        "enrolment-tokens" => "enrol",
        "stacks" => "stack",
        "refreshes" => "refresh",
        other => panic!("what is below /api/{other}?"),
    }
}

fn with_id(path: &str, id: &str) -> String {
    path.replace("{id}", id)
}

/// Sends bytes as they are.
async fn send(rig: &Rig, route: &Route, kind: &str, body: String) -> super::rig::Answer {
    let path = match route.path.contains("{id}") {
        true => with_id(&route.path, &format!("{}_{}", prefix(&route.path), "0".repeat(26))),
        false => route.path.clone(),
    };
    let request = Request::builder()
        .method(route.method.clone())
        .uri(path)
        .header("host", "localhost")
        .header("content-type", kind);
    rig.send(request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn every_body_is_read_strictly() {
    let rig = Rig::new().await;
    let wrong = [
        ("{\"no_such_field\":1}", "UNKNOWN_FIELD", "/no_such_field"),
        ("[]", "INVALID_REQUEST", ""),
        ("[true]", "INVALID_REQUEST", ""),
        ("\"text\"", "INVALID_REQUEST", ""),
        ("7", "INVALID_REQUEST", ""),
        ("null", "INVALID_REQUEST", ""),
        ("{", "BODY_NOT_JSON", ""),
        ("\u{0}", "BODY_NOT_JSON", ""),
    ];
    let mut seen = 0;
    for route in routes().iter().filter(|route| route.method != Method::GET) {
        let what = format!("{} {}", route.method, route.path);
        for (body, code, pointer) in wrong {
            let answer = send(&rig, route, "application/json", body.to_owned()).await;
            assert_eq!(answer.status, 400, "{what} with {body}: {}", answer.text);
            assert_eq!(answer.code(), code, "{what} with {body}");
            // Of an array its first member may be named.
            if !body.starts_with('[') {
                assert_eq!(answer.pointers(), [pointer], "{what} with {body}");
            }
            seen += 1;
        }
        let large = format!("{{\"name\":\"{}\"}}", "a".repeat(1024 * 1024));
        let answer = send(&rig, route, "application/json", large).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (413, "BODY_TOO_LARGE"), "{what}");
        if route.reads {
            let answer = send(&rig, route, "text/plain", "{}".to_owned()).await;
            assert_eq!(answer.status, 415, "{what}: {}", answer.text);
        }
    }
    assert!(seen > 100, "the contract has fewer routes than there are");
    for list in
        ["sites", "hosts", "environments", "jobs", "batches", "enrolment-tokens", "refreshes"]
    {
        let left = rig.get(&format!("/api/{list}")).await.expect(200);
        assert_eq!(left.body["items"], json!([]), "a refused request made one of {list}");
    }
}

/// A body the route would take, if what it is about existed.
fn right_body(route: &Route) -> Option<Value> {
    match (route.method.as_str(), route.path.as_str()) {
        ("PATCH", "/api/sites/{id}" | "/api/hosts/{id}") => Some(json!({ "name": "other" })),
        ("PATCH", "/api/environments/{id}") => Some(json!({ "user": "other" })),
        ("PATCH", "/api/environments/{id}/cache") => Some(json!({ "redis_cache_enabled": true })),
        ("POST", "/api/environments/{id}/cache/warm") => {
            Some(json!({ "urls": ["http://shop.example/"] }))
        }
        ("POST", "/api/environments/{id}/cache/explain") => {
            Some(json!({ "url": "http://shop.example/" }))
        }
        ("POST", "/api/stacks/{id}/rollback") => {
            Some(json!({ "job_id": format!("job_{}", "0".repeat(26)) }))
        }
        ("POST", "/api/sites/{id}/environments") => Some(environment("shop", "nobody")),
        _ => None,
    }
}

#[tokio::test]
async fn what_does_not_exist_is_said_so_by_every_route() {
    let rig = Rig::new().await;
    let mut seen = 0;
    for route in routes().iter().filter(|route| route.path.contains("{id}")) {
        let prefix = prefix(&route.path);
        let other = if prefix == "job" { "env" } else { "job" };
        let zeros = "0".repeat(26);
        // Nobody's id, another kind's, one that is too short or holds letters no id has, a name.
        for id in [
            format!("{prefix}_{zeros}"),
            format!("{other}_{zeros}"),
            format!("{prefix}_{}", &zeros[1..]),
            format!("{prefix}_{}u", &zeros[1..]),
            format!("{prefix}_{}", "z".repeat(26)),
            "production".to_owned(),
            "..%2fsites".to_owned(),
        ] {
            let path = with_id(&route.path, &id);
            let answer = rig.call(route.method.clone(), &path, right_body(route)).await;
            let what = format!("{} {path}: {}", route.method, answer.text);
            assert_eq!((answer.status.as_u16(), answer.code()), (404, "NOT_FOUND"), "{what}");
            seen += 1;
        }
    }
    assert!(seen > 100, "the contract has fewer routes than there are");
}

#[tokio::test]
async fn a_state_that_waiting_cannot_cure_takes_no_job() {
    let rig = Rig::new().await;
    let requests = [
        ("PATCH", "/cache", Some(json!({ "fastcgi_cache_enabled": true }))),
        ("POST", "/cache/purge", None),
        ("POST", "/cache/reconcile", None),
        ("POST", "/check", None),
    ];
    let ask = async |path: &str, status: u16, code: &str| {
        let count = async || {
            let jobs = rig.get("/api/jobs?limit=200").await.expect(200);
            jobs.body["items"].as_array().unwrap().len()
        };
        let before = count().await;
        for (method, end, body) in &requests {
            let path = format!("{path}{end}");
            let answer = rig.call(method.parse().unwrap(), &path, body.clone()).await;
            let told = (answer.status.as_u16(), answer.code());
            assert_eq!(told, (status, code), "{method} {path}: {}", answer.text);
        }
        assert_eq!(count().await, before, "{path}: a job was queued all the same");
    };
    let failed = rig.environment("failed").await;
    let id = failed.rsplit('/').next().unwrap().parse().unwrap();
    let mut row = rig.app.store.environment(&id).await.unwrap().unwrap();
    row.state = EnvironmentState::Failed;
    row.version += 1;
    rig.write(Change::UpdateEnvironment(Box::new(row))).await;
    ask(&failed, 409, "ENVIRONMENT_FAILED").await;

    let deleting = rig.environment("deleting").await;
    rig.delete(&deleting).await.expect(202);
    ask(&deleting, 409, "ENVIRONMENT_DELETING").await;

    let revoked = rig.environment("revoked").await;
    let host = rig.get(&revoked).await.body["host_id"].as_str().unwrap().to_owned();
    rig.call(Method::POST, &format!("/api/hosts/{host}/revoke"), None).await.expect(200);
    ask(&revoked, 409, "HOST_REVOKED").await;
    let desired = rig.get(&format!("{revoked}/cache")).await.expect(200);
    assert_eq!(desired.body["fastcgi"]["desired"], false, "a refused switch changed the wish");

    rig.delete(&revoked).await.expect(204);
    ask(&revoked, 404, "NOT_FOUND").await;
}
