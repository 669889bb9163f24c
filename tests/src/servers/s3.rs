//! An S3-compatible server (moto's), with one bucket and everything in memory.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Process, SERVER_SECS_MAX, ServerError, command, directory, wait_for, write};

/// The bucket there is.
pub const BUCKET: &str = "hostler";

/// A running server.
#[derive(Debug)]
pub struct S3 {
    pub port: u16,
    process: Process,
    dir: tempfile::TempDir,
}

/// Where `tests/setup/s3.sh` puts it.
fn program() -> PathBuf {
    let venv = std::env::var_os("HOSTLER_S3_VENV").map(PathBuf::from);
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/s3");
    venv.unwrap_or_else(usual).join("bin/moto_server")
}

impl S3 {
    /// Starts a server and makes the bucket.
    ///
    /// # Errors
    /// When it is not installed (`tests/setup/s3.sh`) or does not come up.
    pub fn start() -> Result<Self, ServerError> {
        let dir = directory("s3")?;
        let log = dir.path().join("s3.log");
        let mut start = command(program());
        start.args(["-H", "127.0.0.1", "-p", "0"]).env("PYTHONUNBUFFERED", "1");
        let mut process = Process::start("moto_server", &mut start, &log)?;
        // It says itself which port it was given.
        let port = wait_for("moto_server to say its port", 3 * SERVER_SECS_MAX, || {
            let told = std::fs::read_to_string(&log).unwrap_or_default();
            let port = told.split("http://127.0.0.1:").nth(1).and_then(|rest| {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            });
            match port {
                Some(port) => Some(Ok(port)),
                None if process.is_running() => None,
                None => Some(Err(ServerError::new("starting moto_server", told))),
            }
        })??;
        write(&dir.path().join("access"), "the-access-key\n")?;
        write(&dir.path().join("secret"), "the-secret-key\n")?;
        let server = Self { port, process, dir };
        wait_for("the bucket", SERVER_SECS_MAX, || server.put("", b"").ok())?;
        Ok(server)
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Files with an access key's id and with its secret.
    #[must_use]
    pub fn key_files(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("access"), self.dir.path().join("secret"))
    }

    /// Puts an object into the bucket, past whoever else does; the bucket itself for an empty name.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), ServerError> {
        let what = format!("PUT /{BUCKET}/{name}");
        let failed = |error: std::io::Error| ServerError::new(&what, error);
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_secs(SERVER_SECS_MAX))).map_err(failed)?;
        let path = if name.is_empty() { BUCKET.to_owned() } else { format!("{BUCKET}/{name}") };
        let head = format!(
            "PUT /{path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request\r\n\r\n",
            self.port,
            bytes.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes)).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        match answer.split(' ').nth(1) {
            Some("200") => Ok(()),
            _ => Err(ServerError::new(&what, answer)),
        }
    }

    /// Stops it: what it had is gone.
    pub fn stop(&mut self) {
        self.process.stop();
    }
}
