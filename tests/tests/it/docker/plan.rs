//! Plans: they say what a sync does, and change nothing.

use hostler_protocol::job::{FileAction, ServiceAction};

use super::{TWO, done, hosts, why};

#[tokio::test]
async fn a_plan_for_a_new_stack_leaves_no_trace() {
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        let planned = host.planned(&spec).await;
        assert!(planned.changed && planned.containers.is_empty());
        assert_eq!(
            done(&planned),
            [("other", ServiceAction::Created), ("web", ServiceAction::Created)]
        );
        assert_eq!(why(&planned, "web"), ["it has no container"]);
        assert!(planned.files.iter().all(|file| file.action == FileAction::Added));
        assert!(host.running().is_empty());
        assert!(!host.home().exists(), "the plan left something behind");
    }
}

#[tokio::test]
async fn a_plan_touches_neither_files_nor_containers() {
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        host.synced(&spec).await;
        let before = host.running();
        assert!(!host.planned(&spec).await.changed);
        let anew = TWO.replace("sleeper:1", "web:2");
        let next = host.spec(&[("docker-compose.yml", &anew), ("www/more.html", "two\n")]);
        let planned = host.planned(&next).await;
        assert_eq!(
            done(&planned),
            [("other", ServiceAction::Recreated), ("web", ServiceAction::Restarted)]
        );
        assert_eq!(planned.files.len(), 3, "{:?}", planned.files);
        assert_eq!(host.running(), before);
        assert!(host.home().join("files/www/index.html").exists());
        assert!(!host.synced(&spec).await.changed);
    }
}
