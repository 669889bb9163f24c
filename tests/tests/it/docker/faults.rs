//! Syncs that are cut off: the next one finishes them.

use std::time::Duration;

use hostler_protocol::job::{JobDoc, JobSpec, ServiceAction, StackDownSpec};

use hostler_tests::servers::docker::Compose;

use super::{TWO, done, hosts};

#[tokio::test]
async fn a_sync_cut_off_at_any_step_is_finished_by_the_next() {
    for mut host in hosts() {
        // What comes before `up` does not depend on which compose it is.
        let steps: &[&str] = match host.compose {
            Compose::V1 => &["stack_up", "stack_remount"],
            Compose::V2 => {
                &["stack_check", "stack_files", "stack_up", "stack_remount", "stack_health"]
            }
        };
        for (number, step) in steps.iter().enumerate() {
            let page = format!("page {number}\n");
            let good = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
            host.synced(&good).await;
            let other = host.running()[0].clone();
            let next = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", &page)]);
            host.kill_at(step, &next).await;
            let doc: JobDoc = JobSpec::StackSync(Box::new(next.clone())).into();
            assert!(host.actions().probe(&doc).await.is_none(), "{step}: it is not done");
            host.restart();
            let synced = host.synced(&next).await;
            assert_eq!(host.inside("web", &["cat", "/www/index.html"]), page, "{step}");
            assert_eq!(host.running()[0], other, "{step}: the neighbour was touched");
            assert_eq!(done(&synced)[1], ("web", ServiceAction::Restarted), "{step}");
            assert!(!host.synced(&next).await.changed, "{step}");
            let probed = host.actions().probe(&doc).await.unwrap().result.unwrap();
            assert_eq!(probed["desired"], next.desired);
        }
    }
}

#[tokio::test]
async fn compose_killed_in_the_middle_of_up_is_made_up_for() {
    for mut host in hosts() {
        let good = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        host.synced(&good).await;
        let before = host.ids();
        let anew = TWO
            .replace("image", "environment: {ANEW: 'yes'}\n    stop_grace_period: 5s\n    image");
        let next = host.spec(&[("docker-compose.yml", &anew), ("www/index.html", "one\n")]);
        let begun = async {
            // One is another container already, or about to be.
            while host.ids() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            outcome = host.sync(&next) => panic!("it ended first: {outcome:?}"),
            () = begun => {}
        }
        host.restart();
        host.synced(&next).await;
        let after = host.running();
        let services: Vec<_> = after.iter().map(|own| own.0.as_str()).collect();
        assert_eq!(services, ["other", "web"], "{after:?}");
        assert!(host.inside("web", &["env"]).contains("ANEW=yes"));
        assert!(host.inside("other", &["env"]).contains("ANEW=yes"));
        assert!(!host.synced(&next).await.changed);
    }
}

#[tokio::test]
async fn what_was_taken_down_is_known_to_be_gone() {
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        host.synced(&spec).await;
        let stack = host.stack.clone();
        let doc: JobDoc = JobSpec::StackDown(StackDownSpec { stack, volumes: false }).into();
        assert!(host.actions().probe(&doc).await.is_none());
        host.down(false).await;
        let probed = host.actions().probe(&doc).await.unwrap().result.unwrap();
        assert_eq!(probed["files_removed"], true);
    }
}
