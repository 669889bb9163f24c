//! Syncs that are refused, and that nothing was touched then.

use hostler_protocol::job::{PullPolicy, ServiceAction};
use hostler_tests::servers::docker::DockerServer;
use hostler_tests::servers::{free_port, write};

use super::{Host, TWO, done, hosts};
use crate::stand::error;

const SLEEPER: &str = "services:\n  web:\n    image: hostler-test/sleeper:1\n";

#[tokio::test]
async fn what_compose_does_not_understand_touches_nothing() {
    for host in hosts() {
        let good = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        host.synced(&good).await;
        let before = host.running();
        for bad in ["services: [1", "services:\n  web:\n    imag: x\n"] {
            let spec = host.spec(&[("docker-compose.yml", bad), ("www/index.html", "two\n")]);
            let (code, message) = error(&host.sync(&spec).await);
            assert_eq!(code, "COMPOSE_INVALID", "{message}");
            assert!(!message.contains("/check/"), "{message}");
        }
        assert_eq!(host.running(), before);
        let page = host.home().join("files/www/index.html");
        assert_eq!(std::fs::read_to_string(page).unwrap(), "one\n");
        assert!(!host.home().join("check").exists());
        assert!(!host.synced(&good).await.changed, "what was applied is no longer known");
    }
}

#[tokio::test]
async fn a_first_bundle_that_is_refused_leaves_nothing_behind() {
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", "services: [1")]);
        assert_eq!(error(&host.sync(&spec).await).0, "COMPOSE_INVALID");
        assert!(!host.home().exists(), "{:?}", std::fs::read_dir(host.home()).unwrap().count());
    }
}

#[tokio::test]
async fn a_project_of_somebody_else_is_taken_over_only_when_asked() {
    for host in hosts() {
        let dir = hostler_tests::servers::directory("foreign").unwrap();
        let file = dir.path().join("docker-compose.yml");
        write(&file, SLEEPER).unwrap();
        let file = file.to_str().unwrap();
        let project = host.stack.project.clone();
        host.engine.compose(host.compose, &["-p", &project, "-f", file, "up", "-d"]).unwrap();
        let before = host.running();
        let mut spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "")]);
        let (code, message) = error(&host.sync(&spec).await);
        assert_eq!(code, "PROJECT_TAKEN");
        assert!(message.contains(dir.path().to_str().unwrap()), "{message}");
        assert_eq!(host.running(), before);
        // Nor is it taken down.
        host.down(true).await;
        assert_eq!(host.running(), before);

        spec.adopt = true;
        let synced = host.synced(&spec).await;
        assert!(synced.changed);
        spec.adopt = false;
        assert!(!host.synced(&spec).await.changed, "it is Hostler's now");
    }
}

#[tokio::test]
async fn two_stacks_never_share_a_project() {
    for mut host in hosts() {
        host.synced(&host.spec(&[("docker-compose.yml", SLEEPER)])).await;
        let before = host.running();
        let first = host.stack.clone();
        host.stack.id = hostler_protocol::id::StackId::from_parts(2, [255; 10]);
        let spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "")]);
        let (code, message) = error(&host.sync(&spec).await);
        assert_eq!(code, "PROJECT_TAKEN");
        assert!(message.contains(&first.path), "{message}");
        host.down(false).await;
        assert_eq!(host.running(), before, "another stack's containers were removed");
    }
}

#[tokio::test]
async fn an_image_nobody_has_leaves_what_ran() {
    for host in hosts() {
        host.synced(&host.spec(&[("docker-compose.yml", SLEEPER)])).await;
        let before = host.running();
        let absent = SLEEPER.replace("hostler-test/sleeper:1", "127.0.0.1:1/none/such:1");
        for pull in [PullPolicy::Missing, PullPolicy::Never] {
            let mut spec = host.spec(&[("docker-compose.yml", &absent)]);
            spec.pull = pull;
            let (code, message) = error(&host.sync(&spec).await);
            assert_eq!(code, "IMAGE_UNAVAILABLE", "{:?} {pull:?} {message}", host.compose);
        }
        assert_eq!(host.running(), before);
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_what_ran_runs_on() {
    for host in hosts() {
        let holder = Host::on(host.engine.clone(), host.compose);
        let ports = format!("{SLEEPER}    ports: ['{}:80']\n", free_port().unwrap());
        holder.synced(&holder.spec(&[("docker-compose.yml", &ports)])).await;
        host.synced(&host.spec(&[("docker-compose.yml", SLEEPER)])).await;
        let (code, message) =
            error(&host.sync(&host.spec(&[("docker-compose.yml", &ports)])).await);
        assert_eq!(code, "PORT_TAKEN", "{message}");
        assert!(message.contains("was put back"), "{message}");
        let listed = host.engine.containers(&host.stack.project).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0]["State"], "running");
    }
}

#[tokio::test]
async fn without_an_engine_it_is_tried_again_later() {
    for compose in hostler_tests::servers::docker::Compose::installed().unwrap() {
        let engine = std::sync::Arc::new(DockerServer::start().unwrap());
        let mut host = Host::on(engine, compose);
        let spec = host.spec(&[("docker-compose.yml", SLEEPER)]);
        host.synced(&spec).await;
        let before = host.running();
        std::sync::Arc::get_mut(&mut host.engine).unwrap().kill();
        assert_eq!(error(&host.sync(&spec).await).0, "DOCKER_UNAVAILABLE");
        assert_eq!(error(&host.down(false).await).0, "DOCKER_UNAVAILABLE");
        std::sync::Arc::get_mut(&mut host.engine).unwrap().run().unwrap();
        let synced = host.synced(&spec).await;
        let expected = if host.running() == before {
            ServiceAction::Unchanged
        } else {
            ServiceAction::Started
        };
        assert_eq!(done(&synced), [("web", expected)]);
    }
}

#[tokio::test]
async fn names_and_paths_that_lead_elsewhere_are_refused() {
    let mut host = hosts().remove(0);
    let mut spec = host.spec(&[("docker-compose.yml", SLEEPER)]);
    spec.compose_files = vec!["../docker-compose.yml".to_owned()];
    assert_eq!(error(&host.sync(&spec).await).0, "SPEC_INVALID");
    host.stack.project = "../up".to_owned();
    let spec = host.spec(&[("docker-compose.yml", SLEEPER)]);
    assert_eq!(error(&host.sync(&spec).await).0, "SPEC_INVALID");
    host.stack.project = "nothing".to_owned();
}
