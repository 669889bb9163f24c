//! Stacks through the API: listed, shown, and how they come and go. What hosts do goes through the
//! store.

use axum::http::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::repository::{Kept, WEB, confirmed, no_image, unhealthy};
use crate::store::world::World;

fn paths(listed: &serde_json::Value) -> Vec<&str> {
    listed["items"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn stacks_are_listed_with_what_the_repository_says() {
    for place in [World::sqlite().await, World::postgres("stacks_are_listed").await] {
        let kept = Kept::on(place).await;
        kept.refresh().await;
        kept.carry().await;
        let head = kept.repository.git(&["rev-parse", "HEAD"]);
        let listed = kept.rig.get("/api/stacks").await.expect(200).body;
        assert_eq!(paths(&listed), ["broken", "db", "idle", "web"]);
        assert_eq!((&listed["revision"], &listed["next"]), (&json!(head), &json!(null)));
        let row = &listed["items"][3];
        let hash = hex::encode(Sha256::digest(WEB));
        assert_eq!(row["hash"], hash.as_str(), "the hash is of the file's bytes");
        assert_eq!((&row["revision"], &row["changed_in"]), (&json!(head), &json!(head)));
        assert_eq!((&row["status"], &row["out_of_sync"]), (&json!("syncing"), &json!(true)));
        assert_eq!((&row["hosts"], &row["problem"]), (&json!(1), &json!(null)));
        assert_eq!(row["last_sync_at"], json!(null));
        let broken = &listed["items"][0];
        assert_eq!(broken["status"], "missing");
        assert!(broken["problem"]["code"].is_string(), "{broken}");
        let idle = &listed["items"][2];
        assert_eq!((&idle["status"], &idle["hosts"]), (&json!("missing"), &json!(0)));

        let query =
            async |text: &str| kept.rig.get(&format!("/api/stacks?{text}")).await.expect(200);
        assert_eq!(paths(&query("path=web").await.body), ["web"]);
        assert_eq!(paths(&query("path=we").await.body), [""; 0]);
        assert_eq!(paths(&query("status=syncing").await.body), ["db", "web"]);
        assert_eq!(
            paths(&query("status=missing&out_of_sync=false").await.body),
            ["broken", "idle"]
        );
        assert_eq!(paths(&query(&format!("host={}", kept.host)).await.body), ["db", "web"]);
        let first = query("limit=3").await.body;
        let next = first["next"].as_str().unwrap();
        assert_eq!(next, "idle");
        assert_eq!(paths(&query(&format!("limit=3&after={next}")).await.body), ["web"]);
        for wrong in ["status=gone", "host=web1", "odd=1", "limit=0", "out_of_sync=2"] {
            let answer = kept.rig.get(&format!("/api/stacks?{wrong}")).await.expect(400);
            assert_eq!(answer.code(), "INVALID_QUERY", "{wrong}");
        }
        kept.end().await;
    }
}

#[tokio::test]
async fn nothing_is_called_in_sync_that_a_refresh_has_only_just_found_changed() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    let listed = kept.rig.get("/api/stacks?out_of_sync=true").await.expect(200).body;
    assert_eq!(paths(&listed), [""; 0]);
    kept.repository.write("web/docker-compose.yml", &WEB.replace("web:1", "web:2"));
    let head = kept.repository.commit("Renew the web");
    kept.refresh().await;
    // Its host has not been given anything yet.
    let listed = kept.rig.get("/api/stacks?out_of_sync=true").await.expect(200).body;
    assert_eq!(paths(&listed), ["web"]);
    assert_eq!(listed["items"][0]["revision"], head.as_str());
    assert_eq!(kept.show("web").await["out_of_sync"], true);
    kept.end().await;
}

#[tokio::test]
async fn a_stack_is_shown_with_what_its_hosts_confirmed() {
    for place in [World::sqlite().await, World::postgres("a_stack_is_shown").await] {
        let kept = Kept::on(place).await;
        kept.refresh().await;
        kept.carry().await;
        let before = kept.show("web").await;
        let tree = kept.repository.git(&["rev-parse", "HEAD:web"]);
        assert_eq!((&before["tree_oid"], &before["directory"]), (&json!(tree), &json!("web")));
        assert_eq!(before["targets"]["hosts"], json!(["web1"]));
        let on = &before["on"][0];
        assert_eq!((&on["host"], &on["status"]), (&json!("web1"), &json!("syncing")));
        assert_eq!((&on["applied"], &on["last"]), (&json!(null), &json!(null)));
        assert!(on["job_id"].as_str().unwrap().starts_with("job_"), "{on}");

        for job in kept.claim().await {
            let fails = job.request["spec"]["stack"]["path"] == "db";
            kept.settle(&job, if fails { unhealthy() } else { confirmed(&job) }).await;
        }
        kept.carry().await;
        let after = kept.show("web").await;
        assert_eq!((&after["status"], &after["out_of_sync"]), (&json!("synced"), &json!(false)));
        let on = &after["on"][0];
        assert_eq!((&on["wanted"], &on["job_id"]), (&on["applied"], &json!(null)));
        assert_eq!(on["applied_revision"], after["revision"]);
        assert_eq!(on["containers"][0]["health"], "healthy");
        assert_eq!(on["last"]["succeeded"], true);
        assert_eq!(on["last"]["services"][0]["reasons"], json!(["it was not there"]));
        assert_eq!(after["last_sync_at"], on["last"]["at"]);
        let id = after["id"].as_str().unwrap();
        let jobs = kept.rig.get(&format!("/api/jobs?stack={id}")).await.expect(200).body;
        assert_eq!(jobs["items"][0]["type"], "stack_sync");
        assert_eq!(jobs["items"][0]["id"], on["last"]["job_id"]);

        let failed = kept.show("db").await;
        assert_eq!((&failed["status"], &failed["failed_hosts"]), (&json!("missing"), &json!(1)));
        assert_eq!(failed["on"][0]["last"]["error"]["code"], "STACK_UNHEALTHY");
        kept.carry().await;
        assert_eq!(kept.claim().await.len(), 0, "what failed for good is not tried again unasked");
        let page = kept.rig.get("/").await.expect(200);
        assert!(page.text.contains("the last sync failed on 1 of its hosts"), "{}", page.text);
        kept.end().await;
    }
}

#[tokio::test]
async fn what_a_sync_failed_at_is_shown_while_it_is_tried_again() {
    for place in [World::sqlite().await, World::postgres("failed_so_far").await] {
        let kept = Kept::on(place).await;
        kept.refresh().await;
        kept.settle_down().await;
        kept.repository.write("web/docker-compose.yml", &WEB.replace("web:1", "nope:9"));
        kept.repository.commit("Name an image that nobody has");
        kept.refresh().await;
        kept.carry().await;
        let jobs = kept.claim().await;
        let under_way = kept.show("web").await;
        assert_eq!(
            (&under_way["failed_hosts"], &under_way["unseen_hosts"]),
            (&json!(0), &json!(0))
        );
        kept.settle(&jobs[0], no_image()).await;
        kept.carry().await;
        let shown = kept.show("web").await;
        assert_eq!((&shown["status"], &shown["failed_hosts"]), (&json!("syncing"), &json!(1)));
        let on = &shown["on"][0];
        assert_eq!(on["job_error"]["code"], "IMAGE_UNAVAILABLE", "{on:#}");
        assert!(on["retry_at"].is_string() && on["last"]["succeeded"] == true, "{on:#}");
        kept.end().await;
    }
}

#[tokio::test]
async fn a_host_without_a_session_is_not_seen() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    assert_eq!(kept.show("web").await["unseen_hosts"], 0);
    kept.leave().await;
    let shown = kept.show("web").await;
    assert_eq!((&shown["unseen_hosts"], &shown["status"]), (&json!(1), &json!("synced")));
    kept.end().await;
}

#[tokio::test]
async fn a_directory_that_goes_takes_its_stack_down_and_no_other() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    let path = kept.stack("db").await;
    kept.repository.remove("db");
    kept.repository.commit("Remove the database");
    assert_eq!(kept.refresh().await.body["counts"]["removed"], 1);
    kept.carry().await;
    let going = kept.rig.get(&path).await.expect(200).body;
    assert_eq!((&going["status"], &going["removal_held"]), (&json!("deleting"), &json!(null)));
    let absent = kept.rig.call(axum::http::Method::POST, &format!("{path}/sync"), None).await;
    assert_eq!(absent.expect(409).code(), "STACK_ABSENT");
    let downs = kept.claim().await;
    assert_eq!(downs.len(), 1, "{downs:?}");
    assert_eq!(downs[0].request["down"]["volumes"], false, "volumes stay");
    kept.settle(&downs[0], confirmed(&downs[0])).await;
    kept.carry().await;
    kept.rig.get(&path).await.expect(404);
    assert_eq!(kept.statuses().await["web"], "synced");
    kept.end().await;
}

#[tokio::test]
async fn many_that_go_at_once_wait_for_a_person() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    for path in ["db", "web", "idle", "broken"] {
        kept.repository.remove(path);
    }
    kept.repository.commit("Lose everything");
    kept.refresh().await;
    kept.carry().await;
    let held = kept.show("web").await;
    assert_eq!((&held["status"], &held["removal_held"]), (&json!("deleting"), &json!("many")));
    assert_eq!(kept.claim().await.len(), 0, "nothing is taken down unasked");
    let job = held["on"][0]["job_id"].as_str().unwrap();
    let job = kept.rig.get(&format!("/api/jobs/{job}")).await.expect(200);
    assert_eq!(job.body["state"], "held", "{}", job.text);
    let act = format!("/api/jobs/{}/release", job.id());
    kept.rig.call(axum::http::Method::POST, &act, None).await.expect(200);
    let released = kept.claim().await;
    assert_eq!(released.len(), 1, "{released:?}");
    kept.end().await;
}

#[tokio::test]
async fn the_page_shows_stacks_as_text() {
    let kept = Kept::sqlite().await;
    let page = kept.rig.get("/").await.expect(200);
    assert!(
        page.text.contains("Nothing was read from the repository yet")
            || page.text.contains("<td>web</td>")
    );
    kept.repository.write("<b>x/docker-compose.yml", WEB);
    let head = kept.repository.commit("Add <script>alert(1)</script>");
    kept.refresh().await;
    kept.settle_down().await;
    let page = kept.rig.get("/").await.expect(200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    for text in [
        "<td>web</td><td>synced</td><td>yes</td><td>1</td>",
        "&lt;b&gt;x",
        "Add &lt;script&gt;",
        "Ada &amp; Company",
        "no host is meant to run it",
        "http-equiv=\"refresh\"",
        &head[..12],
    ] {
        assert!(page.text.contains(text), "{text} is missing: {}", page.text);
    }
    assert!(!page.text.contains("<script") && !page.text.contains("<b>"), "{}", page.text);
    kept.end().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_out_of_sync_and_all_stacks_come_at_once() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    assert_eq!(kept.show("web").await["out_of_sync"], false);
    kept.repository.write("web/docker-compose.yml", "services: [");
    for n in 0..60 {
        let path = format!("many/s{n}/docker-compose.yml");
        kept.repository.write(&path, "services: {a: {image: 'a:1'}}\n");
    }
    kept.repository.commit("Break the web, and add many");
    kept.refresh().await;
    let broken = kept.show("web").await;
    assert_eq!(
        (&broken["problem"]["code"], &broken["out_of_sync"]),
        (&json!("COMPOSE_INVALID"), &json!(true))
    );
    assert_eq!(broken["on"][0]["out_of_sync"], true);
    let listed = kept.rig.get("/api/stacks").await.expect(200).body;
    assert_eq!((paths(&listed).len(), &listed["next"]), (64, &json!(null)));
    let page = kept.rig.get("/api/stacks?limit=50").await.expect(200).body;
    assert_eq!((paths(&page).len(), page["next"].is_string()), (50, true));
    kept.end().await;
}

#[tokio::test]
async fn nobody_syncs_two_of_one_project_over_each_other() {
    let kept = Kept::sqlite().await;
    for path in ["one/docker-compose.yml", "two/docker-compose.yml"] {
        kept.repository.write(path, &format!("name: same\n{WEB}"));
    }
    kept.repository.commit("Add two of one project");
    kept.refresh().await;
    for path in ["one", "two"] {
        let id = kept.show(path).await["id"].as_str().unwrap().to_owned();
        let wish = Some(json!({ "adopt": true }));
        let uri = format!("/api/stacks/{id}/sync");
        let refused = kept.rig.call(Method::POST, &uri, wish).await.expect(409);
        assert_eq!(refused.code(), "STACK_BROKEN", "{}", refused.text);
        assert!(refused.text.contains("PROJECT_COLLISION"), "{}", refused.text);
    }
    kept.end().await;
}
