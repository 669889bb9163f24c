//! Syncs that succeed: what is done, to which services, and why.

use hostler_protocol::job::{FileAction, ServiceAction, StackSyncResult, UserStopped};
use hostler_tests::servers::write;

use super::{TWO, done, hosts, why};

use ServiceAction::{Created, Recreated, Removed, Restarted, Started, Unchanged};

#[tokio::test]
async fn the_first_sync_starts_everything_and_the_next_touches_nothing() {
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        let first = host.synced(&spec).await;
        assert!(first.changed);
        assert_eq!(done(&first), [("other", Created), ("web", Created)]);
        assert_eq!(first.files.len(), 2);
        let running = host.running();
        let [other, web] = first.containers.as_slice() else { panic!("{first:#?}") };
        assert_eq!((other.service.as_str(), other.state.as_str()), ("other", "running"));
        assert_eq!(
            (web.health.as_deref(), web.image.as_str()),
            (Some("healthy"), "hostler-test/web:1")
        );
        assert_eq!(host.inside("web", &["cat", "/www/index.html"]), "one\n");

        let second = host.synced(&spec).await;
        assert!(!second.changed, "{second:#?}");
        assert_eq!(done(&second), [("other", Unchanged), ("web", Unchanged)]);
        assert_eq!(host.running(), running, "{:?}: something was done", host.compose);
        // Also where compose is asked: it finds nothing to do.
        let mut forced = spec.clone();
        forced.force = true;
        let third = host.synced(&forced).await;
        assert_eq!(done(&third), [("other", Unchanged), ("web", Unchanged)]);
        assert_eq!(host.running(), running);
        assert_eq!(host.bundles.kept(), Some([spec.bundle].into()));
    }
}

#[tokio::test]
async fn a_mounted_file_restarts_its_service_alone_and_is_named() {
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        host.synced(&spec).await;
        let before = host.running();
        let spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "two\n")]);
        let planned = host.planned(&spec).await;
        let synced = host.synced(&spec).await;
        for told in [&planned, &synced] {
            assert_eq!(done(told), [("other", Unchanged), ("web", Restarted)]);
            assert_eq!(why(told, "web"), ["its mounted file www/index.html changed"]);
            assert_eq!(told.files[0].action, FileAction::Changed);
        }
        let after = host.running();
        assert_eq!(after[0], before[0], "the neighbour was touched");
        assert_eq!(after[1].1, before[1].1, "it was made anew");
        assert_ne!(after[1].2, before[1].2, "it was not restarted");
        assert_eq!(host.inside("web", &["cat", "/www/index.html"]), "two\n");
        // All has been seen: nothing is left to do.
        assert!(!host.synced(&spec).await.changed);
    }
}

#[tokio::test]
async fn a_secret_makes_its_service_anew() {
    let compose = "services:\n  web:\n    image: hostler-test/web:1\n    secrets: [key]\n  \
        other:\n    image: hostler-test/sleeper:1\nsecrets:\n  key:\n    file: ./key.txt\n";
    for host in hosts() {
        host.synced(&host.spec(&[("docker-compose.yml", compose), ("key.txt", "a")])).await;
        let before = host.running();
        let spec = host.spec(&[("docker-compose.yml", compose), ("key.txt", "b")]);
        let synced = host.synced(&spec).await;
        assert_eq!(done(&synced), [("other", Unchanged), ("web", Recreated)]);
        assert_eq!(why(&synced, "web"), ["its mounted file key.txt changed"]);
        assert_eq!(host.running()[0], before[0]);
        assert_eq!(host.inside("web", &["cat", "/run/secrets/key"]), "b");
        let running = host.running();
        let mut forced = spec.clone();
        forced.force = true;
        host.synced(&forced).await;
        assert_eq!(host.running(), running, "making it anew left something compose takes for new");
    }
}

#[tokio::test]
async fn a_changed_definition_makes_its_service_anew_and_others_come_and_go() {
    for host in hosts() {
        host.synced(&host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "")])).await;
        let before = host.running();
        let anew = TWO.replace("web:1", "web:2");
        let spec = host.spec(&[("docker-compose.yml", &anew), ("www/index.html", "")]);
        let planned = host.planned(&spec).await;
        let synced = host.synced(&spec).await;
        for told in [&planned, &synced] {
            assert_eq!(done(told), [("other", Unchanged), ("web", Recreated)]);
            assert_eq!(why(told, "web")[0], "its `image` changed");
        }
        assert_eq!(host.running()[0], before[0]);

        let third = anew.replace("  other:", "  third:");
        let spec = host.spec(&[("docker-compose.yml", &third), ("www/index.html", "")]);
        let planned = host.planned(&spec).await;
        let synced = host.synced(&spec).await;
        for told in [&planned, &synced] {
            assert_eq!(done(told), [("other", Removed), ("third", Created), ("web", Unchanged)]);
            assert_eq!(why(told, "other"), ["it is no longer in the compose files"]);
        }
    }
}

#[tokio::test]
async fn env_files_are_part_of_what_is_wanted() {
    let compose = "services:\n  web:\n    image: hostler-test/sleeper:1\n    env_file: web.env\n    \
        environment:\n      FROM: ${FROM:-nowhere}\n";
    for host in hosts() {
        let first =
            [("docker-compose.yml", compose), ("web.env", "A=1\n"), (".env", "FROM=stack\n")];
        host.synced(&host.spec(&first)).await;
        assert!(host.inside("web", &["env"]).contains("FROM=stack"));
        let second =
            [("docker-compose.yml", compose), ("web.env", "A=2\n"), (".env", "FROM=stack\n")];
        let spec = host.spec(&second);
        let synced = host.synced(&spec).await;
        assert_eq!(done(&synced), [("web", Recreated)]);
        assert_eq!(why(&synced, "web"), ["its `environment` changed"]);
        // The host's own layer holds, and a sync never touches it.
        write(&host.home().join("host.env"), "FROM=this-very-host\n").unwrap();
        let synced = host.synced(&spec).await;
        assert_eq!(done(&synced), [("web", Recreated)], "{:?}", host.compose);
        assert!(host.inside("web", &["env"]).contains("FROM=this-very-host"));
        assert!(host.inside("web", &["env"]).contains("A=2"));
        assert!(!host.synced(&spec).await.changed);
        let kept = std::fs::read_to_string(host.home().join("host.env")).unwrap();
        assert_eq!(kept, "FROM=this-very-host\n");
    }
}

#[tokio::test]
async fn what_is_drifted_is_put_right() {
    for host in hosts() {
        let spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        host.synced(&spec).await;
        write(&host.home().join("files/www/index.html"), "by hand\n").unwrap();
        let synced = host.synced(&spec).await;
        assert_eq!(done(&synced), [("other", Unchanged), ("web", Restarted)]);
        assert_eq!(host.inside("web", &["cat", "/www/index.html"]), "one\n");
        let other = host.running()[0].1.clone();
        host.engine.docker(&["rm", "-f", &other]).unwrap();
        let synced = host.synced(&spec).await;
        assert_eq!(done(&synced), [("other", Created), ("web", Unchanged)]);
    }
}

#[tokio::test]
async fn what_somebody_stopped_stays_so_where_that_is_asked() {
    for host in hosts() {
        let mut spec = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "one\n")]);
        spec.user_stopped = UserStopped::Respect;
        host.synced(&spec).await;
        let other = host.running()[0].clone();
        host.engine.docker(&["stop", "-t", "2", &other.1]).unwrap();
        let same = host.synced(&spec).await;
        assert!(!same.changed, "{same:#?}");

        let mut next = host.spec(&[("docker-compose.yml", TWO), ("www/index.html", "two\n")]);
        next.user_stopped = UserStopped::Respect;
        let synced = host.synced(&next).await;
        assert_eq!(done(&synced), [("other", Unchanged), ("web", Restarted)]);
        assert_eq!(why(&synced, "other"), ["somebody stopped it, and it stays so"]);
        assert_eq!(host.running()[0], other, "it was started");
        assert!(!host.synced(&next).await.changed, "it is no longer known to have been stopped");

        next.user_stopped = UserStopped::Start;
        let synced: StackSyncResult = host.synced(&next).await;
        assert_eq!(done(&synced), [("other", Started), ("web", Unchanged)]);
    }
}

#[tokio::test]
async fn a_stack_may_live_below_its_bundle_s_root_and_have_several_files() {
    let more = "services:\n  web:\n    environment: {MORE: yes-more}\n";
    for host in hosts() {
        let mut spec = host.spec(&[
            (
                "stacks/a/docker-compose.yml",
                "services:\n  web:\n    image: hostler-test/web:1\n    \
                volumes: ['../shares/www:/www:ro']\n",
            ),
            ("stacks/a/docker-compose.override.yml", more),
            ("stacks/shares/www/index.html", "shared\n"),
        ]);
        spec.directory = "stacks/a".to_owned();
        spec.compose_files = ["docker-compose.yml", "docker-compose.override.yml"]
            .map(|file| format!("stacks/a/{file}"))
            .to_vec();
        host.synced(&spec).await;
        assert!(host.inside("web", &["env"]).contains("MORE=yes-more"));
        assert_eq!(host.inside("web", &["cat", "/www/index.html"]), "shared\n");
    }
}

#[tokio::test]
async fn a_changed_build_context_is_built_anew() {
    let compose =
        "services:\n  web:\n    build: ./app\n  other:\n    image: hostler-test/sleeper:1\n";
    let dockerfile = "FROM hostler-test/web:1\nCOPY index.html /www/index.html\n";
    for host in hosts() {
        let spec = |page| {
            host.spec(&[
                ("docker-compose.yml", compose),
                ("app/Dockerfile", dockerfile),
                ("app/index.html", page),
            ])
        };
        host.synced(&spec("one\n")).await;
        assert_eq!(host.inside("web", &["cat", "/www/index.html"]), "one\n");
        let other = host.running()[0].clone();
        let synced = host.synced(&spec("two\n")).await;
        assert_eq!(done(&synced), [("other", Unchanged), ("web", Recreated)]);
        assert_eq!(why(&synced, "web"), ["its build context changed"]);
        assert_eq!(host.inside("web", &["cat", "/www/index.html"]), "two\n");
        assert_eq!(host.running()[0], other);
        assert!(!host.synced(&spec("two\n")).await.changed);
    }
}

#[tokio::test]
async fn an_image_that_was_renewed_under_its_name_is_taken() {
    let compose = |name: &str| format!("services:\n  web:\n    image: {name}\n");
    for host in hosts() {
        let name = format!("hostler-test/{}:latest", host.stack.project);
        host.engine.docker(&["tag", "hostler-test/web:1", &name]).unwrap();
        let files = compose(&name);
        host.synced(&host.spec(&[("docker-compose.yml", &files)])).await;
        host.engine.docker(&["tag", "hostler-test/web:2", &name]).unwrap();
        let spec = host.spec(&[("docker-compose.yml", &files), ("README", "")]);
        let planned = host.planned(&spec).await;
        let synced = host.synced(&spec).await;
        for told in [&planned, &synced] {
            assert_eq!(done(told), [("web", Recreated)], "{:?}", host.compose);
            assert_eq!(why(told, "web"), ["its image is another one now"]);
        }
        assert!(host.inside("web", &["env"]).contains("RELEASE=2"));
    }
}
