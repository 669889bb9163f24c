//! PHP-FPM with one pool on a socket of its own.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{
    Process, SERVER_SECS_MAX, ServerError, command, directory, find, is_root, wait_for, write,
};

/// A running PHP-FPM.
#[derive(Debug)]
pub struct PhpFpm {
    pub socket: PathBuf,
    _process: Process,
    dir: tempfile::TempDir,
}

impl PhpFpm {
    /// Starts a pool of `children` workers.
    ///
    /// # Errors
    /// When PHP-FPM is not installed or does not come up.
    pub fn start(children: u32) -> Result<Self, ServerError> {
        let binary = find("/usr/sbin", "php-fpm").ok_or_else(|| {
            ServerError("php-fpm is missing: run tests/setup/debian.sh".to_owned())
        })?;
        let dir = directory("php")?;
        let socket = dir.path().join("php.sock");
        let log = dir.path().join("php.log");
        let user = if is_root() { "user = www-data\ngroup = www-data\n" } else { "" };
        let text = format!(
            "[global]\nerror_log = {log}\ndaemonize = no\n[www]\n{user}listen = {socket}\n\
             listen.mode = 0666\npm = static\npm.max_children = {children}\npm.status_path = /status\ncatch_workers_output = yes\n\
             php_admin_value[opcache.enable] = 0\n",
            log = log.display(),
            socket = socket.display(),
        );
        write(&dir.path().join("php-fpm.conf"), &text)?;
        let mut start = command(binary);
        start.arg("-n").arg("-F").arg("-y").arg(dir.path().join("php-fpm.conf"));
        let process = Process::start("php-fpm", &mut start, &log)?;
        wait_for("php-fpm's socket", SERVER_SECS_MAX, || UnixStream::connect(&socket).ok())
            .map_err(|error| {
                let told = std::fs::read_to_string(&log).unwrap_or_default();
                ServerError(format!("{error}\n{told}"))
            })?;
        Ok(Self { socket, _process: process, dir })
    }

    /// A directory of this pool that its sites may live in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
