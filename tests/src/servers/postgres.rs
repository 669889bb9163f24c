//! PostgreSQL with a cluster of its own, or one that runs already.

use std::path::{Path, PathBuf};

use super::{
    Process, SERVER_SECS_MAX, ServerError, command, directory, find, free_port, is_root, wait_for,
};

/// Names a running server (`postgres://user:password@host:port/`) that the tests use instead of
/// starting one; its user must be allowed to create databases.
pub const URL_VARIABLE: &str = "HOSTLER_TEST_POSTGRES_URL";

/// Who owns the cluster when the tests run as root: PostgreSQL refuses to.
const USER: &str = "postgres";

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    /// Ends in `/`: a database's name follows.
    base: String,
    owned: Option<Owned>,
}

#[derive(Debug)]
struct Owned {
    // Before the directory: the server stops before its files go.
    process: Option<Process>,
    port: u16,
    dir: tempfile::TempDir,
}

impl Owned {
    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("postgres.log")
    }
}

impl Postgres {
    /// Starts a server with Debian's defaults (so with fsync), or takes the one
    /// [`URL_VARIABLE`] names.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not come up.
    pub fn start() -> Result<Self, ServerError> {
        let Ok(url) = std::env::var(URL_VARIABLE) else { return Self::start_own() };
        let base = url.split('?').next().unwrap_or(&url);
        let authority = base.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        Ok(Self { base: format!("{authority}/"), owned: None })
    }

    /// Starts a server that nobody else uses, to be stopped and started at will.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not come up.
    pub fn start_own() -> Result<Self, ServerError> {
        let owned = Owned { process: None, port: free_port()?, dir: directory("postgres")? };
        if is_root() {
            let made = command("chown").arg(USER).arg(owned.dir.path()).status();
            check("giving the directory to its user", made)?;
        }
        initdb(&binaries()?, &owned.data(), &owned.log())?;
        let base = format!("postgres://{USER}@127.0.0.1:{}/", owned.port);
        let mut server = Self { base, owned: Some(owned) };
        server.run()?;
        Ok(server)
    }

    /// Starts the tests' own server (again) on its directory and port.
    ///
    /// # Errors
    /// When it does not come up, or is not the tests' own.
    pub fn run(&mut self) -> Result<(), ServerError> {
        let owned = self.own()?;
        let mut start = as_user(&binaries()?.join("postgres"));
        start.arg("-D").arg(owned.data());
        start.args(["-h", "127.0.0.1", "-p", &owned.port.to_string()]);
        start.arg("-c").arg(format!("unix_socket_directories={}", owned.dir.path().display()));
        start.args(["-c", "max_connections=300", "-c", "shared_buffers=64MB"]);
        start.current_dir(owned.dir.path());
        let (data, log) = (owned.data(), owned.log());
        owned.process = Some(Process::start("postgres", &mut start, &log)?);
        wait_for("postgres to answer", SERVER_SECS_MAX, || {
            // After a kill it refuses to start while a process of before still uses its memory.
            let process = self.process()?;
            if !process.is_running() {
                *process = Process::start("postgres", &mut start, &log).ok()?;
            }
            self.psql("postgres", "SHOW data_directory").ok().filter(|answer| {
                // Known to be ours by where it keeps its files.
                let own = data.canonicalize().unwrap_or_else(|_| data.clone());
                answer.trim() == data.to_string_lossy() || answer.trim() == own.to_string_lossy()
            })
        })
        .map(|_| ())
        .map_err(|error| {
            let told = std::fs::read_to_string(&log).unwrap_or_default();
            ServerError(format!("{error}\n{told}"))
        })
    }

    /// Stops the tests' own server as `pg_ctl stop -m fast` would: whoever is connected is cut off.
    ///
    /// # Errors
    /// When it does not stop, or is not the tests' own.
    pub fn halt(&mut self) -> Result<(), ServerError> {
        if let Some(mut process) = self.own()?.process.take() {
            process.signal(rustix::process::Signal::INT);
            wait_for("postgres to stop", SERVER_SECS_MAX, || {
                (!process.is_running()).then_some(())
            })?;
        }
        Ok(())
    }

    /// Kills the tests' own server's first process as a crash would; the others notice.
    ///
    /// # Errors
    /// When it is not the tests' own.
    pub fn kill(&mut self) -> Result<(), ServerError> {
        if let Some(mut process) = self.own()?.process.take() {
            process.kill();
        }
        Ok(())
    }

    fn own(&mut self) -> Result<&mut Owned, ServerError> {
        let foreign = || ServerError("this PostgreSQL is not the tests' own".to_owned());
        self.owned.as_mut().ok_or_else(foreign)
    }

    /// The URL of a database of this server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("{}{database}", self.base)
    }

    /// Makes an empty database and answers its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self, name: &str) -> Result<String, ServerError> {
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        Ok(self.url(name))
    }

    /// Removes a database, with whoever is connected to it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn drop_database(&self, name: &str) -> Result<(), ServerError> {
        self.psql("postgres", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).map(|_| ())
    }

    /// Runs one statement, as an operator would by hand.
    ///
    /// # Errors
    /// When `psql` or the server refuses; with what it said.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, ServerError> {
        let out = command(binaries()?.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d"])
            .arg(self.url(database))
            .output()
            .map_err(|error| ServerError::new("running psql", error))?;
        if out.status.success() {
            Ok(String::from_utf8_lossy(&out.stdout).into_owned())
        } else {
            Err(ServerError::new("psql", String::from_utf8_lossy(&out.stderr)))
        }
    }

    /// The server's process, if the tests started it.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.owned.as_mut().and_then(|owned| owned.process.as_mut())
    }

    /// Where its files are, if the tests started it.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.owned.as_ref().map(|owned| owned.dir.path())
    }
}

fn initdb(bin: &Path, data: &Path, log: &Path) -> Result<(), ServerError> {
    let mut init = as_user(&bin.join("initdb"));
    init.arg("-D").arg(data);
    init.args(["-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C.UTF-8"]);
    let out = init.output().map_err(|error| ServerError::new("starting initdb", error))?;
    if !out.status.success() {
        return Err(ServerError::new("initdb", String::from_utf8_lossy(&out.stderr)));
    }
    // The log belongs to whoever runs the tests; the server only inherits it, open.
    std::fs::write(log, "").map_err(|error| ServerError::new("making the log", error))
}

fn check(doing: &str, ended: std::io::Result<std::process::ExitStatus>) -> Result<(), ServerError> {
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ServerError::new(doing, status)),
        Err(error) => Err(ServerError::new(doing, error)),
    }
}

/// A command of the cluster's owner. `setpriv` replaces itself by it, so that the process id is
/// the server's own.
fn as_user(program: &Path) -> std::process::Command {
    if !is_root() {
        return command(program);
    }
    let mut through = command("setpriv");
    through.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(program);
    through
}

fn binaries() -> Result<PathBuf, ServerError> {
    find("/usr/lib/postgresql", "")
        .map(|version| version.join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .ok_or_else(|| ServerError("PostgreSQL is missing: run tests/setup/debian.sh".to_owned()))
}
