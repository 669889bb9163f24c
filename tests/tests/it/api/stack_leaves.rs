//! Stacks that are to leave hosts, and who asks for that; and what keeps stacks waiting.

use axum::http::Method;
use serde_json::{Value, json};

use super::repository::{Kept, WEB, confirmed};
use crate::store::world::World;

impl Kept {
    async fn cancel(&self, job: &Value) {
        let path = format!("/api/jobs/{}/cancel", job.as_str().unwrap());
        self.rig.call(Method::POST, &path, None).await.expect(200);
    }

    /// Why the removal from its one host waits.
    async fn waits_to_go(&self, path: &str) -> Value {
        self.show(path).await["on"][0]["removal_waits"].clone()
    }
}

#[tokio::test]
async fn a_removal_that_was_declined_is_asked_for_again() {
    for place in [World::sqlite().await, World::postgres("a_removal_that_was_declined").await] {
        let kept = Kept::on(place).await;
        kept.refresh().await;
        kept.settle_down().await;
        let sync = format!("{}/sync", kept.stack("web").await);
        let remove = json!({ "remove": true });
        let wanted = kept.rig.post(&sync, remove.clone()).await.expect(409);
        assert_eq!(wanted.code(), "STACK_WANTED");
        let both = json!({ "remove": true, "force": true });
        let both = kept.rig.post(&sync, both).await.expect(400);
        assert_eq!((both.code(), both.pointers()), ("INVALID_REQUEST", vec!["/remove"]));

        kept.repository.remove("web");
        kept.repository.remove("db");
        kept.repository.commit("Too much at once");
        kept.refresh().await;
        kept.carry().await;
        assert_eq!(kept.waits_to_go("web").await, "many");
        let held = kept.show("web").await;
        assert_eq!((&held["status"], &held["removal_held"]), (&json!("deleting"), &json!("many")));
        kept.cancel(&held["on"][0]["job_id"]).await;
        kept.carry().await;
        let declined = kept.show("web").await;
        assert_eq!(declined["status"], "deleting");
        assert_eq!(declined["removal_held"], "declined");
        assert_eq!(declined["on"][0]["removal_waits"], "declined");
        assert_eq!(declined["on"][0]["job_id"], Value::Null);
        assert!(kept.claim().await.is_empty(), "nothing goes unasked");
        assert_eq!(kept.rig.post(&sync, json!({})).await.expect(409).code(), "STACK_ABSENT");

        let asked = kept.rig.post(&sync, remove.clone()).await.expect(202).body;
        assert_eq!(asked["jobs"][0]["host"], "web1");
        let claimed = kept.claim().await;
        assert_eq!(claimed.len(), 1, "the other still waits");
        assert_eq!(claimed[0].id.as_str(), asked["jobs"][0]["job_id"].as_str().unwrap());
        assert_eq!(claimed[0].request["down"]["volumes"], false);
        kept.settle(&claimed[0], confirmed(&claimed[0])).await;
        kept.carry().await;
        assert!(!kept.statuses().await.contains_key("web"), "it is gone");
        // One that is held is let go in the same way.
        let sync = format!("{}/sync", kept.stack("db").await);
        let held = kept.show("db").await["on"][0]["job_id"].clone();
        let asked = kept.rig.post(&sync, remove).await.expect(202).body;
        assert_eq!(asked["jobs"][0]["job_id"], held);
        kept.settle_down().await;
        assert!(!kept.statuses().await.contains_key("db"));
        kept.end().await;
    }
}

#[tokio::test]
async fn a_label_that_a_host_loses_takes_nothing_down_unasked_that_is_too_much() {
    for place in [World::sqlite().await, World::postgres("a_label_that_a_host_loses").await] {
        let kept = Kept::on(place).await;
        let host = format!("/api/hosts/{}", kept.host);
        kept.rig.patch(&host, json!({ "labels": { "role": "web" } })).await.expect(200);
        let labelled = WEB.replace("hosts: [web1]", "labels: {role: web}");
        for path in ["web/docker-compose.yml", "db/docker-compose.yaml"] {
            kept.repository.write(path, &labelled);
        }
        kept.repository.commit("Go by labels");
        kept.refresh().await;
        kept.settle_down().await;
        assert_eq!(kept.show("web").await["status"], "synced");
        kept.rig.patch(&host, json!({ "labels": { "role": null } })).await.expect(200);
        kept.carry().await;
        for path in ["web", "db"] {
            assert_eq!(kept.waits_to_go(path).await, "many", "{path}");
        }
        assert!(kept.claim().await.is_empty());
        // The label is there again: nothing was lost, and nothing waits any more.
        kept.rig.patch(&host, json!({ "labels": { "role": "web" } })).await.expect(200);
        kept.settle_down().await;
        let back = kept.show("web").await;
        assert_eq!((&back["status"], &back["out_of_sync"]), (&json!("synced"), &json!(false)));
        assert_eq!(back["on"][0]["removal_waits"], Value::Null);
        kept.end().await;
    }
}

#[tokio::test]
async fn a_suspended_stack_that_goes_waits_and_those_after_it_say_so() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    let web = kept.stack("web").await;
    kept.rig.call(Method::POST, &format!("{web}/suspend"), None).await.expect(200);
    kept.repository.write("web/docker-compose.yml", &WEB.replace("web:1", "web:2"));
    let after =
        WEB.replace("hosts: [web1]", "hosts: [web1], after: [web]").replace("web:1", "db:2");
    kept.repository.write("db/docker-compose.yaml", &after);
    kept.repository.commit("One after the other");
    kept.refresh().await;
    kept.carry().await;
    let waits = kept.show("db").await["waits"].clone();
    assert_eq!(waits["code"], "WAITS_FOR_STACK");
    assert!(waits["message"].as_str().unwrap().contains("web, which is suspended"), "{waits}");
    assert_eq!(kept.show("web").await["waits"], Value::Null);
    assert_eq!(kept.show("db").await["warnings"], json!([]));

    kept.repository.remove("web");
    kept.repository.commit("Take it out");
    kept.refresh().await;
    kept.settle_down().await;
    let db = kept.show("db").await;
    assert_eq!(db["waits"], Value::Null, "there is nothing to wait for");
    let unknown = "x-hostler.after names web, which is no stack: it is not waited for";
    assert_eq!(db["warnings"], json!([unknown]));
    let gone = kept.show("web").await;
    assert_eq!((&gone["status"], &gone["removal_held"]), (&json!("deleting"), &json!("suspended")));
    kept.rig.call(Method::POST, &format!("{web}/resume"), None).await.expect(200);
    kept.settle_down().await;
    assert!(!kept.statuses().await.contains_key("web"));
    kept.end().await;
}

#[tokio::test]
async fn a_renamed_directory_is_taken_down_before_it_comes_up_anew() {
    for place in [World::sqlite().await, World::postgres("a_renamed_directory").await] {
        let kept = Kept::on(place).await;
        kept.refresh().await;
        kept.settle_down().await;
        kept.repository.git(&["mv", "web", "shop"]);
        kept.repository.commit("Rename it");
        kept.refresh().await;
        kept.carry().await;
        let jobs = kept.claim().await;
        let types: Vec<&str> = jobs.iter().map(|job| job.job_type.as_str()).collect();
        assert_eq!(types, ["stack_down"], "the new one's ports may be the old one's");
        let waits = kept.show("shop").await["waits"].clone();
        assert_eq!(waits["code"], "WAITS_FOR_REMOVAL");
        assert_eq!(
            waits["message"],
            "web is taken down on web1 first: it is synced there after that"
        );
        kept.settle(&jobs[0], confirmed(&jobs[0])).await;
        kept.settle_down().await;
        let statuses = kept.statuses().await;
        assert_eq!(statuses.get("shop").map(String::as_str), Some("synced"));
        assert!(!statuses.contains_key("web"), "{statuses:?}");
        kept.end().await;
    }
}
