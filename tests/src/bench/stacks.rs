//! Repositories of many stacks, made and changed without a working copy of them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use super::Res;
use super::process::run;
use crate::servers::git::{GitServer, git};

/// Stacks in one directory, as people sort theirs: by team, by host.
const GROUP: usize = 100;
/// Hosts the stacks name, in turn.
pub const HOSTS: usize = 20;
/// The services of each.
pub const SERVICES: [&str; 2] = ["web", "redis"];
/// When the first commit is made, in seconds since the Unix epoch.
const FIRST_SECS: u64 = 1_700_000_000;

/// A repository with so many stacks of four files each on its branch `main`.
#[derive(Debug)]
pub struct Stacks {
    pub name: String,
    pub count: usize,
    bare: PathBuf,
    commits: u64,
}

/// The name of one of the hosts.
#[must_use]
pub fn host_name(number: usize) -> String {
    format!("host-{}", number % HOSTS)
}

/// The path of a stack's compose file.
fn compose_file(number: usize) -> String {
    format!("group-{:03}/stack-{number:05}/docker-compose.yml", number / GROUP)
}

/// A compose file as people write them; `round` makes it another.
fn compose(number: usize, round: u64) -> String {
    format!(
        "# Stack {number}, round {round}\nx-hostler:\n  hosts: [{host}]\nservices:\n  web:\n    \
         image: registry.example/web:{number}.{round}\n    restart: unless-stopped\n    env_file: .env\n    \
         volumes:\n      - ./nginx.conf:/etc/nginx/nginx.conf:ro\n      - data:/var/lib/web\n    ports:\n      \
         - \"127.0.0.1:{port}:8080\"\n    healthcheck:\n      test: [CMD, wget, -q, -O, /dev/null, \
         http://127.0.0.1:8080/]\n      interval: 10s\n  redis:\n    image: redis:7\n    command: [redis-server, \
         --save, \"\"]\nvolumes:\n  data: {{}}\n",
        host = host_name(number),
        port = 10_000 + number % 50_000,
    )
}

impl Stacks {
    /// Makes one on a server.
    ///
    /// # Errors
    /// When git fails.
    pub fn create(server: &GitServer, count: usize) -> Res<Self> {
        let name = format!("stacks-{count}");
        server.create(&name)?;
        let mut stacks = Self { bare: server.path(&name), name, count, commits: 0 };
        let mut changes = Vec::new();
        for number in 0..count {
            let compose_path = compose_file(number);
            let directory = compose_path.trim_end_matches("docker-compose.yml");
            let files = [
                ("docker-compose.yml", compose(number, 0)),
                (".env", format!("STACK={number}\nLOG_LEVEL=info\n")),
                (
                    "nginx.conf",
                    format!("# {number}\nevents {{}}\nhttp {{ server {{ listen 8080; }} }}\n"),
                ),
                ("README.md", format!("# Stack {number}\n\n{}\n", "Runs the shop. ".repeat(20))),
            ];
            for (file, text) in files {
                changes.push((format!("{directory}{file}"), text));
            }
        }
        stacks.commit(&changes)?;
        Ok(stacks)
    }

    /// Commits another compose file for one stack: the commit's id.
    ///
    /// # Errors
    /// When git fails.
    pub fn change_one(&mut self) -> Res<String> {
        let round = self.commits;
        let number = usize::try_from(round * 37)? % self.count;
        self.commit(&[(compose_file(number), compose(number, round))])?;
        let head = run(git(&self.bare).args(["rev-parse", "refs/heads/main"]))?.stdout;
        Ok(String::from_utf8_lossy(&head).trim().to_owned())
    }

    fn commit(&mut self, changes: &[(String, String)]) -> Res<()> {
        let secs = FIRST_SECS + 60 * self.commits;
        let mut text = format!(
            "commit refs/heads/main\ncommitter Ada <ada@example.test> {secs} +0000\ndata 6\nChange\n"
        );
        if self.commits > 0 {
            text.push_str("from refs/heads/main^0\n");
        }
        for (path, content) in changes {
            text.push_str(&format!("M 100644 inline {path}\ndata {}\n{content}\n", content.len()));
        }
        let mut import = git(&self.bare);
        import.args(["fast-import", "--quiet"]);
        let mut child = import.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes())?;
        }
        let ended = child.wait_with_output()?;
        if !ended.status.success() {
            return Err(format!("git: {}", String::from_utf8_lossy(&ended.stderr)).into());
        }
        self.commits += 1;
        Ok(())
    }
}
