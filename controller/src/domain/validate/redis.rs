//! Redis addresses: one way to say which server a URL means, so that overlap is found.

use std::net::IpAddr;

/// The server and database a URL means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisServer {
    /// `host:port`, or `unix:/path`: equal for every way to write the same server.
    pub key: String,
    /// Whether the address means another server on each host.
    pub loopback: bool,
    pub database: u32,
}

impl RedisServer {
    /// Whether two local addresses of one host, at least one of them a socket, may lead to the
    /// same server: a socket does not say whose it is.
    #[must_use]
    pub fn may_be(&self, other: &Self) -> bool {
        let socket = |server: &Self| server.key.starts_with("unix:");
        self.loopback && other.loopback && (socket(self) || socket(other))
    }

    /// The key, if environments of other hosts can mean the same server.
    #[must_use]
    pub fn shared_key(&self) -> Option<String> {
        (!self.loopback).then(|| self.key.clone())
    }
}

/// Reads `redis://[user@]host:port[/database]` or `unix:///path`.
///
/// # Errors
/// What is wrong; never quotes the URL, which may hold a password by mistake.
pub fn server(url: &str) -> Result<RedisServer, String> {
    if url.len() > 512 || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("a Redis URL has at most 512 characters and no white space".to_owned());
    }
    if let Some(path) = url.strip_prefix("unix://") {
        super::text::path(path)?;
        return Ok(RedisServer { key: format!("unix:{path}"), loopback: true, database: 0 });
    }
    let shape = "a Redis URL is `redis://[user@]host:port[/database]` or `unix:///path`";
    let Some(rest) = url.strip_prefix("redis://") else { return Err(shape.to_owned()) };
    if rest.contains(['?', '#']) {
        return Err(format!("{shape}, without parameters"));
    }
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, address) = place.rsplit_once('@').unwrap_or(("", place));
    if user.contains(':') {
        return Err("a Redis URL holds no password: put it in a file on the host and name that \
                    file in `password_file`"
            .to_owned());
    }
    if !user.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Err("a Redis user has only letters, digits, `_`, `.` and `-`".to_owned());
    }
    if !hostler_protocol::join::is_address(address) {
        return Err(format!("{shape}: the host and the port are missing or wrong"));
    }
    let database = match database {
        "" => 0,
        digits => plain_number(digits).ok_or("the database of a Redis URL is a number")?,
    };
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    if port.starts_with('0') {
        return Err("write the port of a Redis URL without leading zeros".to_owned());
    }
    let (host, loopback) = canonical(host)?;
    Ok(RedisServer { key: format!("{host}:{port}"), loopback, database })
}

fn plain_number(digits: &str) -> Option<u32> {
    let plain = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// One spelling for every loopback address, and whether it is one. Other addresses have to be
/// written the one usual way, so that equal texts are equal servers.
fn canonical(host: &str) -> Result<(String, bool), String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let everywhere = |ip: &IpAddr| ip.to_canonical().is_unspecified();
    if bare.parse().as_ref().is_ok_and(everywhere) {
        return Err(
            "0.0.0.0 and [::] name no server: write 127.0.0.1 for one on the host".to_owned()
        );
    }
    let (loopback, usual) = match bare.parse::<IpAddr>() {
        Ok(ip) => {
            let ip = ip.to_canonical();
            (ip.is_loopback(), ip.to_string() == bare)
        }
        Err(_) => (["localhost", "ip6-localhost", "ip6-loopback"].contains(&bare.as_str()), true),
    };
    if loopback {
        return Ok(("localhost".to_owned(), true));
    }
    if !usual {
        return Err("write the IP address of a Redis URL the usual, shortest way".to_owned());
    }
    Ok((host.to_ascii_lowercase(), false))
}

/// Every key of one environment begins with this text.
///
/// # Errors
/// What a prefix looks like.
pub fn prefix(text: &str) -> Result<(), String> {
    if !text.is_empty() && text.len() <= 128 && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err("a Redis prefix has 1 to 128 bytes and no control characters; it is taken literally"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_server_are_one_key() {
        let key = |url: &str| server(url).unwrap().key;
        assert_eq!(key("redis://127.0.0.1:6379"), key("redis://localhost:6379/3"));
        assert_eq!(key("redis://[::1]:6379"), key("redis://u@LOCALHOST:6379"));
        assert_eq!(key("redis://Cache.Example:6379"), key("redis://cache.example:6379/1"));
        assert_ne!(key("redis://cache.example:6379"), key("redis://cache.example:6380"));
        assert_eq!(server("redis://10.0.0.1:6379/2").unwrap().database, 2);
    }

    #[test]
    fn loopback_and_sockets_are_a_server_per_host() {
        for url in ["redis://127.0.0.1:1", "redis://[::1]:1", "unix:///run/redis.sock"] {
            assert_eq!(server(url).unwrap().shared_key(), None, "{url}");
        }
        let shared = server("redis://10.0.0.1:6379").unwrap().shared_key();
        assert_eq!(shared.as_deref(), Some("10.0.0.1:6379"));
    }

    #[test]
    fn a_password_is_refused_and_never_repeated() {
        for url in ["redis://:hunter2@h:1", "redis://u:hunter2@h:1/0"] {
            let why = server(url).unwrap_err();
            assert!(why.contains("password_file") && !why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        for bad in [
            "",
            "redis://",
            "redis://h",
            "redis://h:0",
            "redis://h:1/x",
            "redis://h:1/1/2",
            "redis://h:1?db=1",
            "rediss://h:1",
            "http://h:1",
            "unix://run",
            "unix:///a/../b",
            "redis://h:1\n",
            "redis://[0:0::2]:1",
            "redis://[::ffff:10.0.0.1]:1",
            "redis://h:01",
            "redis://0.0.0.0:6379",
            "redis://[::]:6379",
            "redis://a b@h:1",
            "redis://h:1/+1",
        ] {
            assert!(server(bad).is_err(), "{bad:?} was taken for a Redis URL");
        }
    }

    #[test]
    fn prefixes_are_literal_text() {
        assert_eq!(prefix("shop*[a]:"), Ok(()));
        assert!(prefix("").is_err() && prefix("a\nb").is_err());
        assert!(prefix(&"a".repeat(129)).is_err());
    }
}
