//! sshd with keys of its own, for whoever runs the tests.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::super::{
    Process, SERVER_SECS_MAX, ServerError, command, directory, find, free_port, is_root, wait_for,
    write,
};
use super::work::output;

/// A running sshd.
#[derive(Debug)]
pub struct Ssh {
    pub port: u16,
    /// Whom to log in as.
    pub user: String,
    /// The key that is let in.
    pub client_key: PathBuf,
    /// The server's key as it was at the start.
    pub known_hosts: PathBuf,
    process: Process,
    dir: tempfile::TempDir,
}

impl Ssh {
    pub(super) fn start() -> Result<Self, ServerError> {
        let dir = directory("ssh")?;
        let root = dir.path();
        let port = free_port()?;
        for name in ["host", "client"] {
            make_key(&root.join(name))?;
        }
        let public = |name: &str| {
            std::fs::read_to_string(root.join(format!("{name}.pub")))
                .map_err(|error| ServerError::new("reading a public key", error))
        };
        write(&root.join("authorized_keys"), &public("client")?)?;
        let known_hosts = root.join("known_hosts");
        write(&known_hosts, &format!("[127.0.0.1]:{port} {}", public("host")?))?;
        write(&root.join("sshd_config"), &configuration(root, port))?;
        let process = spawn(root)?;
        let user = output(command("id").arg("-un"))?;
        let ssh = Self {
            port,
            user: String::from_utf8_lossy(&user).trim().to_owned(),
            client_key: root.join("client"),
            known_hosts,
            process,
            dir,
        };
        ssh.wait_up()?;
        Ok(ssh)
    }

    fn wait_up(&self) -> Result<(), ServerError> {
        wait_for("sshd to answer", SERVER_SECS_MAX, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        })
        .map(drop)
        .map_err(|error| ServerError(format!("{error}\n{}", self.log())))
    }

    /// Gives the server another host key, as an impostor has, and starts it again.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn change_host_key(&mut self) -> Result<(), ServerError> {
        self.process.stop();
        let key = self.dir.path().join("host");
        for file in [key.clone(), key.with_extension("pub")] {
            std::fs::remove_file(file)
                .map_err(|error| ServerError::new("removing the host key", error))?;
        }
        make_key(&key)?;
        self.process = spawn(self.dir.path())?;
        self.wait_up()
    }

    /// A key the server does not know.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn strange_key(&self) -> Result<PathBuf, ServerError> {
        let key = self.dir.path().join("stranger");
        make_key(&key)?;
        Ok(key)
    }

    /// What sshd has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("sshd.log")).unwrap_or_default()
    }
}

/// Makes an ssh key without a passphrase.
fn make_key(path: &Path) -> Result<(), ServerError> {
    let mut keygen = command("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "hostler-tests", "-f"]).arg(path);
    output(&mut keygen).map(drop)
}

fn configuration(root: &Path, port: u16) -> String {
    let root = root.display();
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {root}/host\nPidFile none\n\
         AuthorizedKeysFile {root}/authorized_keys\nStrictModes no\nUsePAM no\n\
         PubkeyAuthentication yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\nMaxStartups 100\n\
         LogLevel VERBOSE\n"
    )
}

fn spawn(root: &Path) -> Result<Process, ServerError> {
    let program = find("/usr/sbin", "sshd")
        .ok_or_else(|| ServerError("sshd is missing: run tests/setup/debian.sh".to_owned()))?;
    if is_root() {
        // Where sshd puts its unprivileged half; the package's service makes it at boot.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create("/run/sshd")
            .map_err(|error| ServerError::new("making /run/sshd", error))?;
    }
    let mut start = command(program);
    start.args(["-D", "-e", "-f"]).arg(root.join("sshd_config"));
    Process::start("sshd", &mut start, &root.join("sshd.log"))
}
