//! Redis with nothing on disk.

use super::{
    Process, SERVER_SECS_MAX, ServerError, command, directory, free_port, wait_for, write,
};

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    pub port: u16,
    /// The default user's password, if one was asked for.
    pub password: Option<String>,
    process: Process,
    dir: tempfile::TempDir,
}

impl Redis {
    /// Starts Redis; further configuration lines (ACL users, say) in `lines`.
    ///
    /// # Errors
    /// When Redis is not installed or does not come up.
    pub fn start(password: Option<&str>, lines: &str) -> Result<Self, ServerError> {
        let dir = directory("redis")?;
        let port = free_port()?;
        let secret = password.map(|word| format!("requirepass {word}\n")).unwrap_or_default();
        let text = format!(
            "bind 127.0.0.1\nport {port}\nsave \"\"\nappendonly no\ndir {}\n{secret}{lines}\n",
            dir.path().display()
        );
        let file = dir.path().join("redis.conf");
        write(&file, &text)?;
        let log = dir.path().join("redis.log");
        let process = Process::start("redis", command("redis-server").arg(&file), &log)?;
        let redis = Self { port, password: password.map(str::to_owned), process, dir };
        wait_for("redis to answer", SERVER_SECS_MAX, || redis.is_ours().then_some(())).map_err(
            |error| {
                let told = std::fs::read_to_string(&log).unwrap_or_default();
                ServerError(format!("{error}\n{told}"))
            },
        )?;
        Ok(redis)
    }

    /// A connection as the default user.
    ///
    /// # Errors
    /// When it does not answer or refuses the password.
    pub fn connect(&self) -> Result<redis::Connection, ServerError> {
        let secret = self.password.as_deref().map(|word| format!(":{word}@")).unwrap_or_default();
        redis::Client::open(format!("redis://{secret}127.0.0.1:{}/0", self.port))
            .and_then(|client| client.get_connection())
            .map_err(|error| ServerError::new("connecting to redis", error))
    }

    /// The process, for tests that stop or freeze it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn is_ours(&self) -> bool {
        let Ok(mut connection) = self.connect() else { return false };
        let answer: Result<Vec<String>, _> =
            redis::cmd("CONFIG").arg("GET").arg("dir").query(&mut connection);
        let own = self.dir.path().canonicalize().unwrap_or_default();
        answer.is_ok_and(|pair| pair.get(1).is_some_and(|dir| own.as_os_str() == dir.as_str()))
    }
}
