//! Bundles whose services do not become healthy: what ran before comes back.

use hostler_protocol::job::OutcomeState;

use super::{TWO, hosts};
use crate::stand::{context, error};

const FAILS: &str = "services:\n  web:\n    image: hostler-test/sleeper:1\n    \
    environment: {DB_PASSWORD: hunter22}\n    \
    command: ['sh', '-c', 'echo the password is $$DB_PASSWORD; echo cannot start >&2; exit 3']\n";

#[tokio::test]
async fn an_unhealthy_bundle_gives_way_to_the_one_before() {
    for host in hosts() {
        let good = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        host.synced(&good).await;
        let before = host.running();
        // Its health check asks for a page that is no longer there.
        let bad = host.spec(&[("docker-compose.yml", TWO), ("www/other.html", "two\n")]);
        let outcome = host.sync(&bad).await;
        let (code, message) = error(&outcome);
        assert_eq!(code, "STACK_UNHEALTHY", "{message}");
        assert!(message.contains("web is unhealthy"), "{message}");
        assert!(message.contains(&good.bundle[..12]), "{message}");
        assert!(outcome.steps.iter().any(|own| own.step == "stack_rollback"), "{outcome:#?}");
        assert_eq!(host.inside("web", &["cat", "/www/index.html"]), "one\n");
        assert_eq!(host.running()[0], before[0], "the neighbour was touched");
        assert!(!host.home().join("files/www/other.html").exists());
        assert!(!host.synced(&good).await.changed, "what was put back is not known to be applied");
    }
}

#[tokio::test]
async fn what_a_failed_service_said_is_told_without_its_secrets() {
    for host in hosts() {
        let outcome = host.sync(&host.spec(&[("docker-compose.yml", FAILS)])).await;
        let (code, message) = error(&outcome);
        assert_eq!(code, "STACK_UNHEALTHY", "{message}");
        assert!(message.contains("web ended with status 3"), "{message}");
        assert!(message.contains("left as it is"), "{message}");
        let said = outcome.error.unwrap().output_tail.unwrap();
        assert!(said.contains("cannot start") && said.contains("the password is"), "{said}");
        assert!(!said.contains("hunter22"), "{said}");
        let state = std::fs::read_to_string(host.home().join("state.json")).unwrap();
        assert!(!state.contains("hunter22"), "{state}");
    }
}

#[tokio::test]
async fn a_service_that_ends_again_and_again_is_not_healthy() {
    for host in hosts() {
        let looping = FAILS.replace("    command", "    restart: always\n    command");
        // It may run for a while each time.
        let slowly = looping.replace("exit 3", "sleep 4; exit 3");
        for compose in [looping, slowly] {
            let outcome = host.sync(&host.spec(&[("docker-compose.yml", &compose)])).await;
            let (code, message) = error(&outcome);
            assert_eq!(code, "STACK_UNHEALTHY", "{message}");
        }
    }
}

#[tokio::test]
async fn a_job_that_ends_well_is_healthy() {
    let compose = "services:\n  job:\n    image: hostler-test/sleeper:1\n    command: ['true']\n";
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", compose)]);
        let synced = host.synced(&spec).await;
        assert_eq!(synced.containers[0].exit_code, Some(0));
        let before = host.running();
        assert!(!host.synced(&spec).await.changed);
        assert_eq!(host.running(), before, "it was run again");
    }
}

#[tokio::test]
async fn a_cancelled_sync_puts_back_what_ran() {
    for host in hosts() {
        let good = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        host.synced(&good).await;
        let next = host.spec(&[("docker-compose.yml", TWO), ("www/other.html", "two\n")]);
        let (context, mut progress) = context();
        let cancel = context.cancel.clone();
        let spec = hostler_protocol::job::JobSpec::StackSync(Box::new(next));
        let actions = host.actions();
        let watch = async {
            while let Some(told) = progress.recv().await {
                if told.step == "stack_health" {
                    cancel.cancel();
                }
            }
        };
        let (outcome, ()) = tokio::join!(actions.run(spec.into(), context), watch);
        assert_eq!(outcome.state, OutcomeState::Cancelled, "{outcome:#?}");
        assert_eq!(host.inside("web", &["cat", "/www/index.html"]), "one\n");
        assert!(!host.synced(&good).await.changed);
    }
}
