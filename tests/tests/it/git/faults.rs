//! Servers that hang, and lines that break.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hostler_controller::git::{Class, GitSettings};
use hostler_tests::servers::git::{Break, Proxy};
use hostler_tests::servers::instant;

use super::{Rig, class, fetch, noise, read, try_once};

/// A server that takes connections (the system does) and never says a word.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// The rig's settings, with another port in the URL.
fn through(rig: &Rig, port: u16) -> GitSettings {
    let url = rig.server.url("stacks");
    let (before, after) = url.split_once("://").unwrap();
    let (host, path) = after.split_once('/').unwrap();
    let host = host.split_once(':').unwrap().0;
    let mut settings =
        rig.server.settings_of(&format!("{before}://{host}:{port}/{path}"), "main").unwrap();
    settings.limits.connect_secs = 2;
    settings.limits.fetch_secs = 4;
    settings
}

/// ssh's pinned keys belong to a host and a port.
fn pin(rig: &Rig, port: u16, settings: &mut GitSettings) {
    let known = std::fs::read_to_string(settings.known_hosts_file.as_ref().unwrap()).unwrap();
    let key = known.split_once(' ').unwrap().1;
    let file = rig.dir.path().join(format!("known-{port}"));
    std::fs::write(&file, format!("[127.0.0.1]:{port} {key}")).unwrap();
    settings.known_hosts_file = Some(file);
}

#[test]
fn a_silent_server_is_given_up_at_the_connect_deadline() {
    let (web, ssh) = (Rig::https(), Rig::ssh());
    let (_listener, port) = silent();
    let mut plain = through(&web, port);
    plain.url =
        hostler_controller::git::GitUrl::parse(&format!("http://127.0.0.1:{port}/a.git")).unwrap();
    plain.ca_file = None;
    for mut settings in [through(&web, port), plain, through(&ssh, port)] {
        settings.limits.fetch_secs = 60;
        let (url, began) = (settings.url.to_string(), instant());
        let error = try_once(settings).unwrap_err();
        let secs = began.elapsed().as_secs_f64();
        assert_eq!(class(&error), (Class::Timeout, "GIT_TIMEOUT"), "{url}: {error}");
        assert!((1.9..30.0).contains(&secs), "{url}: {secs} s");
        assert!(error.class().passes());
    }
}

#[test]
fn a_server_that_stops_sending_is_given_up_at_the_fetch_deadline() {
    let (mut web, mut ssh) = (Rig::https(), Rig::ssh());
    for rig in [&mut web, &mut ssh] {
        // Larger than what goes through before it hangs, and incompressible enough.
        let noise = noise();
        rig.work.publish(&[("noise", &noise)]).unwrap();
        let to = port_of(rig);
        let proxy = Proxy::start(to, Break::Hang, 20_000).unwrap();
        let mut settings = through(rig, proxy.port);
        if settings.known_hosts_file.is_some() {
            pin(rig, proxy.port, &mut settings);
        }
        let (url, began) = (settings.url.to_string(), instant());
        let error = try_once(settings).unwrap_err();
        let secs = began.elapsed().as_secs_f64();
        assert_eq!(class(&error), (Class::Timeout, "GIT_TIMEOUT"), "{url}: {error}");
        assert!((3.9..30.0).contains(&secs), "{url}: {secs} s");
        assert!(error.to_string().contains("longer than 4 s"), "{error}");
    }
}

/// The port that the rig's own server listens on.
fn port_of(rig: &Rig) -> u16 {
    let url = rig.server.url("stacks");
    let authority = url.split("://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    authority.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_fetch_ends_soon_after_it_is_cancelled() {
    let (web, ssh) = (Rig::https(), Rig::ssh());
    let (_listener, port) = silent();
    for rig in [&web, &ssh] {
        let mut settings = through(rig, port);
        settings.limits.connect_secs = 60;
        settings.limits.fetch_secs = 60;
        let mirror = rig.open(settings);
        let cancel = Arc::new(AtomicBool::new(false));
        let (flag, began) = (Arc::clone(&cancel), instant());
        let is_ssh = rig.server.url("stacks").starts_with("ssh:");
        let word = port.to_string();
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            let called = called_with(&word).len();
            flag.store(true, Ordering::Release);
            called
        });
        let error = mirror.fetch(&cancel).unwrap_err();
        assert_eq!(canceller.join().unwrap() > 0, is_ssh);
        assert_eq!(class(&error), (Class::Cancelled, "GIT_CANCELLED"), "{error}");
        let secs = began.elapsed().as_secs_f64();
        assert!((0.3..30.0).contains(&secs), "{secs} s");
        assert_eq!(called_with(&port.to_string()), Vec::<u32>::new(), "ssh goes on");
    }
    // A wish from before the fetch counts as well.
    let error = web.mirror().fetch(&AtomicBool::new(true)).unwrap_err();
    assert_eq!(error.class(), Class::Cancelled);
}

/// The processes on whose command line such a word stands.
fn called_with(word: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let called = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    pids.filter(called).collect()
}

/// What lies beside whole packs.
fn odd_files(rig: &Rig) -> Vec<String> {
    let packs = super::history::current(rig).join("objects/pack");
    let names = std::fs::read_dir(packs).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".pack") && !name.ends_with(".idx")).collect()
}

#[test]
fn half_a_pack_leaves_the_old_commit() {
    let (mut web, mut ssh) = (Rig::https(), Rig::ssh());
    for rig in [&mut web, &mut ssh] {
        let proxy = Proxy::start(port_of(rig), Break::Cut, u64::MAX).unwrap();
        let mut settings = through(rig, proxy.port);
        settings.limits.connect_secs = 20;
        settings.limits.fetch_secs = 60;
        if settings.known_hosts_file.is_some() {
            pin(rig, proxy.port, &mut settings);
        }
        let url = settings.url.to_string();
        let mirror = rig.open(settings);
        fetch(&mirror).unwrap();
        let noise = noise();
        let second = rig.work.publish(&[("noise", &noise)]).unwrap();
        drop(mirror);
        // A new connection: it gets the greeting, the references and part of the pack.
        proxy.allow(60_000);
        let mut settings = through(rig, proxy.port);
        if settings.known_hosts_file.is_some() {
            pin(rig, proxy.port, &mut settings);
        }
        let mirror = rig.open(settings);
        let error = fetch(&mirror).unwrap_err();
        let kind = error.class();
        assert!(matches!(kind, Class::Network | Class::Corrupt), "{url}: {kind:?}: {error}");
        assert!(kind.passes());
        assert_eq!(mirror.revision().unwrap().revision, rig.first, "{url}");
        assert_eq!(
            read(&mirror, "web/docker-compose.yml").unwrap(),
            b"services: {a: {image: x}}\n"
        );
        assert_eq!(read(&mirror, "noise"), None);
        assert_eq!(odd_files(rig), Vec::<String>::new(), "what came is left there");
        proxy.allow(u64::MAX);
        assert_eq!(fetch(&mirror).unwrap().revision, second, "{url}");
        assert_eq!(read(&mirror, "noise").unwrap(), noise.as_bytes());
        assert!(proxy.connections() >= 3);
    }
}

#[test]
fn a_server_that_is_none_of_git_is_said_so() {
    let rig = Rig::https();
    let port = rig.server.web().unwrap().port();
    let mut settings = rig.settings();
    // ssh's port does not speak HTTP.
    let mut ssh = Rig::ssh();
    let other = ssh.server.shell().unwrap().port;
    assert_ne!(port, other);
    for url in
        [format!("https://localhost:{other}/a.git"), format!("http://localhost:{other}/a.git")]
    {
        settings.url = hostler_controller::git::GitUrl::parse(&url).unwrap();
        settings.ca_file = settings.ca_file.filter(|_| url.starts_with("https"));
        let error = try_once(settings.clone()).unwrap_err();
        assert!(matches!(error.class(), Class::Network | Class::Tls), "{url}: {error}");
    }
}
