//! Nothing of the machine the controller runs on has a say, and nothing of the credentials is left
//! on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use hostler_controller::git::{Class, DeployDir, GitSettings, GitUrl, HttpAuth, Reference, Secret};
use hostler_tests::servers::git::{Break, GitServer, Proxy, output};
use hostler_tests::servers::{command, free_port, wait_for};

use super::{Rig, fetch, open, try_once};

const VARIABLE: &str = "HOSTLER_TEST_FETCH";

/// A home whose configuration leaves a mark whenever it is heeded.
struct Evil {
    dir: tempfile::TempDir,
}

impl Evil {
    fn new() -> Self {
        let evil = Self { dir: tempfile::tempdir().unwrap() };
        let (script, home) = (evil.script(), evil.dir.path());
        let text = format!("#!/bin/sh\necho \"$0 $*\" >> {}\nexit 1\n", evil.mark().display());
        fs::create_dir(home.join("hooks")).unwrap();
        let hooks = ["post-checkout", "reference-transaction", "post-merge", "fsmonitor"];
        let hooks = hooks.map(|hook| home.join("hooks").join(hook));
        for file in hooks.iter().chain([&script]) {
            fs::write(file, &text).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let script = script.display();
        fs::write(
            home.join(".gitconfig"),
            format!(
                "[url \"file:///nowhere/\"]\n insteadOf = https://\n insteadOf = file://\n insteadOf = ssh://\n\
                 [core]\n sshCommand = {script}\n askPass = {script}\n hooksPath = {}/hooks\n\
                 fsmonitor = {script}\n[credential]\n helper = {script}\n\
                 [uploadpack]\n packObjectsHook = {script}\n[protocol]\n allow = never\n\
                 [http]\n proxy = http://127.0.0.1:1/\n extraHeader = Authorization: Basic x\n\
                 [safe]\n directory = /nowhere\n",
                home.display(),
            ),
        )
        .unwrap();
        evil
    }

    fn script(&self) -> PathBuf {
        self.dir.path().join("script")
    }

    fn mark(&self) -> PathBuf {
        self.dir.path().join("mark")
    }

    /// Fetches in a process whose home this is, and whose environment is no better.
    fn fetch(&self, settings: &[(&str, String)]) -> String {
        let script = self.script();
        let mut child = command(std::env::current_exe().unwrap());
        child.args(["--exact", "git::host::fetches_what_it_is_told", "--ignored", "--nocapture"]);
        for (name, value) in settings {
            child.env(format!("{VARIABLE}_{name}"), value);
        }
        let dead = format!("http://127.0.0.1:{}/", free_port().unwrap());
        for name in
            ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
        {
            child.env(name, &dead);
        }
        let runs = [
            "GIT_SSH_COMMAND",
            "GIT_SSH",
            "GIT_ASKPASS",
            "SSH_ASKPASS",
            "GIT_EXTERNAL_DIFF",
            "GIT_PROXY_COMMAND",
        ];
        for name in runs {
            child.env(name, &script);
        }
        child
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path())
            .env("GIT_CONFIG_GLOBAL", self.dir.path().join(".gitconfig"))
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "uploadpack.packObjectsHook")
            .env("GIT_CONFIG_VALUE_0", &script)
            .env("GIT_DIR", "/nowhere")
            .env("GIT_OBJECT_DIRECTORY", "/nowhere")
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", "/nowhere")
            .env("GIT_SHALLOW_FILE", "/nowhere");
        String::from_utf8(output(&mut child).unwrap()).unwrap()
    }
}

#[test]
#[ignore = "the other tests here run it, in a process of its own"]
fn fetches_what_it_is_told() {
    let told = |name: &str| std::env::var(format!("{VARIABLE}_{name}")).ok();
    let mut settings = GitSettings::new(
        GitUrl::parse(&told("URL").unwrap()).unwrap(),
        Reference::parse("main").unwrap(),
        DeployDir::parse("/").unwrap(),
    );
    settings.ca_file = told("CA").map(PathBuf::from);
    settings.known_hosts_file = told("KNOWN").map(PathBuf::from);
    settings.ssh_key_file = told("KEY").map(PathBuf::from);
    let said = match try_once(settings) {
        Ok(fetched) => fetched.revision,
        Err(error) => format!("{}: {error}", error.code()),
    };
    writeln!(std::io::stdout(), "<{said}>").unwrap();
    assert!(!said.is_empty());
}

fn told(settings: &GitSettings) -> Vec<(&'static str, String)> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let mut told = vec![("URL", settings.url.to_string())];
    told.extend(path(&settings.ca_file).map(|path| ("CA", path)));
    told.extend(path(&settings.known_hosts_file).map(|path| ("KNOWN", path)));
    told.extend(path(&settings.ssh_key_file).map(|path| ("KEY", path)));
    told
}

#[test]
fn the_machines_configuration_and_environment_have_no_say() {
    let evil = Evil::new();
    for rig in [Rig::file(), Rig::https(), Rig::ssh()] {
        let said = evil.fetch(&told(&rig.settings()));
        assert!(said.contains(&format!("<{}>", rig.first)), "{said}");
    }
    // Nobody is asked for the credentials that are missing.
    let rig = Rig::over(GitServer::https(Some(("ada", "s3cret"))).unwrap());
    let said = evil.fetch(&told(&rig.settings()));
    assert!(said.contains("<GIT_AUTH_FAILED: "), "{said}");
    let mark = fs::read_to_string(evil.mark()).unwrap_or_default();
    assert_eq!(mark, "", "something of the machine's was run");
    // And the marks would have been made.
    output(command("sh").arg("-c").arg(format!("{}; true", evil.script().display()))).unwrap();
    assert_ne!(fs::read_to_string(evil.mark()).unwrap(), "");
}

#[test]
fn nothing_of_the_repository_is_run() {
    let mut rig = Rig::file();
    let evil = Evil::new();
    let script = evil.script().display().to_string();
    let attributes = "* filter=evil diff=evil merge=evil\n";
    let config = format!("[filter \"evil\"]\n smudge = {script}\n clean = {script}\n");
    let hook = format!("#!/bin/sh\n{script}\n");
    let modules = "[submodule \"x\"]\n path = x\n url = ext::sh -c evil\n";
    rig.work
        .publish(&[
            (".gitattributes", attributes),
            (".gitconfig", &config),
            (".gitmodules", modules),
            ("hooks/post-checkout", &hook),
        ])
        .unwrap();
    let mirror = rig.mirror();
    let fetched = fetch(&mirror).unwrap();
    let tree = super::root(&mirror, &fetched.revision);
    for entry in tree.entries().unwrap() {
        assert!(!entry.path.is_empty());
    }
    assert!(!evil.mark().exists());
    for file in files_below(rig.dir.path()) {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0, "{} could be run", file.display());
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => waiting.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found
}

/// The command lines of every process there is.
fn command_lines() -> BTreeMap<u32, String> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).into_owned()))
    })
    .collect()
}

/// What is logged, kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps everything this thread logs meanwhile.
    fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let own = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || own.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// As it is, and as HTTP carries it.
fn holds_a_secret(bytes: &[u8], secret: &str, basic: &str) -> bool {
    let has = |word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
    has(secret) || has(basic)
}

#[test]
fn credentials_are_left_nowhere() {
    let (secret, basic) = ("s3cret-t0ken", "YWRhOnMzY3JldC10MGtlbg==");
    let rig = Rig::over(GitServer::https(Some(("ada", secret))).unwrap());
    let proxy = Proxy::start(rig.server.web().unwrap().port(), Break::Hang, u64::MAX).unwrap();
    let url = format!("https://localhost:{}/stacks.git", proxy.port);
    let mut settings = rig.server.settings_of(&url, "main").unwrap();
    assert!(!holds_a_secret(format!("{settings:?}").as_bytes(), secret, basic));
    let log = Log::default();
    log.during(|| {
        let mirror = rig.open(settings.clone());
        fetch(&mirror).unwrap();
        assert!(!format!("{mirror:?}").contains(secret));
    });
    // Refused: the server's answer and our message are looked at as well.
    settings.auth = Some(HttpAuth::basic("eve".to_owned(), Secret::new(secret.to_owned())));
    let error = log.during(|| try_once(settings.clone()).unwrap_err());
    assert_eq!(error.class(), Class::Auth);
    assert!(!holds_a_secret(format!("{error} {error:?}").as_bytes(), secret, basic));

    // In the middle of a fetch.
    proxy.allow(3_000);
    settings.auth = Some(HttpAuth::basic("ada".to_owned(), Secret::new(secret.to_owned())));
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), settings);
    let (cancel, before) = (AtomicBool::new(false), proxy.connections());
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| mirror.fetch(&cancel));
        wait_for("the fetch to connect", 10, || (proxy.connections() > before).then_some(()))
            .unwrap();
        let lines = command_lines();
        assert!(lines.contains_key(&std::process::id()));
        for (pid, line) in lines {
            assert!(!holds_a_secret(line.as_bytes(), secret, basic), "{pid}: {line}");
        }
        cancel.store(true, std::sync::atomic::Ordering::Release);
        fetching.join().unwrap().unwrap_err();
    });
    let log = log.text();
    assert!(log.len() > 100, "nothing was logged: {log}");
    assert!(!holds_a_secret(log.as_bytes(), secret, basic), "{log}");
    let files: Vec<PathBuf> =
        [rig.dir.path(), dir.path()].into_iter().flat_map(files_below).collect();
    assert!(files.len() > 5);
    for file in files {
        let bytes = fs::read(&file).unwrap();
        assert!(!holds_a_secret(&bytes, secret, basic), "{}", file.display());
        assert!(!holds_a_secret(&bytes, "localhost", "x-access-token"), "{}", file.display());
    }
}

#[test]
fn a_mirror_is_its_owners_alone() {
    let rig = Rig::file();
    fetch(&rig.mirror()).unwrap();
    let mode = fs::metadata(rig.dir.path().join("mirror")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
