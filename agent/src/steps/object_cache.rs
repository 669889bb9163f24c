//! The Redis of an environment: who to be there, and the removal of its keys.

use hostler_protocol::job::{Code, RedisDoc};

use super::run::{Failure, Run, blocking};
use super::tools::Tools;
use crate::host::redis::{Connection, Removed, Server, Target};

const PASSWORD_BYTES_MAX: u64 = 4 * 1024;
/// Shortest prefix: an empty one would be everybody's keys.
const PREFIX_CHARS_MIN: usize = 1;

/// Where to connect and as whom; the password comes from a file on this host only.
///
/// # Errors
/// `SPEC_INVALID`, `POLICY_REFUSED`, `PATH_MISSING` and its like for the password file.
pub async fn target(tools: &Tools, redis: &RedisDoc) -> Result<Target, Failure> {
    let mut target = Target::parse(&redis.url).ok_or_else(|| {
        Failure::new(Code::SpecInvalid, "the Redis URL is none, or holds a password")
    })?;
    if redis.prefix.chars().count() < PREFIX_CHARS_MIN {
        return Err(Failure::new(Code::SpecInvalid, "the Redis prefix is empty"));
    }
    match &target.server {
        Server::Tcp { host, .. } if !tools.policy.redis_hosts.contains(host) => {
            let message = format!("this host does not permit connections to Redis at `{host}`");
            return Err(Failure::new(Code::PolicyRefused, message)
                .with_hint("Add it to `redis_hosts` in the agent's policy file if it should."));
        }
        Server::Tcp { .. } => {}
        Server::Unix { path } => tools.roots.check(path.as_ref())?,
    }
    if let Some(path) = redis.password_file.clone() {
        let roots = tools.roots.clone();
        let password = blocking(move || -> Result<_, Failure> {
            let content = roots.place(path.as_ref())?.read(PASSWORD_BYTES_MAX)?;
            let content = content.ok_or_else(|| {
                Failure::new(Code::PathMissing, format!("the password file {path} does not exist"))
            })?;
            let text = String::from_utf8_lossy(&content.bytes);
            Ok(text.lines().next().unwrap_or_default().trim_end().to_owned())
        })
        .await?;
        target.password = Some(password);
    }
    Ok(target)
}

/// Connects and asks for a sign of life.
///
/// # Errors
/// `REDIS_…`.
pub async fn ping(tools: &Tools, run: &mut Run, redis: &RedisDoc) -> Result<(), Failure> {
    run.step("redis_ping", async {
        let target = target(tools, redis).await?;
        Connection::open(&target).await?.ping().await?;
        Ok(((), "PING answered PONG".to_owned()))
    })
    .await
}

/// Removes every key of the environment, or counts them.
///
/// # Errors
/// `REDIS_…`, `CANCELLED`.
pub async fn purge(
    tools: &Tools,
    run: &mut Run,
    redis: &RedisDoc,
    dry_run: bool,
) -> Result<Removed, Failure> {
    let cancel = run.cancel().clone();
    let mut tell = run.teller("redis_purge");
    run.step("redis_purge", async {
        let target = target(tools, redis).await?;
        let mut connection = Connection::open(&target).await?;
        let mut told = 0;
        let removed = connection
            .remove_prefix(&redis.prefix, dry_run, &cancel, |keys| {
                if keys >= told + 10_000 {
                    told = keys;
                    tell(format!("{keys} keys"));
                }
            })
            .await?;
        let verb = if dry_run { "would be removed" } else { "removed" };
        Ok((removed, format!("{} keys {verb}", removed.found)))
    })
    .await
}
