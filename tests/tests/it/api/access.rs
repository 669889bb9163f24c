//! Nobody gets in who may not: every route of the contract is tried.

use axum::body::Body;
use axum::http::{Method, Request};
use hostler_controller::api::{self, Access};
use hostler_controller::domain::ApiScope;

use super::rig::Rig;

const OPEN: [&str; 2] = ["/livez", "/readyz"];
/// Its signature is its key; the tests of webhooks have it.
const WEBHOOK: &str = "/api/webhook";

/// Every route with an id of the right kind in its path; new ones are here by themselves.
fn routes() -> Vec<(Method, String)> {
    let contract = api::contract();
    let mut routes = Vec::new();
    for (path, item) in contract["paths"].as_object().unwrap() {
        let kind = path.trim_start_matches("/api/").split('/').next().unwrap();
        let prefix = match kind {
            "sites" => "site",
            "environments" => "env",
            "hosts" => "host",
            "jobs" => "job",
            "enrolment-tokens" => "enrol",
            "batches" => "batch",
            "stacks" => "stack",
            "refreshes" => "refresh",
            _ => "unused",
        };
        if path == WEBHOOK {
            continue;
        }
        let path = path.replace("{id}", &format!("{prefix}_{}", "0".repeat(26)));
        for method in item.as_object().unwrap().keys() {
            routes.push((method.to_uppercase().parse().unwrap(), path.clone()));
        }
    }
    routes
}

fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

#[tokio::test]
async fn without_a_token_every_route_is_closed() {
    let rig = Rig::with(Access::Tokens).await;
    for (method, path) in routes() {
        let answer = rig.call(method.clone(), &path, None).await;
        if is_open(&path) {
            assert_eq!(answer.status.as_u16(), 200, "{method} {path}");
            continue;
        }
        assert_eq!(answer.status.as_u16(), 401, "{method} {path} is open to anybody");
        assert_eq!(answer.code(), "UNAUTHENTICATED", "{method} {path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
    }
    let unknown = rig.get("/api/nothing").await.expect(401);
    assert_eq!(unknown.code(), "UNAUTHENTICATED");
}

#[tokio::test]
async fn desired_state_is_open_to_anybody_only_where_that_is_said() {
    let rig = Rig::with(Access::TokensBesidesDesiredState).await;
    let open = ["/", "/api/refresh-status", "/api/refreshes", "/api/stacks", "/api/refresh"];
    let mut opened = Vec::new();
    for (method, path) in routes() {
        let answer = rig.call(method.clone(), &path, None).await;
        if answer.status.as_u16() == 401 && answer.code() == "UNAUTHENTICATED" {
            continue;
        }
        let single = method == Method::GET
            && (path.starts_with("/api/refreshes/") || path.starts_with("/api/stacks/"))
            && path.matches('/').count() == 3;
        assert!(is_open(&path) || single || open.contains(&path.as_str()), "{method} {path}");
        opened.push(path);
    }
    for path in open {
        assert!(opened.iter().any(|one| one == path), "{path} is closed");
    }
    let foreign = [("origin", "http://evil.example")];
    let answer = rig.call_with(Method::POST, "/api/refresh", &foreign, None).await;
    assert_eq!(answer.code(), "FOREIGN_ORIGIN");
    let wrong = [("authorization", "Bearer hst_wrong")];
    rig.call_with(Method::GET, "/api/stacks", &wrong, None).await.expect(401);
}

#[tokio::test]
async fn wrong_expired_and_revoked_tokens_open_nothing() {
    let rig = Rig::with(Access::Tokens).await;
    let (token, good) = rig.app.create_api_token("t".into(), ApiScope::Read, None).await.unwrap();
    let other = if good.ends_with('0') { "1" } else { "0" };
    let changed = format!("{}{other}", &good[..good.len() - 1]);
    let bearer = |text: &str| format!("Bearer {text}");
    let show = async |header: String| {
        let headers = [("authorization", header.as_str())];
        rig.call_with(Method::GET, "/api/sites", &headers, None).await
    };
    show(bearer(&good)).await.expect(200);
    show(format!("bearer {good}")).await.expect(200);
    for bad in [bearer(&changed), bearer("hst_x"), good.clone(), format!("Basic {good}")] {
        let answer = show(bad).await.expect(401);
        assert!(!answer.text.contains(&good), "the answer repeats a secret");
    }
    rig.app.revoke_api_token(token.id).await.unwrap();
    show(bearer(&good)).await.expect(401);
}

#[tokio::test]
async fn a_weaker_scope_does_not_suffice() {
    let rig = Rig::with(Access::Tokens).await;
    let mut bearers = Vec::new();
    for scope in ApiScope::ALL {
        let (_, text) = rig.app.create_api_token("t".into(), scope, None).await.unwrap();
        bearers.push((scope, format!("Bearer {text}")));
    }
    for (method, path) in routes() {
        if is_open(&path) || path.ends_with("/events") {
            continue;
        }
        let mut passed = Vec::new();
        for (scope, bearer) in &bearers {
            let headers = [("authorization", bearer.as_str())];
            let answer = rig.call_with(method.clone(), &path, &headers, None).await;
            let refused = answer.status.as_u16() == 403;
            if refused {
                assert_eq!(answer.code(), "SCOPE_MISSING", "{method} {path}");
            } else {
                passed.push(*scope);
            }
        }
        let reads = method == Method::GET;
        assert!(passed.contains(&ApiScope::Admin), "{method} {path}: closed even to admins");
        assert_eq!(passed.contains(&ApiScope::Read), reads, "{method} {path}");
        let sites = method == Method::POST && path == "/api/sites";
        assert!(!(sites && passed.contains(&ApiScope::Operate)), "operators make no sites");
    }
}

#[tokio::test]
async fn on_loopback_a_web_page_cannot_drive_it() {
    let listen = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 8080)));
    let rig = Rig::with(Access::Loopback { listen }).await;
    let ours = [("host", "localhost:8080")];
    rig.call_with(Method::GET, "/api/sites", &ours, None).await.expect(200);
    for (method, path) in routes() {
        if is_open(&path) {
            continue;
        }
        for host in ["evil.example:8080", "localhost:81", "10.0.0.1:8080"] {
            let answer = rig.call_with(method.clone(), &path, &[("host", host)], None).await;
            assert_eq!(answer.code(), "FOREIGN_HOST", "{method} {path} for {host}");
        }
        let foreign = [("host", "localhost:8080"), ("origin", "http://evil.example")];
        let answer = rig.call_with(method.clone(), &path, &foreign, None).await;
        assert_eq!(answer.code(), "FOREIGN_ORIGIN", "{method} {path}");
    }
    let nameless = Request::get("/api/sites").body(Body::empty()).unwrap();
    assert_eq!(rig.send(nameless).await.expect(403).code(), "FOREIGN_HOST");
}
