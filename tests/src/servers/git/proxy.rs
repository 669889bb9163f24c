//! A TCP proxy that breaks connections, or lets them hang, after so many bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::super::ServerError;

/// How a connection ends once it has had its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// It is closed.
    Cut,
    /// It stays open and nothing comes any more.
    Hang,
}

/// A running proxy; what it has open ends with its guard.
#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: u16,
    how: Break,
    /// Bytes of answers that one connection still gets; `u64::MAX` is all.
    bytes: AtomicU64,
    connections: AtomicUsize,
    /// Bytes that went through, both ways.
    passed: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// Passes connections on to a port of loopback; each gets so many bytes of answers.
    ///
    /// # Errors
    /// When loopback has no port to give.
    pub fn start(to: u16, how: Break, bytes: u64) -> Result<Self, ServerError> {
        let failed = |error: std::io::Error| ServerError::new("starting a proxy", error);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let shared = Arc::new(Shared {
            to,
            how,
            bytes: AtomicU64::new(bytes),
            connections: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Acquire) {
                    break;
                }
                serving.connections.fetch_add(1, Ordering::AcqRel);
                serving.serve(client);
            }
        });
        Ok(Self { port, shared })
    }

    /// From the next connection on, each gets so many bytes of answers.
    pub fn allow(&self, bytes: u64) {
        self.shared.bytes.store(bytes, Ordering::Release);
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// How many bytes have gone through, both ways, TLS and all.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes the one who waits for connections.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.to)) else { return };
        let (Ok(asks), Ok(asked)) = (client.try_clone(), server.try_clone()) else { return };
        let counting = Arc::clone(self);
        std::thread::spawn(move || {
            if let Ok(to) = asked.try_clone() {
                counting.pass(asks, to, u64::MAX);
            }
            drop(asked.shutdown(Shutdown::Write));
        });
        let shared = Arc::clone(self);
        let bytes = self.bytes.load(Ordering::Acquire);
        std::thread::spawn(move || {
            let (mut client, server) = (client, server);
            if let Ok(to) = client.try_clone()
                && let Ok(from) = server.try_clone()
            {
                shared.pass(from, to, bytes);
            }
            if shared.how == Break::Hang && bytes != u64::MAX {
                // Until the client gives up.
                let mut byte = [0; 1];
                while client.read(&mut byte).is_ok_and(|read| read > 0) {}
            }
            drop(client.shutdown(Shutdown::Both));
            drop(server.shutdown(Shutdown::Both));
        });
    }

    /// Passes on up to so many bytes.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, mut left: u64) {
        let mut buffer = [0; 16_384];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let Ok(read @ 1..) = from.read(&mut buffer[..most]) else { return };
            if to.write_all(&buffer[..read]).is_err() {
                return;
            }
            let read = u64::try_from(read).unwrap_or(left);
            self.passed.fetch_add(read, Ordering::AcqRel);
            if left != u64::MAX {
                left -= read;
            }
        }
    }
}
