//! Hosts shut out: evicted or banned, and what follows from either.

use axum::http::Method;
use serde_json::{Value, json};

use super::rig::Rig;

async fn revoke(rig: &Rig, host: &str, body: Option<Value>) -> super::rig::Answer {
    rig.call(Method::POST, &format!("/api/hosts/{host}/revoke"), body).await
}

#[tokio::test]
async fn a_host_is_evicted_unless_a_ban_is_asked_for() {
    let rig = Rig::new().await;
    for (name, body) in
        [("web1", None), ("web2", Some(json!({}))), ("web3", Some(json!({"as": "evict"})))]
    {
        let host = rig.host(name, true).await;
        let shown = revoke(&rig, host.as_str(), body).await.expect(200).body;
        assert_eq!((&shown["state"], &shown["revoked_as"]), (&json!("revoked"), &json!("evict")));
        // Its name may be given away at once.
        rig.post("/api/enrolment-tokens", json!({ "host_name": name })).await.expect(201);
    }
    let host = rig.host("web4", false).await;
    let shown = rig.get(&format!("/api/hosts/{host}")).await.expect(200).body;
    assert_eq!((&shown["revoked_as"], &shown["recoveries"]), (&json!(null), &json!(0)));
    assert_eq!(
        (&shown["certificate_renewed_at"], &shown["clock_skew_ms"]),
        (&json!(null), &json!(null))
    );
}

#[tokio::test]
async fn a_ban_is_for_good_and_keeps_the_name_until_the_host_is_deleted() {
    let rig = Rig::new().await;
    let host = rig.host("web1", false).await;
    revoke(&rig, host.as_str(), None).await.expect(200);
    let banned = revoke(&rig, host.as_str(), Some(json!({ "as": "ban" }))).await.expect(200).body;
    assert_eq!(banned["revoked_as"], "ban", "an evicted host may be banned");
    revoke(&rig, host.as_str(), Some(json!({ "as": "ban" }))).await.expect(200);
    for body in [None, Some(json!({ "as": "evict" }))] {
        let less = revoke(&rig, host.as_str(), body).await.expect(409);
        assert_eq!(less.code(), "HOST_BANNED");
    }
    let token = json!({ "host_name": "web1" });
    let taken = rig.post("/api/enrolment-tokens", token.clone()).await.expect(409);
    assert_eq!(taken.code(), "NAME_TAKEN");
    let other = rig.host("web2", false).await;
    let renamed = rig.patch(&format!("/api/hosts/{other}"), json!({ "name": "web1" })).await;
    assert_eq!(renamed.expect(409).code(), "NAME_TAKEN");
    rig.delete(&format!("/api/hosts/{host}")).await.expect(204);
    rig.post("/api/enrolment-tokens", token).await.expect(201);
}

#[tokio::test]
async fn what_is_no_way_to_shut_a_host_out_is_refused() {
    let rig = Rig::new().await;
    let host = rig.host("web1", false).await;
    for (body, pointer) in [
        (json!({ "as": "forever" }), "/as"),
        (json!({ "as": null }), "/as"),
        (json!({ "ban": true }), "/ban"),
    ] {
        let wrong = revoke(&rig, host.as_str(), Some(body)).await.expect(400);
        assert_eq!(wrong.pointers(), [pointer]);
    }
    let shown = rig.get(&format!("/api/hosts/{host}")).await.expect(200).body;
    assert_eq!(shown["state"], "enrolled");
}
