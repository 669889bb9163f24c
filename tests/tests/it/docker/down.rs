//! Taking stacks down.

use hostler_protocol::job::StackDownResult;

use super::hosts;
use crate::stand::result;

const WITH_VOLUME: &str = "services:\n  web:\n    image: hostler-test/sleeper:1\n    \
    volumes: ['data:/data']\nvolumes:\n  data: {}\n";

#[tokio::test]
async fn containers_and_files_go_and_volumes_stay() {
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", WITH_VOLUME)]);
        host.synced(&spec).await;
        host.inside("web", &["touch", "/data/kept"]);
        let down: StackDownResult = result(&host.down(false).await);
        let volume = format!("{}_data", host.stack.project);
        assert_eq!((down.containers, down.files_removed), (1, true));
        assert_eq!((down.volumes_kept, down.volumes_removed), (vec![volume.clone()], vec![]));
        assert!(host.running().is_empty() && !host.home().exists());
        assert_eq!(host.bundles.kept(), Some([].into()));

        // What it had is there again, and goes when that is asked.
        host.synced(&spec).await;
        assert_eq!(host.inside("web", &["ls", "/data"]), "kept\n");
        let down: StackDownResult = result(&host.down(true).await);
        assert_eq!((down.volumes_kept, down.volumes_removed), (vec![], vec![volume]));
    }
}

#[tokio::test]
async fn it_goes_also_when_its_files_are_gone_or_broken() {
    for host in hosts() {
        for broken in [None, Some("services: [1")] {
            host.synced(&host.spec(&[("docker-compose.yml", WITH_VOLUME)])).await;
            let file = host.home().join("files/docker-compose.yml");
            match broken {
                None => std::fs::remove_file(file).unwrap(),
                Some(text) => std::fs::write(file, text).unwrap(),
            }
            let down: StackDownResult = result(&host.down(broken.is_some()).await);
            assert_eq!(down.containers, 1);
            assert!(host.running().is_empty());
            let project = &host.stack.project;
            let networks = host.engine.docker(&["network", "ls", "--format", "{{.Name}}"]).unwrap();
            assert!(!networks.contains(&format!("{project}_default")), "{networks}");
            // What somebody changed by hand is not Hostler's to remove.
            assert_eq!(down.files_removed, broken.is_none());
            std::fs::remove_dir_all(host.home()).ok();
        }
    }
}

#[tokio::test]
async fn a_stack_that_is_gone_is_gone() {
    for host in hosts() {
        for _ in 0..2 {
            let down: StackDownResult = result(&host.down(true).await);
            assert_eq!((down.containers, down.files_removed), (0, true));
        }
    }
}
