//! Stacks that cannot be synced, each for a reason of its own, while all others are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use axum::http::Method;
use hostler_protocol::bundle::BLOB_BYTES_MAX;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::repository::{Kept, WEB, confirmed};
use crate::store::world::World;

/// A compose file like [`WEB`] of another project.
fn named(project: &str) -> String {
    format!("name: {project}\n{WEB}")
}

impl Kept {
    async fn problem(&self, path: &str) -> Value {
        self.show(path).await["problem"].clone()
    }
}

#[tokio::test]
async fn a_bundle_that_is_too_large_is_said_and_keeps_what_runs() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    let path = kept.repository.path().join("web/data");
    std::fs::File::create(&path).unwrap().set_len(BLOB_BYTES_MAX + 1).unwrap();
    kept.repository.commit("Add much data");
    kept.refresh().await;
    kept.carry().await;
    assert_eq!(kept.claim().await.len(), 0);
    let web = kept.show("web").await;
    assert_eq!(
        (&web["problem"]["code"], &web["status"]),
        (&json!("BUNDLE_TOO_LARGE"), &json!("synced"))
    );
    assert!(web["problem"]["message"].as_str().unwrap().contains("web/data"), "{web}");
    for act in ["sync", "plan"] {
        let path = format!("{}/{act}", kept.stack("web").await);
        let refused = kept.rig.call(Method::POST, &path, None).await.expect(409);
        assert_eq!(refused.code(), "STACK_BROKEN");
        assert!(refused.body["detail"].as_str().unwrap().contains("web/data"), "{}", refused.text);
    }
    std::fs::File::create(&path).unwrap().set_len(10).unwrap();
    kept.repository.commit("Add less data");
    kept.refresh().await;
    kept.settle_down().await;
    let web = kept.show("web").await;
    assert_eq!((&web["problem"], &web["out_of_sync"]), (&json!(null), &json!(false)));
    kept.end().await;
}

#[tokio::test]
async fn a_pointer_to_lfs_in_what_is_mounted_is_said() {
    let kept = Kept::sqlite().await;
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n";
    let mounts = |what: &str| {
        format!(
            "services: {{a: {{image: a, volumes: ['{what}:/x']}}}}\nx-hostler: {{hosts: [web1]}}\n"
        )
    };
    for (path, mounted) in [("file", "./data/model"), ("directory", "./data"), ("beside", "./conf")]
    {
        kept.repository.write(&format!("{path}/docker-compose.yml"), &mounts(mounted));
        kept.repository.write(&format!("{path}/data/model"), pointer);
        kept.repository.write(&format!("{path}/conf/a"), "a");
    }
    kept.repository.commit("Mount what is not there");
    kept.refresh().await;
    kept.settle_down().await;
    for path in ["file", "directory"] {
        let problem = kept.problem(path).await;
        assert_eq!(problem["code"], "LFS_POINTER", "{path}");
        let says = problem["message"].as_str().unwrap();
        assert!(says.contains(&format!("{path}/data/model")), "{says}");
    }
    assert_eq!(kept.problem("beside").await, json!(null), "nothing refers to it");
    let statuses = kept.statuses().await;
    assert_eq!((&*statuses["directory"], &*statuses["beside"]), ("missing", "synced"));
    kept.end().await;
}

#[tokio::test]
async fn a_path_that_is_too_long_is_said_on_both_databases() {
    for place in [World::sqlite().await, World::postgres("a_path_that_is_too_long").await] {
        let kept = Kept::on(place).await;
        // Names that no compression makes short.
        let name = |n: u32| hex::encode(Sha256::digest(n.to_le_bytes())).repeat(3);
        let below = |names: std::ops::Range<u32>| names.map(name).collect::<Vec<_>>().join("/");
        let (fits, long, longer) = (below(100..105), below(0..17), below(0..18));
        assert!(fits.len() < 1024 && long.len() > 3000);
        for (path, project) in [(&fits, "fits"), (&long, "long"), (&longer, "longer")] {
            kept.repository.write(&format!("{path}/docker-compose.yml"), &named(project));
        }
        kept.repository.commit("Nest deep");
        let looked = kept.refresh().await;
        assert_eq!(looked.body["status"], "completed", "{}", looked.text);
        kept.settle_down().await;
        let listed = kept.rig.get("/api/stacks?limit=200").await.expect(200).body;
        let rows = listed["items"].as_array().unwrap();
        let too_long: Vec<&Value> =
            rows.iter().filter(|row| row["problem"]["code"] == "PATH_TOO_LONG").collect();
        assert_eq!(too_long.len(), 2, "{listed}");
        for row in &too_long {
            let path = row["path"].as_str().unwrap();
            assert!(path.len() < 1024 && path.starts_with(&name(0)[..100]), "{path}");
            assert!(row["hash"].is_string(), "{row}");
        }
        assert_eq!(kept.statuses().await[&fits], "synced");
        // The next look finds the same.
        assert_eq!(kept.refresh().await.body["counts"]["changed"], 0);
        kept.end().await;
    }
}

#[tokio::test]
async fn names_that_look_alike_are_stacks_of_their_own() {
    for place in [World::sqlite().await, World::postgres("names_that_look_alike").await] {
        let kept = Kept::on(place).await;
        kept.repository.write("a\\xff/docker-compose.yml", &named("text"));
        let bytes = kept.repository.path().join(OsStr::from_bytes(b"a\xff"));
        std::fs::create_dir(&bytes).unwrap();
        std::fs::write(bytes.join("docker-compose.yml"), named("bytes")).unwrap();
        kept.repository.commit("Name two alike");
        assert_eq!(kept.refresh().await.body["counts"]["stacks"], 6);
        kept.settle_down().await;
        let listed = kept.rig.get("/api/stacks?limit=200").await.expect(200).body;
        let rows = listed["items"].as_array().unwrap().iter();
        let alike: Vec<&Value> =
            rows.filter(|row| row["path"].as_str().unwrap().starts_with('a')).collect();
        let paths: Vec<&Value> = alike.iter().map(|row| &row["path"]).collect();
        assert_eq!(paths, ["a\\x5cxff", "a\\xff"]);
        assert!(alike.iter().all(|row| row["problem"]["code"] == "NAME_INVALID"), "{alike:?}");
        // The next look finds the same.
        assert_eq!(kept.refresh().await.body["counts"]["changed"], 0);
        kept.end().await;
    }
}

#[tokio::test]
async fn a_job_of_a_stack_is_not_repeated_as_a_job() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.carry().await;
    let jobs = kept.claim().await;
    for job in &jobs {
        kept.settle(job, confirmed(job)).await;
    }
    let path = format!("/api/jobs/{}/retry", jobs[0].id);
    let refused = kept.rig.call(Method::POST, &path, None).await.expect(409);
    assert_eq!(refused.code(), "STACK_JOB");
    assert!(
        refused.body["detail"].as_str().unwrap().contains("ask for a sync"),
        "{}",
        refused.text
    );
    let listed = kept.rig.get("/api/jobs").await.expect(200).body;
    assert_eq!(listed["items"].as_array().unwrap().len(), jobs.len());
    kept.end().await;
}

#[tokio::test]
async fn stacks_that_are_in_each_others_way_say_so_wherever_they_are_shown() {
    for place in [World::sqlite().await, World::postgres("stacks_that_are_in_each").await] {
        let kept = Kept::on(place).await;
        for (path, text) in [
            ("shop", named("shared")),
            ("zoo", named("shared")),
            ("x", WEB.replace("[web1]", "[web1], after: ['y']")),
            ("y", WEB.replace("[web1]", "[web1], after: ['x']")),
        ] {
            kept.repository.write(&format!("{path}/docker-compose.yml"), &text);
        }
        kept.repository.commit("Confuse them");
        kept.refresh().await;
        kept.settle_down().await;
        for (path, code) in [
            ("shop", json!("PROJECT_COLLISION")),
            ("zoo", json!("PROJECT_COLLISION")),
            ("x", json!("STACK_ORDER_CIRCLE")),
            ("y", json!("STACK_ORDER_CIRCLE")),
            ("web", json!(null)),
        ] {
            assert_eq!(kept.show(path).await["problem"]["code"], code, "{path}");
        }
        // Page by page, so that those in the way are on another one.
        let (mut codes, mut after) = (Vec::new(), String::new());
        loop {
            let page = kept.rig.get(&format!("/api/stacks?limit=1{after}")).await.expect(200).body;
            codes.push(page["items"][0]["problem"]["code"].clone());
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        let problems = |code: &str| codes.iter().filter(|one| **one == code).count();
        assert_eq!(codes.len(), 8);
        assert_eq!((problems("PROJECT_COLLISION"), problems("STACK_ORDER_CIRCLE")), (2, 2));
        kept.end().await;
    }
}

#[tokio::test]
async fn a_look_that_found_nothing_to_do_is_made_again_once_there_is_something() {
    let kept = Kept::sqlite().await;
    let labelled = WEB.replace("hosts: [web1]", "labels: {role: web}");
    kept.repository.write("by-label/docker-compose.yml", &labelled);
    kept.repository.commit("Run it by a label");
    kept.refresh().await;
    kept.settle_down().await;
    assert!(!kept.rig.app.carry_stacks().await.unwrap());
    assert_eq!(kept.statuses().await["by-label"], "missing");
    let labels = json!({ "labels": { "role": "web" } });
    kept.rig.patch(&format!("/api/hosts/{}", kept.host), labels).await.expect(200);
    kept.settle_down().await;
    assert_eq!(kept.statuses().await["by-label"], "synced");
    assert!(!kept.rig.app.carry_stacks().await.unwrap());
    let other = kept.rig.host("web2", true).await;
    let labels = json!({ "labels": { "role": "web" } });
    kept.rig.patch(&format!("/api/hosts/{other}"), labels).await.expect(200);
    kept.carry().await;
    assert_eq!(kept.show("by-label").await["on"].as_array().unwrap().len(), 2);
    kept.end().await;
}
