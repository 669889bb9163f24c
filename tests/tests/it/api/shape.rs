//! Errors have one shape, whatever is wrong with a request.

use axum::body::Body;
use axum::http::{Method, Request};
use hostler_controller::api::Access;
use serde_json::json;

use super::rig::Rig;

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost")
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let rig = Rig::new().await;
    let answer = rig.get("/api/nothing").await.expect(404);
    assert_eq!(answer.code(), "NOT_FOUND");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.body["instance"], answer.header("x-request-id"));
    let answer = rig.call(Method::PUT, "/api/sites", None).await.expect(405);
    assert_eq!(answer.code(), "METHOD_NOT_ALLOWED");
    assert_eq!(answer.header("allow"), "GET,HEAD,POST");
    rig.get("/api/sites/site_x").await.expect(404);
    rig.get("/api/sites/%ff").await.expect(404);
}

#[tokio::test]
async fn bodies_are_read_strictly() {
    let rig = Rig::new().await;
    let send = async |kind: Option<&str>, body: String| {
        let mut asked = request("POST", "/api/sites");
        if let Some(kind) = kind {
            asked = asked.header("content-type", kind);
        }
        rig.send(asked.body(Body::from(body)).unwrap()).await
    };
    let json = Some("application/json");
    let wrong = [
        ("", "BODY_NOT_JSON", ""),
        ("{", "BODY_NOT_JSON", ""),
        ("{\"name\":\"a\"} x", "BODY_NOT_JSON", ""),
        ("{}", "INVALID_REQUEST", "/name"),
        ("{\"name\":1}", "INVALID_REQUEST", "/name"),
        ("{\"name\":null}", "INVALID_REQUEST", "/name"),
        ("{\"name\":\"a\",\"x\":1}", "UNKNOWN_FIELD", "/x"),
        ("{\"name\":\"A\"}", "INVALID_REQUEST", "/name"),
    ];
    for (body, code, pointer) in wrong {
        let answer = send(json, body.to_owned()).await.expect(400);
        assert_eq!((answer.code(), answer.pointers()), (code, vec![pointer]), "{body}");
    }
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let answer = send(kind, "{\"name\":\"a\"}".to_owned()).await.expect(415);
        assert_eq!(answer.code(), "UNSUPPORTED_MEDIA_TYPE", "{kind:?}");
    }
    let large = format!("{{\"name\":\"{}\"}}", "a".repeat(1024 * 1024));
    assert_eq!(send(json, large).await.expect(413).code(), "BODY_TOO_LARGE");
    send(Some("application/json; charset=utf-8"), "{\"name\":\"a\"}".to_owned()).await.expect(201);
}

#[tokio::test]
async fn queries_are_read_strictly() {
    let rig = Rig::new().await;
    let wrong = [
        ("x=1", "?x"),
        ("limit=0", "?limit"),
        ("limit=201", "?limit"),
        ("limit=a", "?limit"),
        ("limit=1&limit=2", "?limit"),
        ("after=x", "?after"),
        ("after=job_00000000000000000000000000", "?after"),
    ];
    for (query, pointer) in wrong {
        let answer = rig.get(&format!("/api/sites?{query}")).await.expect(400);
        assert_eq!((answer.code(), answer.pointers()), ("INVALID_QUERY", vec![pointer]), "{query}");
    }
    for (query, pointer) in [("state=odd", "?state"), ("host=x", "?host"), ("type=odd", "?type")] {
        let answer = rig.get(&format!("/api/jobs?{query}")).await.expect(400);
        assert_eq!(answer.pointers(), [pointer], "{query}");
    }
}

#[tokio::test]
async fn a_database_that_is_gone_is_said_so() {
    let rig = Rig::new().await;
    rig.get("/readyz").await.expect(200);
    rig.app.store.close().await;
    let answer = rig.get("/readyz").await.expect(503);
    assert_eq!((answer.code(), answer.header("retry-after")), ("STORE_UNAVAILABLE", "2"));
    rig.get("/livez").await.expect(200);
    let answer = rig.get("/api/sites").await.expect(503);
    assert_eq!(answer.code(), "STORE_UNAVAILABLE");
    let answer = rig.post("/api/sites", json!({ "name": "a" })).await.expect(503);
    assert_eq!(answer.code(), "STORE_UNAVAILABLE");
}

#[tokio::test]
async fn the_page_for_people_escapes_what_it_shows() {
    let rig = Rig::with(Access::Loopback { listen: None }).await;
    rig.environment("shop").await;
    let page = rig.get("/").await.expect(200);
    assert!(page.text.contains("shop/production") && page.text.contains("shop.example"));
    assert!(page.text.contains("should be off, is unknown"), "{}", page.text);
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!page.text.contains("<script"));
}

#[tokio::test]
async fn the_contract_is_served() {
    let rig = Rig::new().await;
    let served = rig.get("/openapi.json").await.expect(200);
    assert_eq!(served.body, hostler_controller::api::contract());
    assert_eq!(served.body["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
}

#[tokio::test]
async fn sites_and_tokens_come_and_go() {
    let rig = Rig::new().await;
    let site = rig.post("/api/sites", json!({ "name": "shop" })).await.expect(201);
    let place = site.header("location").to_owned();
    assert_eq!(place, format!("/api/sites/{}", site.id()));
    let again = rig.post("/api/sites", json!({ "name": "shop" })).await.expect(409);
    assert_eq!((again.code(), again.pointers()), ("NAME_TAKEN", vec!["/name"]));
    let named = rig.patch(&place, json!({ "name": "store" })).await.expect(200);
    assert_eq!(named.body["name"], "store");
    for name in ["a", "b", "c"] {
        rig.site(name).await;
    }
    let first = rig.get("/api/sites?limit=3").await.expect(200);
    let next = first.body["next"].as_str().unwrap();
    let second = rig.get(&format!("/api/sites?limit=3&after={next}")).await.expect(200);
    assert_eq!(second.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(second.body["next"], json!(null));
    rig.delete(&place).await.expect(204);
    rig.get(&place).await.expect(404);

    let token = rig.post("/api/enrolment-tokens", json!({ "host_name": "web1" })).await.expect(201);
    let join = hostler_protocol::join::Join::parse(token.body["join"].as_str().unwrap()).unwrap();
    assert_eq!(join.addresses, ["controller.example:7443"]);
    assert_eq!((join.pin, join.token.as_str()), ([7; 32], token.id()));
    let list = rig.get("/api/enrolment-tokens").await.expect(200);
    assert_eq!(list.body["items"][0]["state"], "waiting");
    assert!(list.body["items"][0].get("join").is_none(), "a list never holds a secret");
    let place = token.header("location").to_owned();
    rig.delete(&place).await.expect(204);
    rig.delete(&place).await.expect(404);
    let wrong = rig.post("/api/enrolment-tokens", json!({ "ttl_secs": 5 })).await.expect(400);
    assert_eq!(wrong.pointers(), ["/ttl_secs"]);
}
