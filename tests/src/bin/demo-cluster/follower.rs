//! Somebody who follows every event, at whichever controller answers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use hostler_tests::servers::ServerError;

/// The longest an event may be waited for, in seconds.
const SECS_MAX: u64 = 90;

/// A thread that follows.
pub(crate) struct Follower {
    seen: mpsc::Receiver<Seen>,
    followed: Followed,
    connection: usize,
}

/// One event, and over which connection it came.
struct Seen {
    seq: i64,
    connection: usize,
}

/// What was followed.
pub(crate) struct Followed {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) connections: usize,
}

impl Follower {
    /// Follows from the first event on, at the first of these ports; when a connection is lost, goes on at the next controller from
    /// the last event it saw. Comes back once it follows.
    pub(crate) fn start(ports: Vec<u16>) -> Result<Self, ServerError> {
        let (tell, seen) = mpsc::channel();
        std::thread::Builder::new()
            .spawn(move || {
                let mut last = 0;
                for connection in 0.. {
                    let port = ports[connection % ports.len()];
                    // A connection that breaks is what this is about.
                    if follow(port, connection, &mut last, &tell).is_ok_and(|open| !open) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            })
            .map_err(|error| ServerError::new("starting a thread", error))?;
        let first = next(&seen)?;
        let followed = Followed { first: first.seq, last: first.seq, connections: 1 };
        Ok(Self { seen, followed, connection: first.connection })
    }

    /// Waits for an event; every one up to it must have come, once and in order.
    pub(crate) fn until(mut self, newest: i64) -> Result<Followed, ServerError> {
        while self.followed.last < newest {
            let Seen { seq, connection } = next(&self.seen)?;
            if seq != self.followed.last + 1 {
                let before = self.followed.last;
                return Err(ServerError(format!("event {before} was followed by {seq}")));
            }
            self.followed.last = seq;
            self.followed.connections += usize::from(connection != self.connection);
            self.connection = connection;
        }
        Ok(self.followed)
    }
}

fn next(seen: &mpsc::Receiver<Seen>) -> Result<Seen, ServerError> {
    seen.recv_timeout(Duration::from_secs(SECS_MAX))
        .map_err(|error| ServerError::new("following events", error))
}

/// Follows at one controller until the connection ends; false when nobody listens to us any more.
fn follow(
    port: u16,
    connection: usize,
    last: &mut i64,
    tell: &mpsc::Sender<Seen>,
) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(SECS_MAX)))?;
    write!(
        stream,
        "GET /api/events HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nLast-Event-ID: {last}\r\n\r\n"
    )?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let Some(seq) = line.strip_prefix("id: ").and_then(|text| text.parse().ok()) else {
            continue;
        };
        *last = seq;
        if tell.send(Seen { seq, connection }).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
