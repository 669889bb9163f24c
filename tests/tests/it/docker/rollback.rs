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

/// Well until somebody says that it is ill.
const FRAIL: &str = "services:\n  web:\n    image: hostler-test/sleeper:1\n    healthcheck:\n      \
    {test: [CMD, test, '!', -e, /tmp/ill], interval: 300ms, timeout: 5s, retries: 2}\n  other:\n    \
    image: hostler-test/sleeper:1\n    volumes: ['./www:/www:ro']\n";

#[tokio::test]
async fn what_has_never_been_well_is_not_called_so_by_asking_again() {
    for host in hosts() {
        let bad = host.spec(&[("docker-compose.yml", TWO), ("www/other.html", "two\n")]);
        let more = [("docker-compose.yml", TWO), ("www/other.html", "two\n"), ("notes", "one\n")];
        for spec in [&bad, &bad, &host.spec(&more)] {
            let outcome = host.sync(spec).await;
            let (code, message) = error(&outcome);
            assert_eq!(code, "STACK_UNHEALTHY", "{message}");
        }
    }
}

#[tokio::test]
async fn a_sync_cut_off_while_it_waits_for_health_is_not_well_for_that() {
    for mut host in hosts() {
        let good = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        host.synced(&good).await;
        let bad = host.spec(&[("docker-compose.yml", TWO), ("www/other.html", "two\n")]);
        host.kill_at("stack_health", &bad).await;
        host.restart();
        let outcome = host.sync(&bad).await;
        let (code, message) = error(&outcome);
        assert_eq!(code, "STACK_UNHEALTHY", "{message}");
        assert!(message.contains("was put back"), "{message}");
        assert_eq!(host.inside("web", &["cat", "/www/index.html"]), "one\n");
    }
}

#[tokio::test]
async fn what_fell_ill_since_is_told_and_fails_only_who_asks_for_a_proof() {
    for host in hosts() {
        let files = [("docker-compose.yml", FRAIL), ("www/index.html", "one\n")];
        let mut spec = host.spec(&files);
        host.synced(&spec).await;
        host.inside("web", &["touch", "/tmp/ill"]);
        let web = host.running().into_iter().find(|own| own.0 == "web").unwrap();
        let health = ["inspect", "--format", "{{.State.Health.Status}}", &web.1];
        while host.engine.docker(&health).unwrap().trim() != "unhealthy" {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        // Something else is changed: that web is ill is none of its doing.
        let other = host.spec(&[("docker-compose.yml", FRAIL), ("www/index.html", "two\n")]);
        let outcome = host.sync(&other).await;
        assert_eq!(outcome.state, OutcomeState::Succeeded, "{outcome:#?}");
        let told = outcome.steps.iter().rfind(|own| own.step == "stack_health").unwrap();
        assert!(told.message.starts_with("1 containers are as they should be"), "{told:?}");
        assert!(told.message.contains("not well before, and left as they were"), "{told:?}");
        assert!(host.running().contains(&web), "it was touched");
        spec = other;
        spec.force = true;
        let outcome = host.sync(&spec).await;
        let (code, message) = error(&outcome);
        assert_eq!(code, "STACK_UNHEALTHY", "{message}");
        assert!(message.contains("left as it is"), "{message}");
    }
}
