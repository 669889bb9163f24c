//! A small HTTP/1.0 client for JSON, blocking, one connection a request: enough for tests, and
//! independent of the clients under test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::servers::ServerError;

/// The longest an answer may take (`Prefer: wait` included), in seconds.
const ANSWER_SECS_MAX: u64 = 90;

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Reply {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// A header's value, by its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body, if the status is the one expected.
    ///
    /// # Errors
    /// Any other status, with the body.
    pub fn expect(&self, status: u16) -> Result<Value, ServerError> {
        if self.status == status {
            return Ok(self.json());
        }
        Err(ServerError(format!("expected {status}, got {}: {}", self.status, self.text)))
    }
}

/// Sends one request to a port of loopback.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Reply, ServerError> {
    let failed =
        |error: std::io::Error| ServerError::new(&format!("{method} {path} on port {port}"), error);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECS_MAX))).map_err(failed)?;
    let mut text = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        text.push_str("Content-Type: application/json\r\n");
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(failed)?;
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| ServerError(format!("{method} {path}: the answer is not HTTP")))
}

fn parse(text: &str) -> Option<Reply> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Some(Reply { status, headers, text: body.to_owned() })
}
