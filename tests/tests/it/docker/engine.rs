//! The engines the other tests stand on.

use std::path::PathBuf;

use hostler_tests::servers::docker::{Compose, DockerServer, SLEEPER, WEB, WEB_NEXT};
use hostler_tests::servers::{SERVER_SECS_MAX, ServerError, directory, wait_for, write};

const STACK: &str = "services:
  web:
    image: hostler-test/web:1
    ports: [\"8101:8080\"]
    volumes: [\"./www:/www:ro\", \"kept:/kept\"]
volumes:
  kept: {}
";

/// Waits for a project's only container to be healthy.
fn healthy(docker: &DockerServer, project: &str) -> Result<(), ServerError> {
    wait_for("the container to be healthy", SERVER_SECS_MAX, || {
        let containers = docker.containers(project).ok()?;
        let status = containers.first()?["Status"].as_str()?;
        status.contains("(healthy)").then_some(())
    })
}

#[test]
fn both_compose_programs_bring_a_project_up_and_down() {
    let docker = DockerServer::shared().unwrap();
    let installed = Compose::installed().unwrap();
    assert!(installed.contains(&Compose::V2), "{installed:?}");
    let plugin = docker.docker(&["compose", "version", "--short"]).unwrap();
    assert!(plugin.starts_with("2."), "{plugin}");
    for compose in installed {
        let dir = directory("stack").unwrap();
        write(&dir.path().join("compose.yaml"), STACK).unwrap();
        write(&dir.path().join("www/index.html"), "from the host").unwrap();
        let project = format!("engine-{compose:?}").to_lowercase();
        let file = dir.path().join("compose.yaml").to_string_lossy().into_owned();
        let run = |args: &[&str]| {
            let all = [&["-p", project.as_str(), "-f", file.as_str()], args].concat();
            docker.compose(compose, &all).unwrap()
        };

        run(&["up", "-d"]);
        healthy(&docker, &project).unwrap();
        assert_eq!(docker.get(8101, "/").unwrap().body, "from the host", "{compose:?}");

        run(&["down"]);
        assert_eq!(docker.containers(&project).unwrap().len(), 0, "{compose:?}");
        let volumes = docker.docker(&["volume", "ls", "-q"]).unwrap();
        assert!(volumes.contains(&format!("{project}_kept")), "{compose:?}: {volumes}");
    }
}

#[test]
fn engines_side_by_side_know_nothing_of_each_other() {
    let engines = [DockerServer::start().unwrap(), DockerServer::start().unwrap()];
    for (docker, image) in engines.iter().zip([WEB, WEB_NEXT]) {
        docker.docker(&["run", "-d", "--name", "web", "-p", "8100:8080", image]).unwrap();
    }
    for (docker, release) in engines.iter().zip(["1", "2"]) {
        wait_for("the web to answer", SERVER_SECS_MAX, || docker.get(8100, "/").ok()).unwrap();
        let told = docker.docker(&["exec", "web", "sh", "-c", "echo $RELEASE"]).unwrap();
        assert_eq!(told.trim(), release);
        assert_eq!(docker.docker(&["ps", "-q"]).unwrap().lines().count(), 1);
    }
}

#[test]
fn an_image_that_is_not_there_cannot_be_had() {
    let docker = DockerServer::shared().unwrap();
    let error = docker.docker(&["pull", "hostler-test/absent:1"]).unwrap_err();
    assert!(error.0.contains("absent") || error.0.contains("lookup"), "{error}");
}

/// A restart policy brings a container back with the engine; a crash of the engine leaves it alone
/// until the engine is back.
#[test]
fn an_engine_stops_crashes_and_comes_back() {
    let mut docker = DockerServer::start().unwrap();
    docker.docker(&["run", "-d", "--name", "stays", "--restart", "always", SLEEPER]).unwrap();
    docker.docker(&["run", "-d", "--name", "goes", SLEEPER]).unwrap();
    let running = |docker: &DockerServer| docker.docker(&["ps", "--format", "{{.Names}}"]).unwrap();

    docker.halt();
    assert!(docker.api("GET", "/_ping", None).is_err(), "it answers when it is stopped");
    docker.run().unwrap();
    assert_eq!(running(&docker).trim(), "stays");

    docker.kill();
    docker.run().unwrap();
    assert_eq!(running(&docker).trim(), "stays");
}

/// The control groups below one of this name, with any controller.
fn groups(name: &str) -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let dirs = std::fs::read_dir(&root).unwrap().flatten().map(|entry| entry.path());
    let named = dirs.chain([root]).map(|dir| dir.join(name));
    named.filter(|group| group.exists()).collect()
}

#[test]
fn nothing_is_left_of_an_engine() {
    let docker = DockerServer::start().unwrap();
    let id = docker.docker(&["run", "-d", SLEEPER]).unwrap().trim().to_owned();
    let (group, dir) = (docker.group().to_owned(), docker.sock().parent().unwrap().to_owned());
    // The container's shim has its id among its arguments.
    let processes = || -> Vec<String> {
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|pid| std::fs::read_to_string(pid.path().join("cmdline")).ok())
            .filter(|told| told.contains(&id))
            .collect()
    };
    assert_eq!(processes().len(), 1, "{:?}", processes());
    assert!(!groups(&group).is_empty(), "the container is in another group than {group}");

    drop(docker);
    assert_eq!(processes(), Vec::<String>::new());
    assert_eq!(groups(&group), Vec::<PathBuf>::new());
    assert!(!dir.exists(), "{} is still there", dir.display());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
}
