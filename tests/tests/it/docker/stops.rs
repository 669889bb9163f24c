//! Services that do not run: stopped by somebody, gone down with the engine, or not to be run at all.

use std::sync::Arc;

use hostler_protocol::job::ServiceAction::{Removed, Started, Unchanged};
use hostler_protocol::job::{StackSyncSpec, UserStopped};
use hostler_tests::servers::docker::{Compose, DockerServer};

use super::{Host, TWO, done, hosts, why};
use crate::stand::error;

/// A sync of these files that leaves stopped what somebody stopped.
fn respectful(host: &Host, files: &[(&str, &str)]) -> StackSyncSpec {
    StackSyncSpec { user_stopped: UserStopped::Respect, ..host.spec(files) }
}

fn container(host: &Host, service: &str) -> String {
    host.running().into_iter().find(|(own, ..)| own == service).unwrap().1
}

fn stop(host: &Host, service: &str) {
    host.engine.docker(&["stop", "-t", "2", &container(host, service)]).unwrap();
}

fn state(host: &Host, service: &str) -> String {
    let listed = host.engine.containers(&host.stack.project).unwrap();
    let label = "com.docker.compose.service";
    let own = listed.iter().find(|own| own["Labels"][label] == service).unwrap();
    own["State"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_went_down_with_the_engine_is_started_and_what_was_stopped_is_not() {
    for compose in Compose::installed().unwrap() {
        for crash in [false, true] {
            let engine = Arc::new(DockerServer::start().unwrap());
            let mut host = Host::on(engine, compose);
            let spec =
                respectful(&host, &[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
            host.synced(&spec).await;
            stop(&host, "other");
            assert!(!host.synced(&spec).await.changed);

            let engine = Arc::get_mut(&mut host.engine).unwrap();
            if crash {
                engine.kill();
            } else {
                engine.halt();
            }
            engine.run().unwrap();
            assert_eq!(state(&host, "web"), "exited", "crash: {crash}");
            let planned = host.planned(&spec).await;
            let synced = host.synced(&spec).await;
            for told in [&planned, &synced] {
                assert_eq!(done(told), [("other", Unchanged), ("web", Started)], "crash: {crash}");
                assert_eq!(why(told, "other"), ["somebody stopped it, and it stays so"]);
            }
            assert_eq!((state(&host, "other"), state(&host, "web")), both("exited", "running"));
        }
    }
}

fn both(one: &str, other: &str) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

#[tokio::test]
async fn what_was_stopped_stays_so_though_it_is_all_there_is() {
    for host in hosts() {
        let page = ("www/index.html", "one\n");
        host.synced(&respectful(&host, &[("docker-compose.yml", TWO), page])).await;
        stop(&host, "other");
        stop(&host, "web");
        let files = [("docker-compose.yml", TWO), page, ("README", "about\n")];
        let synced = host.synced(&respectful(&host, &files)).await;
        assert_eq!(done(&synced), [("other", Unchanged), ("web", Unchanged)]);
        assert_eq!(why(&synced, "web"), ["somebody stopped it, and it stays so"]);
        assert_eq!((state(&host, "other"), state(&host, "web")), both("exited", "exited"));

        // What is no longer of the stack goes all the same.
        let one = TWO.split("  other:").next().unwrap();
        let spec = respectful(&host, &[("docker-compose.yml", one), page]);
        let synced = host.synced(&spec).await;
        assert_eq!(done(&synced), [("other", Removed), ("web", Unchanged)]);
        assert_eq!(state(&host, "web"), "exited");
        assert_eq!(host.ids().len(), 1);
        assert!(!host.synced(&spec).await.changed);
    }
}

#[tokio::test]
async fn a_stack_with_nothing_to_run_is_synced() {
    let idle = "services:\n  tool:\n    image: hostler-test/sleeper:1\n    profiles: [tools]\n";
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", idle)]);
        let synced = host.synced(&spec).await;
        // The first generation of compose lists what it does not start.
        assert!(done(&synced).iter().all(|(_, action)| *action == Unchanged), "{synced:?}");
        assert_eq!(host.ids().len(), 0);
        assert!(!host.synced(&spec).await.changed);

        // What ran before goes.
        host.synced(&host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")])).await;
        let synced = host.synced(&spec).await;
        let removed: Vec<_> =
            done(&synced).into_iter().filter(|(_, action)| *action != Unchanged).collect();
        assert_eq!(removed, [("other", Removed), ("web", Removed)]);
        assert_eq!(host.ids().len(), 0);
    }
}

#[tokio::test]
async fn a_name_another_container_has_is_told_and_what_ran_runs_on() {
    const SLEEPER: &str = "services:\n  web:\n    image: hostler-test/sleeper:1\n";
    for host in hosts() {
        let holder = Host::on(host.engine.clone(), host.compose);
        let name = format!("the-one-of-{}", holder.stack.project);
        let named = format!("{SLEEPER}    container_name: {name}\n");
        holder.synced(&holder.spec(&[("docker-compose.yml", &named)])).await;
        host.synced(&host.spec(&[("docker-compose.yml", SLEEPER)])).await;
        let outcome = host.sync(&host.spec(&[("docker-compose.yml", &named)])).await;
        let (code, message) = error(&outcome);
        assert_eq!(code, "CONTAINER_NAME_TAKEN", "{message}");
        assert!(message.contains(&name) && message.contains("was put back"), "{message}");
        assert_eq!((state(&host, "web"), state(&holder, "web")), both("running", "running"));
    }
}
