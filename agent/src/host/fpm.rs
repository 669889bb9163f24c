//! PHP-FPM's own word on its pool, asked over FastCGI.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const RESPONDER: u8 = 1;
const REQUEST_ID: u8 = 1;

/// Where a pool listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

impl Address {
    /// Reads an address as nginx writes it; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.trim_end_matches(':'));
            return path.is_absolute().then_some(Self::Unix(path));
        }
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.parse().ok()?;
        (!host.is_empty()).then_some(Self::Tcp { host, port })
    }
}

/// The workers of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Workers {
    #[serde(rename = "idle processes")]
    pub idle: u32,
    /// One of them answers the question.
    #[serde(rename = "active processes")]
    pub active: u32,
    /// Requests that wait for a worker.
    #[serde(rename = "listen queue")]
    pub queued: u32,
}

/// Why a pool says nothing.
#[derive(Debug, thiserror::Error)]
pub enum FpmError {
    #[error("the pool cannot be connected to")]
    Connect(#[source] std::io::Error),
    #[error("the conversation with the pool broke")]
    Talk(#[source] std::io::Error),
    /// It has no status page there.
    #[error("the pool has no status page at {path}")]
    NoStatus { path: String },
    #[error("no answer within {} ms", timeout.as_millis())]
    TimedOut { timeout: Duration },
}

/// Asks a pool whose status page (`pm.status_path`) is at `path`.
///
/// # Errors
/// [`FpmError`].
pub async fn workers(
    address: &Address,
    path: &str,
    timeout: Duration,
) -> Result<Workers, FpmError> {
    let asked = async {
        let body = match address {
            Address::Unix(socket) => {
                ask(UnixStream::connect(socket).await.map_err(FpmError::Connect)?, path).await
            }
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                ask(stream.map_err(FpmError::Connect)?, path).await
            }
        }
        .map_err(FpmError::Talk)?;
        let start = body.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        serde_json::from_slice(&body[start..])
            .map_err(|_| FpmError::NoStatus { path: path.to_owned() })
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(FpmError::TimedOut { timeout }),
    }
}

/// What the pool answers to a request for that path.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
) -> std::io::Result<Vec<u8>> {
    stream.write_all(&request(path)).await?;
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX {
        let mut head = [0; 8];
        stream.read_exact(&mut head).await?;
        let content = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut record = vec![0; content + usize::from(head[6])];
        stream.read_exact(&mut record).await?;
        match head[1] {
            STDOUT => body.extend_from_slice(&record[..content]),
            END_REQUEST => break,
            _ => {}
        }
    }
    Ok(body)
}

fn request(path: &str) -> Vec<u8> {
    let params: Vec<u8> = [
        ("SCRIPT_NAME", path),
        ("SCRIPT_FILENAME", path),
        ("REQUEST_METHOD", "GET"),
        ("QUERY_STRING", "json"),
    ]
    .iter()
    .flat_map(|(name, value)| pair(name, value))
    .collect();
    let begin = record(BEGIN_REQUEST, &[0, RESPONDER, 0, 0, 0, 0, 0, 0]);
    [begin, record(PARAMS, &params), record(PARAMS, &[]), record(STDIN, &[])].concat()
}

/// A name and a value of less than 128 bytes each; longer ones are cut.
fn pair(name: &str, value: &str) -> Vec<u8> {
    let short = |text: &str| text.bytes().take(127).collect::<Vec<u8>>();
    let (name, value) = (short(name), short(value));
    let lengths = [name.len(), value.len()].map(|length| u8::try_from(length).unwrap_or(0));
    [lengths.to_vec(), name, value].concat()
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(0).to_be_bytes();
    let mut record = vec![VERSION, kind, 0, REQUEST_ID, length[0], length[1], 0, 0];
    record.extend_from_slice(content);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_nginx_writes_them() {
        let unix = |path: &str| Some(Address::Unix(PathBuf::from(path)));
        assert_eq!(Address::parse("unix:/run/php.sock"), unix("/run/php.sock"));
        assert_eq!(Address::parse("unix:/run/php.sock:"), unix("/run/php.sock"));
        let tcp = |host: &str| Some(Address::Tcp { host: host.to_owned(), port: 9000 });
        assert_eq!(Address::parse("127.0.0.1:9000"), tcp("127.0.0.1"));
        assert_eq!(Address::parse("[::1]:9000"), tcp("::1"));
        for bad in ["php", "unix:php.sock", ":9000", "host:port"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_is_whole_records() {
        let bytes = request("/status");
        let (mut at, mut kinds) = (0, Vec::new());
        while at < bytes.len() {
            kinds.push(bytes[at + 1]);
            at += 8 + usize::from(u16::from_be_bytes([bytes[at + 4], bytes[at + 5]]));
        }
        assert_eq!((at, kinds), (bytes.len(), vec![BEGIN_REQUEST, PARAMS, PARAMS, STDIN]));
    }
}
