//! Redis: ping, and the removal of one prefix. The only file that names the Redis client.
//!
//! Every command has its own short time limit; nothing here retries: whether to try again is
//! the job's to decide. Keys are found by SCAN and removed by UNLINK in bounded batches, so that
//! a neighbour on the same server is never made to wait for more than one batch.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, ServerErrorKind,
};
use tokio_util::sync::CancellationToken;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);
/// Keys one SCAN looks at.
const SCAN_COUNT: usize = 1000;
/// Keys one UNLINK removes.
const UNLINK_KEYS_MAX: usize = 500;

/// A Redis server and who to be there.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub server: Server,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: u32,
}

// A password has no place in any log.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("server", &self.server)
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// Where a Redis server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    Tcp { host: String, port: u16 },
    Unix { path: String },
}

impl Target {
    /// Reads `redis://[user@]host[:port][/database]` or `unix:///path`; `None` when it is
    /// nothing of the kind or holds a password, which must never travel in a URL.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        if let Some(path) = url.strip_prefix("unix://") {
            let server = Server::Unix { path: path.to_owned() };
            return path.starts_with('/').then_some(Self {
                server,
                user: None,
                password: None,
                database: 0,
            });
        }
        let rest = url.strip_prefix("redis://")?;
        let (authority, database) = match rest.split_once('/') {
            Some((authority, "")) => (authority, 0),
            Some((authority, database)) => (authority, database.parse().ok()?),
            None => (rest, 0),
        };
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.is_empty() || user.contains(':')) {
            return None;
        }
        let address: http::uri::Authority = address.parse().ok()?;
        let host = address.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let server = Server::Tcp { host, port: address.port_u16().unwrap_or(6379) };
        Some(Self { server, user: user.map(str::to_owned), password: None, database })
    }
}

/// Why Redis did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RedisFailure {
    /// No connection.
    #[error("Redis cannot be connected to")]
    Unreachable {
        #[source]
        source: RedisError,
    },
    /// Wrong or missing credentials.
    #[error("Redis refuses the credentials")]
    Auth {
        #[source]
        source: RedisError,
    },
    /// The user may not do this.
    #[error("Redis does not permit this user to {command}")]
    Denied {
        command: &'static str,
        #[source]
        source: RedisError,
    },
    /// No answer in time.
    #[error("Redis gave no answer to {command} in time")]
    TimedOut { command: &'static str },
    /// Anything else.
    #[error("Redis failed at {command}")]
    Failed {
        command: &'static str,
        #[source]
        source: RedisError,
    },
    /// The job was cancelled.
    #[error("stopped because the job was cancelled")]
    Cancelled,
}

/// What a removal found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    pub found: u64,
    pub removed: u64,
    /// Memory of the keys found, by Redis' own estimate; 0 where the user may not ask for it.
    pub bytes: u64,
}

/// An open connection.
pub struct Connection(MultiplexedConnection);

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`RedisFailure`].
    pub async fn open(target: &Target) -> Result<Self, RedisFailure> {
        const COMMAND: &str = "connect";
        let mut settings = RedisConnectionInfo::default()
            .set_db(i64::from(target.database))
            .set_skip_set_lib_name();
        if let Some(user) = &target.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &target.password {
            settings = settings.set_password(password);
        }
        let address = match &target.server {
            Server::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
            Server::Unix { path } => ConnectionAddr::Unix(path.into()),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT));
        let failed = |source| explain(COMMAND, source);
        let client = address
            .into_connection_info()
            .and_then(|info| Client::open(info.set_redis_settings(settings)))
            .map_err(failed)?;
        // The client's own limit starts after name resolution; ours covers that too.
        let connect = client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(CONNECT_TIMEOUT + COMMAND_TIMEOUT, Box::pin(connect)).await {
            Ok(connected) => connected.map(Self).map_err(failed),
            Err(_) => Err(RedisFailure::TimedOut { command: COMMAND }),
        }
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// [`RedisFailure`].
    pub async fn ping(&mut self) -> Result<(), RedisFailure> {
        let answer: String = ::redis::cmd("PING")
            .query_async(&mut self.0)
            .await
            .map_err(|source| explain("PING", source))?;
        if answer == "PONG" {
            return Ok(());
        }
        let source = RedisError::from((ErrorKind::UnexpectedReturnType, "not a PONG", answer));
        Err(RedisFailure::Failed { command: "PING", source })
    }

    /// Whether the user may list keys and remove some.
    ///
    /// # Errors
    /// [`RedisFailure::Denied`] above all.
    pub async fn check_permissions(&mut self, prefix: &str) -> Result<(), RedisFailure> {
        self.scan(0, prefix).await?;
        // A key nobody has: removing it shows the permission and changes nothing.
        let nobody = format!("{prefix}hostler:permission-check:{}", "0".repeat(32));
        self.unlink(&[nobody.into_bytes()]).await.map(|_| ())
    }

    /// Removes every key that begins with `prefix`, taken literally; with `dry_run` only counts
    /// (SCAN may then count a key twice that moved while it was looking).
    ///
    /// # Errors
    /// [`RedisFailure`]; what was removed until then stays removed.
    pub async fn remove_prefix(
        &mut self,
        prefix: &str,
        dry_run: bool,
        cancel: &CancellationToken,
        mut progress: impl FnMut(u64),
    ) -> Result<Removed, RedisFailure> {
        let mut total = Removed::default();
        let mut cursor = 0;
        let mut may_measure = true;
        loop {
            if cancel.is_cancelled() {
                return Err(RedisFailure::Cancelled);
            }
            let (next, mut keys) = self.scan(cursor, prefix).await?;
            // The pattern is escaped; this is the guarantee that does not rest on it.
            keys.retain(|key| key.starts_with(prefix.as_bytes()));
            for batch in keys.chunks(UNLINK_KEYS_MAX) {
                if may_measure {
                    let measured = self.measure(batch).await?;
                    may_measure = measured.is_some();
                    total.bytes += measured.unwrap_or(0);
                }
                if !dry_run {
                    total.removed += self.unlink(batch).await?;
                }
            }
            total.found = if dry_run { total.found + keys.len() as u64 } else { total.removed };
            progress(total.found);
            cursor = next;
            if cursor == 0 {
                return Ok(total);
            }
        }
    }

    async fn scan(
        &mut self,
        cursor: u64,
        prefix: &str,
    ) -> Result<(u64, Vec<Vec<u8>>), RedisFailure> {
        ::redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{}*", escape_glob(prefix)))
            .arg("COUNT")
            .arg(SCAN_COUNT)
            .query_async(&mut self.0)
            .await
            .map_err(|source| explain("SCAN", source))
    }

    /// Memory of these keys in bytes; `None` if the user may not ask, which is no failure: an
    /// object cache needs no right to measure.
    async fn measure(&mut self, keys: &[Vec<u8>]) -> Result<Option<u64>, RedisFailure> {
        let mut pipeline = ::redis::pipe();
        for key in keys {
            pipeline.cmd("MEMORY").arg("USAGE").arg(key);
        }
        let sizes: Result<Vec<Option<u64>>, _> = pipeline.query_async(&mut self.0).await;
        match sizes {
            Ok(sizes) => Ok(Some(sizes.into_iter().flatten().sum())),
            Err(error) => {
                let failure = explain("MEMORY USAGE", error);
                if matches!(failure, RedisFailure::Denied { .. }) { Ok(None) } else { Err(failure) }
            }
        }
    }

    async fn unlink(&mut self, keys: &[Vec<u8>]) -> Result<u64, RedisFailure> {
        ::redis::cmd("UNLINK")
            .arg(keys)
            .query_async(&mut self.0)
            .await
            .map_err(|source| explain("UNLINK", source))
    }
}

/// Makes a text match only itself in a Redis pattern.
#[must_use]
pub fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn explain(command: &'static str, source: RedisError) -> RedisFailure {
    let code = source.code().unwrap_or_default().to_owned();
    let auth =
        source.kind() == ErrorKind::AuthenticationFailed || code == "WRONGPASS" || code == "NOAUTH";
    if source.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) || code == "NOPERM" {
        RedisFailure::Denied { command, source }
    } else if auth {
        RedisFailure::Auth { source }
    } else if source.is_timeout() {
        RedisFailure::TimedOut { command }
    } else if source.is_connection_refusal() || source.is_io_error() || command == "connect" {
        RedisFailure::Unreachable { source }
    } else {
        RedisFailure::Failed { command, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_never_hold_a_password() {
        let target = Target::parse("redis://site@127.0.0.1:6380/3").unwrap();
        assert_eq!(target.server, Server::Tcp { host: "127.0.0.1".into(), port: 6380 });
        assert_eq!((target.user.as_deref(), target.database), (Some("site"), 3));
        let target = Target::parse("unix:///run/redis/redis.sock").unwrap();
        assert_eq!(target.server, Server::Unix { path: "/run/redis/redis.sock".into() });
        for bad in ["redis://u:p@h", "redis://:p@h", "http://h", "unix://x", "redis://h/x"] {
            assert!(Target::parse(bad).is_none(), "{bad} was taken");
        }
    }

    #[test]
    fn glob_characters_stand_for_themselves() {
        assert_eq!(escape_glob("a*b[c]?\\"), "a\\*b\\[c\\]\\?\\\\");
    }
}
