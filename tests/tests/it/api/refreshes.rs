//! Looks at the config repository through the API.

use std::time::Duration;

use axum::http::Method;
use hostler_controller::api::Access;
use hostler_controller::tasks::cluster::Place;
use serde_json::{Value, json};

use super::events::read;
use super::repository::{Kept, Looks, Repository, WEB};
use super::rig::Rig;
use crate::store::world::World;

#[tokio::test]
async fn without_a_repository_there_is_nothing_to_look_at() {
    let rig = Rig::new().await;
    let asked = rig.call(Method::POST, "/api/refresh", None).await.expect(409);
    assert_eq!(asked.code(), "GIT_NOT_CONFIGURED");
    assert!(asked.body["detail"].as_str().unwrap().contains("HOSTLER_GIT_URL"), "{}", asked.text);
    let status = rig.get("/api/refresh-status").await.expect(200).body;
    assert_eq!((&status["configured"], &status["status"]), (&json!(false), &json!(null)));
    assert_eq!(status["stale"], false);
    let listed = rig.get("/api/refreshes").await.expect(200).body;
    assert_eq!(listed, json!({ "items": [], "next": null }));
    let stacks = rig.get("/api/stacks").await.expect(200).body;
    assert_eq!(stacks, json!({ "items": [], "next": null, "revision": null, "stale": false }));
    rig.get("/api/refreshes/refresh_00000000000000000000000000").await.expect(404);
}

#[tokio::test]
async fn one_who_waits_is_told_how_it_went() {
    for place in [World::sqlite().await, World::postgres("one_who_waits").await] {
        let kept = Kept::on(place).await;
        let done = kept.refresh().await;
        assert_eq!(done.header("preference-applied"), "wait=60");
        assert_eq!(
            (&done.body["status"], &done.body["trigger"]),
            (&json!("completed"), &json!("manual"))
        );
        let head = kept.repository.git(&["rev-parse", "HEAD"]);
        assert_eq!(done.body["revision"], head.as_str());
        assert_eq!(done.body["counts"]["stacks"], 4);
        assert_eq!(done.body["counts"]["problems"], 1, "{}", done.text);
        let shown = kept.rig.get(&format!("/api/refreshes/{}", done.id())).await.expect(200);
        assert_eq!(shown.body, done.body);
        let status = kept.rig.get("/api/refresh-status").await.expect(200).body;
        assert_eq!(
            (&status["status"], &status["outcome"]),
            (&json!("completed"), &json!("completed"))
        );
        assert_eq!((&status["stale"], &status["error"]), (&json!(false), &json!(null)));
        assert_eq!(status["revision"], head.as_str());
        assert_eq!(status["finished_at"], done.body["finished_at"]);
        assert_eq!(status["commit"]["summary"], "Begin");
        assert_eq!(status["commit"]["committed_at"], "2026-01-31T12:00:00.000000Z");
        kept.end().await;
    }
}

#[tokio::test]
async fn who_does_not_wait_gets_the_look_that_answers() {
    let repository = Repository::new();
    repository.write("web/docker-compose.yml", WEB);
    repository.commit("Begin");
    let place = World::sqlite().await;
    let access = Access::Loopback { listen: None };
    let kept = Kept::of(place, repository, Looks::Never, &[], access).await;
    let ask = async || kept.rig.call(Method::POST, "/api/refresh", None).await.expect(202);
    let (first, second) = (ask().await, ask().await);
    assert_ne!(first.id(), second.id());
    // The newer one took the place of the one that waited, and answers for it.
    let shown = kept.rig.get(&format!("/api/refreshes/{}", first.id())).await.expect(200);
    assert_eq!(shown.id(), second.id());
    let listed = kept.rig.get("/api/refreshes?limit=10").await.expect(200).body;
    let rows = listed["items"].as_array().unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [second.id(), first.id()], "newest first");
    assert_eq!(rows[1]["replaced_by"], second.id());
    assert_eq!(rows[0]["replaced_by"], json!(null));
    let status = kept.rig.get("/api/refresh-status").await.expect(200).body;
    assert_eq!(status["queued"]["id"], second.id());
    assert_eq!((&status["outcome"], &status["running"]), (&json!(null), &json!(null)));
    // A wait that is over says how it stands.
    let headers = [("prefer", "wait=1")];
    let waited = kept.rig.call_with(Method::POST, "/api/refresh", &headers, None).await.expect(202);
    assert_eq!(waited.body["finished_at"], json!(null));
    let page = kept.rig.get("/api/refreshes?limit=1").await.expect(200).body;
    let next = page["next"].as_str().unwrap();
    let rest = kept.rig.get(&format!("/api/refreshes?after={next}")).await.expect(200).body;
    assert_eq!(rest["items"].as_array().unwrap().len(), 2);
    for wrong in ["?limit=0", "?limit=201", "?after=job_x", "?odd=1"] {
        let answer = kept.rig.get(&format!("/api/refreshes{wrong}")).await.expect(400);
        assert_eq!(answer.code(), "INVALID_QUERY", "{wrong}");
    }
    kept.end().await;
}

#[tokio::test]
async fn a_look_that_fails_keeps_what_was_known_and_says_so() {
    let kept = Kept::sqlite().await;
    let good = kept.refresh().await;
    let git = kept.repository.path().join(".git");
    let away = kept.repository.path().join("away");
    std::fs::rename(&git, &away).unwrap();
    let failed = kept.refresh().await;
    assert_eq!((&failed.body["status"], &failed.body["counts"]), (&json!("failed"), &json!(null)));
    let error = &failed.body["error"];
    assert!(["not_found", "network"].contains(&error["class"].as_str().unwrap()), "{error}");
    let status = kept.rig.get("/api/refresh-status").await.expect(200).body;
    assert_eq!((&status["stale"], &status["outcome"]), (&json!(true), &json!("failed")));
    assert_eq!(&status["error"], error);
    assert_eq!(status["revision"], good.body["revision"], "the snapshot is kept");
    assert!(status["last_success_at"].as_str() < status["finished_at"].as_str(), "{status}");
    let stacks = kept.rig.get("/api/stacks").await.expect(200).body;
    assert_eq!((&stacks["stale"], stacks["items"].as_array().unwrap().len()), (&json!(true), 4));
    let page = kept.rig.get("/").await.expect(200).text;
    assert!(page.contains("Stale: the refresh of"), "{page}");

    std::fs::rename(&away, &git).unwrap();
    assert_eq!(kept.refresh().await.body["status"], "completed");
    let status = kept.rig.get("/api/refresh-status").await.expect(200).body;
    assert_eq!((&status["stale"], &status["error"]), (&json!(false), &json!(null)));
    kept.end().await;
}

#[tokio::test]
async fn looks_and_what_they_find_are_told_live() {
    let kept = Kept::sqlite().await;
    let told = async {
        let enough = |told: &[super::events::Told]| {
            told.iter().filter(|one| one.kind == "stack.status_changed").count() >= 2
        };
        read(&kept.rig, "/api/events?after=0", None, enough).await
    };
    let working = async {
        kept.refresh().await;
        kept.carry().await;
    };
    let (told, ()) = tokio::join!(told, working);
    let of = |kind: &str| -> Vec<&Value> {
        told.iter().filter(|one| one.kind == kind).map(|one| &one.data).collect()
    };
    for kind in ["refresh.requested", "refresh.started", "refresh.completed"] {
        let id = of(kind)[0]["document"]["refresh_id"].as_str().unwrap();
        assert!(id.starts_with("refresh_"), "{kind}");
    }
    let mut added: Vec<_> =
        of("stack.added").iter().map(|one| one["document"]["path"].as_str().unwrap()).collect();
    added.sort_unstable();
    assert_eq!(added, ["broken", "db", "idle", "web"]);
    let id = kept.show("web").await["id"].as_str().unwrap().to_owned();
    let path = format!("/api/events?after=0&stack={id}");
    let own = read(&kept.rig, &path, None, |told| told.len() >= 3).await;
    assert!(own.iter().all(|one| one.data["stack_id"] == id.as_str()), "{own:?}");
    assert!(own.iter().any(|one| one.kind == "job.queued"), "{own:?}");
    kept.end().await;
}

#[tokio::test]
async fn what_a_look_found_is_written_once_the_database_takes_it() {
    let kept = Kept::on(World::postgres("what_a_look_found_is_written").await).await;
    kept.refresh().await;
    // A sequence counts also what is taken back.
    kept.sql(
        "CREATE SEQUENCE tries; \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'not now'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON desired_state \
         FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    kept.repository.write("new/docker-compose.yml", WEB);
    let head = kept.repository.commit("Add one");
    let refused = async {
        while kept.sql("SELECT is_called FROM tries").as_deref() != Some("t") {
            tokio::task::yield_now().await;
        }
        kept.sql("DROP TRIGGER refuse ON desired_state");
    };
    // Nobody polls here: a request that is lost is lost for good.
    let (answer, ()) = tokio::join!(kept.refresh(), refused);
    assert_eq!(answer.body["status"], "completed", "{}", answer.text);
    assert_eq!(answer.body["revision"], head.as_str());
    assert!(kept.statuses().await.contains_key("new"));
    kept.end().await;
}

#[tokio::test]
async fn what_one_controller_found_the_others_read_for_their_bundles() {
    let kept = Kept::on(World::postgres("what_one_controller_found").await).await;
    // A look of a controller that is not among those that serve is another's to take.
    Place::enter(&kept.rig.app, "one".to_owned()).await.unwrap();
    kept.refresh().await;
    let (other, data) = kept.another().await;
    for n in 0..4 {
        let changed = WEB.replace("web:1", &format!("web:{n}"));
        kept.repository.write("web/docker-compose.yml", &changed);
        let head = kept.repository.commit("Change it");
        kept.refresh().await;
        let reads = async {
            while other.app.desired.current().is_none_or(|one| one.revision != head) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reads).await.expect("the other reads it");
        let stack = other.app.store.stack_at("web").await.unwrap().unwrap();
        assert!(other.app.desired.bundle(&stack).await.unwrap().is_some());
    }
    other.stop.cancel();
    other.app.store.close().await;
    drop((other, data));
    kept.end().await;
}

#[tokio::test]
async fn after_a_restart_without_the_repository_stacks_are_synced_from_the_disk() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    let held = kept.rig.app.desired.current().unwrap().revision;
    // Never synced by the controller that was: its bundle is still to be made.
    kept.repository.write("idle/docker-compose.yml", WEB);
    let head = kept.repository.commit("Give it a host");
    kept.refresh().await;
    assert_ne!(held, head);
    kept.repository.vanish();
    let (restarted, data) = kept.restarted(&["git", "bundles"]);
    let looks = async {
        loop {
            let status = restarted.get("/api/refresh-status").await.expect(200).body;
            if status["outcome"] == "failed" && status["running"].is_null() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(60), looks).await.expect("it looks");
    assert_eq!((&status["stale"], &status["revision"]), (&json!(true), &json!(head)));
    let stack = restarted.app.store.stack_at("idle").await.unwrap().unwrap();
    let asked = restarted
        .call(Method::POST, &format!("/api/stacks/{}/sync", stack.id), None)
        .await
        .expect(202);
    assert_eq!(asked.body["jobs"][0]["host"], "web1");
    restarted.stop.cancel();
    drop((restarted, data));
    kept.end().await;
}

#[tokio::test]
async fn what_is_not_on_the_disk_waits_for_a_refresh_and_says_so() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.repository.vanish();
    let (other, data) = kept.restarted(&[]);
    let looks = async {
        while other.get("/api/refresh-status").await.expect(200).body["outcome"] != "failed" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looks).await.expect("it looks");
    let stack = other.app.store.stack_at("web").await.unwrap().unwrap();
    let path = format!("/api/stacks/{}/sync", stack.id);
    let refused = other.call(Method::POST, &path, None).await.expect(409);
    assert_eq!(refused.code(), "STACK_BROKEN");
    assert!(refused.text.contains("until a refresh has read them"), "{}", refused.text);
    other.stop.cancel();
    drop((other, data));
    kept.end().await;
}
