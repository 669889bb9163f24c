//! What a person may do about a stack through the API.

use axum::http::Method;
use serde_json::{Value, json};

use super::repository::{Kept, WEB, confirmed};
use super::rig::Answer;
use crate::store::world::World;

impl Kept {
    async fn act(&self, path: &str, act: &str, body: Option<Value>) -> Answer {
        let path = format!("{}/{act}", self.stack(path).await);
        self.rig.call(Method::POST, &path, body).await
    }
}

fn job(answer: &Answer) -> &str {
    answer.body["jobs"][0]["job_id"].as_str().unwrap()
}

#[tokio::test]
async fn a_sync_that_is_asked_for_is_queued_for_the_hosts_meant() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    let body = json!({ "hosts": ["web1"], "force": true, "adopt": true });
    let asked = kept.act("web", "sync", Some(body)).await.expect(202);
    assert_eq!(asked.body["jobs"][0]["host"], "web1");
    assert_eq!(asked.body["jobs"][0]["host_id"], kept.host.as_str());
    let queued = kept.rig.get(&format!("/api/jobs/{}", job(&asked))).await.expect(200).body;
    let spec = &queued["request"]["spec"];
    assert_eq!((&spec["force"], &spec["adopt"]), (&json!(true), &json!(true)));
    assert_eq!(queued["request"]["why"], "somebody asked for it");
    assert_eq!(kept.show("web").await["status"], "syncing");
    // One that waits is replaced by the newer one; one that runs is not disturbed.
    let newer = kept.act("web", "sync", None).await.expect(202);
    let older = kept.rig.get(&format!("/api/jobs/{}", job(&asked))).await.expect(200).body;
    assert_eq!((&older["state"], &older["reason"]), (&json!("cancelled"), &json!("SUPERSEDED")));
    let running = kept.claim().await;
    assert_eq!(running[0].id.as_str(), job(&newer));
    assert_eq!(kept.act("web", "sync", None).await.expect(409).code(), "STACK_BUSY");
    kept.settle(&running[0], confirmed(&running[0])).await;
    kept.carry().await;
    kept.act("web", "sync", None).await.expect(202);
    kept.end().await;
}

#[tokio::test]
async fn what_cannot_be_synced_says_why() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.carry().await;
    let code = async |path: &str, act: &str, body: Option<Value>, status: u16| {
        kept.act(path, act, body).await.expect(status).code().to_owned()
    };
    for act in ["sync", "plan"] {
        assert_eq!(code("idle", act, None, 409).await, "STACK_UNTARGETED", "{act}");
        let nobody = Some(json!({ "hosts": ["nobody"] }));
        assert_eq!(code("web", act, nobody, 404).await, "NOT_FOUND", "{act}");
        for wrong in [
            json!({ "hosts": [] }),
            json!({ "hosts": "web1" }),
            json!({ "hosts": null }),
            json!([]),
        ] {
            assert_eq!(code("web", act, Some(wrong), 400).await, "INVALID_REQUEST", "{act}");
        }
        assert_eq!(code("web", act, Some(json!({ "host": [] })), 400).await, "UNKNOWN_FIELD");
    }
    kept.repository.write("web/docker-compose.yml", &format!("{WEB}services: []\n"));
    kept.repository.commit("Break it");
    kept.refresh().await;
    let broken = kept.show("web").await;
    assert!(broken["problem"]["code"].is_string(), "{broken}");
    assert_eq!(broken["on"][0]["host"], "web1", "a file that cannot be read takes nothing away");
    kept.end().await;
}

#[tokio::test]
async fn a_plan_is_a_question_and_changes_nothing() {
    for place in [World::sqlite().await, World::postgres("a_plan_is_a_question").await] {
        let kept = Kept::on(place).await;
        kept.refresh().await;
        kept.settle_down().await;
        let before = kept.show("web").await;
        let asked = kept.act("web", "plan", None).await.expect(202);
        assert_eq!(kept.show("web").await, before, "a question changed the row");
        let claimed = kept.claim().await;
        assert_eq!(claimed[0].id.as_str(), job(&asked));
        kept.settle(&claimed[0], confirmed(&claimed[0])).await;
        kept.carry().await;
        assert_eq!(kept.show("web").await, before);
        let job = kept.rig.get(&format!("/api/jobs/{}", job(&asked))).await.expect(200).body;
        assert_eq!((&job["type"], &job["state"]), (&json!("stack_plan"), &json!("succeeded")));
        assert_eq!(job["result"]["services"][0]["service"], "web");
        assert_eq!(job["stack_id"], before["id"]);
        kept.end().await;
    }
}

#[tokio::test]
async fn a_suspended_stack_is_left_alone_until_it_is_resumed() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    for _ in 0..2 {
        let suspended = kept.act("web", "suspend", None).await.expect(200).body;
        assert_eq!(suspended["suspended"], true);
    }
    assert_eq!(kept.act("web", "sync", None).await.expect(409).code(), "STACK_SUSPENDED");
    let unknown = Some(json!({ "for": "1h" }));
    assert_eq!(kept.act("web", "suspend", unknown).await.expect(400).code(), "UNKNOWN_FIELD");
    kept.repository.write("web/docker-compose.yml", &WEB.replace("web:1", "web:2"));
    kept.repository.commit("Upgrade");
    kept.refresh().await;
    kept.carry().await;
    let stays = kept.show("web").await;
    assert_eq!((&stays["status"], &stays["out_of_sync"]), (&json!("synced"), &json!(true)));
    assert_eq!(kept.claim().await.len(), 0);
    let resumed = kept.act("web", "resume", None).await.expect(200).body;
    assert_eq!(resumed["suspended"], false);
    kept.settle_down().await;
    let after = kept.show("web").await;
    assert_eq!((&after["status"], &after["out_of_sync"]), (&json!("synced"), &json!(false)));
    kept.end().await;
}

#[tokio::test]
async fn a_stack_goes_back_to_what_ran_before() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    let first = kept.show("web").await["on"][0].clone();
    kept.repository.write("web/docker-compose.yml", &WEB.replace("web:1", "web:2"));
    kept.repository.commit("Upgrade");
    kept.refresh().await;
    kept.settle_down().await;
    let second = kept.show("web").await["on"][0].clone();
    assert_ne!(first["applied_bundle"], second["applied_bundle"]);

    let back = json!({ "job_id": first["last"]["job_id"] });
    let other = kept.act("db", "rollback", Some(back.clone())).await.expect(409);
    assert_eq!(other.code(), "NOT_A_SYNC", "another stack's sync");
    let plan = kept.act("web", "plan", None).await.expect(202);
    let planned = json!({ "job_id": job(&plan) });
    assert_eq!(kept.act("web", "rollback", Some(planned)).await.expect(409).code(), "NOT_A_SYNC");
    let nobodys = json!({ "job_id": format!("job_{}", "0".repeat(26)) });
    assert_eq!(kept.act("web", "rollback", Some(nobodys)).await.expect(404).code(), "NOT_FOUND");
    let nothing = kept.act("web", "rollback", Some(json!({}))).await.expect(400);
    assert_eq!(nothing.pointers(), ["/job_id"]);

    let asked = kept.act("web", "rollback", Some(back)).await.expect(202);
    let queued = kept.rig.get(&format!("/api/jobs/{}", job(&asked))).await.expect(200).body;
    assert_eq!(queued["request"]["spec"]["bundle"], first["applied_bundle"]);
    assert_eq!(queued["request"]["spec"]["force"], true);
    kept.settle_down().await;
    let after = kept.show("web").await;
    assert_eq!((&after["suspended"], &after["out_of_sync"]), (&json!(true), &json!(true)));
    assert_eq!(after["on"][0]["applied_bundle"], first["applied_bundle"]);
    assert_eq!(after["on"][0]["applied_revision"], first["applied_revision"]);
    kept.act("web", "resume", None).await.expect(200);
    kept.settle_down().await;
    assert_eq!(kept.show("web").await["on"][0]["applied_bundle"], second["applied_bundle"]);
    kept.end().await;
}

#[tokio::test]
async fn drift_is_shown_until_it_is_accepted_or_changes() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    assert_eq!(kept.act("web", "accept-drift", None).await.expect(409).code(), "NO_DRIFT");
    let shown = kept.show("web").await;
    let sees = async |drift: Value| {
        let report = json!({ "stacks": [{
            "stack": shown["id"], "desired": shown["on"][0]["applied"], "seen_at_us": 1,
            "containers": [], "drift": drift,
        }] });
        let report = serde_json::to_vec(&report).unwrap();
        kept.rig.app.observed(&kept.host, &report).await.unwrap();
        kept.show("web").await
    };
    let file = json!({ "kind": "file_changed", "subject": "web/conf" });
    let drifted = sees(json!([file])).await;
    assert_eq!((&drifted["drifted"], &drifted["out_of_sync"]), (&json!(true), &json!(false)));
    assert_eq!(drifted["on"][0]["drift"][0]["subject"], "web/conf");
    assert_eq!(drifted["on"][0]["containers"], json!([]));
    let listed = kept.rig.get("/api/stacks?drifted=true").await.expect(200).body;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    kept.carry().await;
    assert_eq!(kept.claim().await.len(), 0, "drift is reported, and not put right unasked");

    let nobody = json!({ "hosts": ["nobody"] });
    assert_eq!(kept.act("web", "accept-drift", Some(nobody)).await.expect(404).code(), "NOT_FOUND");
    let unknown = json!({ "host": "web1" });
    let unknown = kept.act("web", "accept-drift", Some(unknown)).await.expect(400);
    assert_eq!(unknown.code(), "UNKNOWN_FIELD");
    let here = json!({ "hosts": ["web1"] });
    let accepted = kept.act("web", "accept-drift", Some(here)).await.expect(200).body;
    assert_eq!(accepted["drifted"], false);
    assert_eq!(accepted["on"][0]["drift"][0]["accepted"], true);
    let other = json!({ "kind": "service_stopped", "subject": "web" });
    assert_eq!(sees(json!([file, other])).await["drifted"], true, "another difference is drift");
    kept.end().await;
}
