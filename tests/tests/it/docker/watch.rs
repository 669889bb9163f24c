//! What a host sees of its stacks between jobs, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hostler_tests::servers::docker::DockerServer;
use hostler_tests::servers::instant;
use hostler_tests::system::StackSystem;
use serde_json::{Value, json};

/// Seconds until something that the engine tells of has to be known to the controller: four times
/// what the agent takes at most, for a busy machine.
const SOON_SECS: u64 = 20;

fn compose(settings: &str) -> String {
    let stopped = if settings.contains("user_stopped") { "" } else { "  user_stopped: start\n" };
    format!(
        "services:\n  web:\n    image: hostler-test/web:1\n    volumes:\n    - ./www:/www:ro\n  \
         other:\n    image: hostler-test/sleeper:1\nx-hostler:\n  hosts: [web1]\n\
         {stopped}{settings}"
    )
}

/// A system whose only stack is synced.
fn system(settings: &str) -> StackSystem {
    system_on(Arc::new(DockerServer::start().unwrap()), settings)
}

fn system_on(engine: Arc<DockerServer>, settings: &str) -> StackSystem {
    system_of(engine, &compose(settings))
}

fn system_of(engine: Arc<DockerServer>, compose: &str) -> StackSystem {
    let files = [("shop/docker-compose.yml", compose), ("shop/www/index.html", "one\n")];
    let system = StackSystem::start(None, vec![engine], &files).unwrap();
    let head = system.work.git(&["rev-parse", "HEAD"]).unwrap();
    system.wait_synced("shop", &head).unwrap();
    system
}

fn container(system: &StackSystem, service: &str) -> String {
    let all = system.hosts[0].containers("shop").unwrap();
    all.into_iter().find(|(own, _)| own == service).expect("it has a container").1
}

fn docker(system: &StackSystem, verb: &str, service: &str) {
    let id = container(system, service);
    let arguments: &[&str] = if verb == "stop" { &["stop", "-t", "1", &id] } else { &[verb, &id] };
    system.hosts[0].engine.docker(arguments).unwrap();
}

/// Kind and subject of each difference that is shown.
fn drift(stack: &Value) -> Vec<(&str, &str)> {
    let all = stack["on"][0]["drift"].as_array().into_iter().flatten();
    all.filter_map(|one| Some((one["kind"].as_str()?, one["subject"].as_str()?))).collect()
}

fn wait_drift(system: &StackSystem, wished: &[(&str, &str)]) -> Value {
    let is_so = |stack: Option<&Value>| stack.is_some_and(|stack| drift(stack) == wished);
    system.wait_stack("shop", &format!("differing in {wished:?}"), is_so).unwrap()
}

fn call(system: &StackSystem, stack: &Value, verb: &str, body: &Value) -> Value {
    let path = format!("/api/stacks/{}/{verb}", stack["id"].as_str().unwrap());
    let reply = system.controller.call("POST", &path, Some(body)).unwrap();
    assert!(reply.status < 300, "{}", reply.text);
    reply.json()
}

/// The reason of the last sync that put something right.
fn reverted(system: &StackSystem, subject: &str) -> Value {
    let reason = format!("it was changed on the host: {subject}");
    let is_so = |stack: Option<&Value>| {
        stack.is_some_and(|stack| {
            let on = &stack["on"][0];
            on["last"]["reason"] == reason.as_str() && stack["status"] == "synced"
        })
    };
    system.wait_stack("shop", "put right", is_so).unwrap()
}

#[test]
fn what_is_stopped_by_hand_is_shown_until_it_runs_again() {
    let system = system("");
    let begun = instant();
    docker(&system, "stop", "web");
    let shop = wait_drift(&system, &[("service_stopped", "web")]);
    assert!(begun.elapsed().as_secs() < SOON_SECS, "it took {:?}", begun.elapsed());
    assert_eq!((&shop["drifted"], &shop["status"]), (&json!(true), &json!("synced")), "{shop:#}");
    let shown = shop["on"][0]["containers"].as_array().unwrap();
    let web = shown.iter().find(|one| one["service"] == "web").unwrap();
    assert_eq!(web["state"], "exited", "{web:#}");
    docker(&system, "start", "web");
    let shop = wait_drift(&system, &[]);
    assert_eq!(shop["drifted"], false, "{shop:#}");
    // Nobody put it right.
    assert_eq!(shop["on"][0]["last"]["reason"], "it has not run there yet");

    // What a person accepts is no drift until it changes.
    docker(&system, "stop", "web");
    let shop = wait_drift(&system, &[("service_stopped", "web")]);
    let shop = call(&system, &shop, "accept-drift", &json!({}));
    assert_eq!(shop["drifted"], false, "{shop:#}");
    assert_eq!(shop["on"][0]["drift"][0]["accepted"], true, "{shop:#}");
    docker(&system, "rm", "web");
    let shop = wait_drift(&system, &[("service_missing", "web")]);
    assert_eq!(shop["drifted"], true, "{shop:#}");
    // A container of a service that the stack does not have.
    let run = ["run", "-d", "--label", "com.docker.compose.project=shop", "--label"];
    let label = ["com.docker.compose.service=strange", "hostler-test/sleeper:1"];
    system.hosts[0].engine.docker(&[run.as_slice(), &label].concat()).unwrap();
    wait_drift(&system, &[("service_missing", "web"), ("service_unknown", "strange")]);
}

#[test]
fn what_is_changed_on_the_host_is_put_right_where_that_is_wished() {
    let system = system("  drift: revert\n");
    docker(&system, "stop", "web");
    let shop = reverted(&system, "web");
    let services = shop["on"][0]["last"]["services"].as_array().unwrap();
    let web = services.iter().find(|one| one["service"] == "web").unwrap();
    assert_eq!(web["action"], "started", "{web:#}");
    wait_drift(&system, &[]);

    let page = system.hosts[0].stacks_dir().join("shop/files/shop/www/index.html");
    std::fs::write(&page, "two\n").unwrap();
    let shop = reverted(&system, "shop/www/index.html");
    assert_eq!(std::fs::read_to_string(&page).unwrap(), "one\n");
    wait_drift(&system, &[]);
    assert_eq!(shop["on"][0]["loop_since"], Value::Null, "{shop:#}");
}

#[test]
fn an_edited_file_is_shown() {
    let system = system("");
    let page = system.hosts[0].stacks_dir().join("shop/files/shop/www/index.html");
    std::fs::write(&page, "two\n").unwrap();
    let shop = wait_drift(&system, &[("file_changed", "shop/www/index.html")]);
    assert_eq!(shop["drifted"], true, "{shop:#}");
    std::fs::remove_file(&page).unwrap();
    wait_drift(&system, &[("file_missing", "shop/www/index.html")]);
    std::fs::write(&page, "one\n").unwrap();
    wait_drift(&system, &[]);
}

#[test]
fn what_is_stopped_on_purpose_is_no_drift_where_that_is_respected() {
    let system = system("  user_stopped: respect\n  drift: revert\n");
    docker(&system, "stop", "web");
    let is_seen = |stack: Option<&Value>| {
        stack.is_some_and(|stack| {
            let all = stack["on"][0]["containers"].as_array().into_iter().flatten();
            all.filter(|one| one["state"] == "exited").count() == 1
        })
    };
    let shop = system.wait_stack("shop", "seen with a stopped service", is_seen).unwrap();
    assert_eq!((drift(&shop), &shop["drifted"]), (vec![], &json!(false)), "{shop:#}");
}

#[test]
fn what_went_down_with_the_engine_is_drift_and_what_was_stopped_before_is_none() {
    let mut system = system("  user_stopped: respect\n");
    docker(&system, "stop", "web");
    let is_exited = |stack: &Value, service: &str| {
        let all = stack["on"][0]["containers"].as_array().into_iter().flatten();
        all.filter(|one| one["service"] == service).any(|one| one["state"] == "exited")
    };
    let is_seen = |stack: Option<&Value>| stack.is_some_and(|stack| is_exited(stack, "web"));
    system.wait_stack("shop", "seen with a stopped service", is_seen).unwrap();
    engine_of(&mut system).halt();
    engine_of(&mut system).run().unwrap();
    let shop = wait_drift(&system, &[("service_stopped", "other")]);
    assert!(is_exited(&shop, "web") && is_exited(&shop, "other"), "{shop:#}");
    call(&system, &shop, "sync", &json!({}));
    let shop = wait_drift(&system, &[]);
    assert!(is_exited(&shop, "web") && !is_exited(&shop, "other"), "{shop:#}");
}

#[test]
fn what_ends_again_and_again_is_drift_for_as_long_as_it_does() {
    let looping = "    restart: always\n    command: [sh, -c, \"while test ! -e /tmp/broken; do \
        sleep 1; done; sleep 3; exit 1\"]\nx-hostler";
    let compose = compose("").replacen("x-hostler", looping, 1);
    let engine = Arc::new(DockerServer::start().unwrap());
    let system = system_of(engine, &compose);
    let other = container(&system, "other");
    system.hosts[0].engine.docker(&["exec", &other, "touch", "/tmp/broken"]).unwrap();
    wait_drift(&system, &[("service_stopped", "other")]);
    let restarted_often = |stack: Option<&Value>| {
        let Some(stack) = stack else { return false };
        assert_eq!(drift(stack), [("service_stopped", "other")], "{stack:#}");
        let all = stack["on"][0]["containers"].as_array().into_iter().flatten();
        all.filter_map(|one| one["restarts"].as_u64()).any(|restarts| restarts >= 5)
    };
    system.wait_stack("shop", "restarted often", restarted_often).unwrap();
}

#[test]
fn what_is_stopped_again_and_again_is_left_alone_at_last() {
    let system = system("  drift: revert\n");
    let over = AtomicBool::new(false);
    let shop = std::thread::scope(|scope| {
        scope.spawn(|| {
            let web = container(&system, "web");
            while !over.load(Ordering::Relaxed) {
                // One that is being made anew, or is stopped already, is none to be stopped.
                system.hosts[0].engine.docker(&["stop", "-t", "1", &web]).ok();
                std::thread::sleep(std::time::Duration::from_secs(2));
            }
        });
        let loops = |stack: Option<&Value>| {
            stack.is_some_and(|stack| stack["on"][0]["loop_since"].is_string())
        };
        let shop = system.wait_stack("shop", "given up", loops);
        over.store(true, Ordering::Relaxed);
        shop.unwrap()
    });
    assert_eq!(shop["drifted"], true, "{shop:#}");
    // A person who asks for a sync begins anew.
    call(&system, &shop, "sync", &json!({}));
    let shop = wait_drift(&system, &[]);
    assert_eq!(shop["on"][0]["loop_since"], Value::Null, "{shop:#}");
}

#[test]
fn what_a_first_sync_left_when_it_failed_is_shown() {
    let broken =
        compose("").replacen("x-hostler", "    command: [sh, -c, \"exit 3\"]\nx-hostler", 1);
    let files = [("shop/docker-compose.yml", broken.as_str()), ("shop/www/index.html", "one\n")];
    let engine = Arc::new(DockerServer::start().unwrap());
    let system = StackSystem::start(None, vec![engine], &files).unwrap();
    let left = |stack: Option<&Value>| {
        let Some(stack) = stack else { return false };
        let all = stack["on"][0]["containers"].as_array().into_iter().flatten();
        let ended = all.filter(|one| one["service"] == "other" && one["exit_code"] == 3).count();
        stack["failed_hosts"] == 1 && ended == 1
    };
    let shop = system.wait_stack("shop", "failed, with what is left of it", left).unwrap();
    assert_eq!((&shop["status"], &shop["drifted"]), (&json!("missing"), &json!(false)), "{shop:#}");
}

#[test]
fn an_engine_that_goes_away_is_told_and_listened_to_again() {
    let mut system = system("");
    let gone = |stack: Option<&Value>| {
        stack.is_some_and(|stack| stack["on"][0]["docker_unavailable"].is_string())
    };
    for _ in 0..2 {
        engine_of(&mut system).kill();
        let shop = system.wait_stack("shop", "out of sight", gone).unwrap();
        let why = shop["on"][0]["docker_unavailable"].as_str().unwrap();
        assert!(why.contains("cannot be reached"), "{why}");
        // An engine that was killed ends what it finds left of its containers.
        engine_of(&mut system).run().unwrap();
        let stopped = [("service_stopped", "other"), ("service_stopped", "web")];
        let shop = wait_drift(&system, &stopped);
        assert_eq!(shop["on"][0]["docker_unavailable"], Value::Null, "{shop:#}");
        // Its events are listened to once more: nobody waits for a period.
        let begun = instant();
        docker(&system, "start", "web");
        docker(&system, "start", "other");
        wait_drift(&system, &[]);
        assert!(begun.elapsed().as_secs() < SOON_SECS, "it took {:?}", begun.elapsed());
    }
}

/// The engine, for as long as nobody else holds it.
fn engine_of(system: &mut StackSystem) -> &mut DockerServer {
    Arc::get_mut(&mut system.hosts[0].engine).expect("it is this system's alone")
}
