//! A controller that says what a test tells it to: for the answers and faults a real one does not
//! give on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// `GET /api/hosts`, without the query.
    pub(super) fn line(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

/// What is answered.
pub(super) enum Say {
    Json(u16, Value),
    /// An event stream that ends after this text, with or without an `end`.
    Stream(String),
    /// An event stream that says this and then stays silent until the client goes.
    Hang(String),
    /// The connection is closed without a word.
    HangUp,
}

/// A problem document.
pub(super) fn problem(status: u16, code: &str, detail: &str) -> Say {
    let document = json!({
        "type": format!("urn:hostler:problem:{}", code.to_lowercase()), "title": "Refused",
        "status": status, "detail": detail, "instance": "req_01kah2m3n4p5q6r7s8t9v0w1x2",
        "code": code, "errors": [],
    });
    Say::Json(status, document)
}

/// One page of a list, the last one.
pub(super) fn page(items: Value) -> Say {
    Say::Json(200, json!({ "items": items, "next": null }))
}

type Script = dyn Fn(&Seen, usize) -> Say + Send + Sync;

/// The fake controller; stops when dropped.
pub(super) struct Fake {
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Answers each request by the script, which is told how many of that very line came before.
    pub(super) fn start(script: impl Fn(&Seen, usize) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let (kept, stop) = (Arc::clone(&seen), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (kept, script) = (Arc::clone(&kept), Arc::clone(&script));
                if let Ok(stream) = stream {
                    std::thread::spawn(move || serve(stream, &kept, &*script));
                }
            }
        });
        Self { port, seen, stopped, thread: Some(thread) }
    }

    /// Every request so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests of one line (`POST /api/sites`).
    pub(super) fn seen_as(&self, line: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.line() == line).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the loop, which then sees that it is to stop.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(stream: TcpStream, kept: &Mutex<Vec<Seen>>, script: &Script) {
    let Some(seen) = read(&stream) else { return };
    let nth = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let nth = kept.iter().filter(|other| other.line() == seen.line()).count();
        kept.push(seen.clone());
        nth
    };
    // A client that has gone meanwhile is no matter of ours.
    drop(answer(stream, script(&seen, nth)));
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (method, rest) = line.trim_end().split_once(' ')?;
    let target = rest.split(' ').next()?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut seen = Seen { method: method.to_owned(), target, headers, body: String::new() };
    let length = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_string(&mut seen.body).ok()?;
    Some(seen)
}

fn answer(mut stream: TcpStream, say: Say) -> std::io::Result<()> {
    let (status, kind, body, hang) = match say {
        Say::Json(status, document) => {
            let kind = if status < 400 { "json" } else { "problem+json" };
            (status, format!("application/{kind}"), document.to_string(), false)
        }
        Say::Stream(text) => (200, "text/event-stream".to_owned(), text, false),
        Say::Hang(text) => (200, "text/event-stream".to_owned(), text, true),
        Say::HangUp => return Ok(()),
    };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    if hang {
        // Ends when the client closes its side.
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}
