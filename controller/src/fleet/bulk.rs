//! Bundles on their way out: a connection of its own per host, a stream for each thing asked for.
//!
//! A host gets only what its own rows name. What waits to be sent is bounded for each connection by
//! its send window, and in all by the number of answers being given at once; who takes too long is
//! cut off and may ask again from where it was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hostler_protocol::bulk::{Answer, Ask, IDLE_SECS, STREAMS_MAX, code, payload_bytes, reset};
use hostler_protocol::bundle::is_digest;
use hostler_protocol::codec::{self, HEADER_BYTES};
use hostler_protocol::id::HostId;
use hostler_protocol::message::close;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::answers::{Refused, refused};
use super::{Fleet, PeerIdentity};
use crate::bundles::{BundleError, Content};

/// Bytes that may wait here for one host's acknowledgement.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// Seconds a host has for its question.
const ASK_SECS: u64 = 10;
/// Seconds a host has to take one piece, and all of one answer.
const PIECE_SECS: u64 = 30;
const ANSWER_SECS: u64 = 600;
/// Milliseconds for which a host that may have a bundle is not looked up again.
const PERMITTED_MS: u64 = 5_000;

/// One connection as its answers see it.
struct Line {
    fleet: Arc<Fleet>,
    host: HostId,
    /// The bundle the host may have, and until when that need not be looked up again.
    permitted: Mutex<Option<(String, u64)>>,
}

/// Serves the connection of an enrolled host until it ends or falls silent.
pub(super) async fn serve(fleet: Arc<Fleet>, connection: Connection, peer: PeerIdentity) {
    connection.set_send_window(SEND_WINDOW_BYTES);
    let _entry = fleet.lines.enter(peer.host(), &connection);
    // The revocation may have come between the handshake and the entry that its follower looks at.
    match peer.holds(&fleet.app).await {
        Ok(true) => {}
        Ok(false) => {
            return connection.close(VarInt::from_u32(close::REVOKED), b"this host was revoked");
        }
        Err(error) => {
            tracing::warn!(%error, host.id = %peer.host(), "a host cannot be looked up");
            return connection.close(VarInt::from_u32(close::UNAVAILABLE), b"try again later");
        }
    }
    let host = peer.host().clone();
    let line = Arc::new(Line { fleet, host, permitted: Mutex::new(None) });
    let slots = Arc::new(Semaphore::new(STREAMS_MAX as usize));
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            _ = connection.closed() => break,
            asked = next(&connection, &slots) => {
                let Some((send, receive, slot)) = asked else { break };
                answers.spawn(answer(Arc::clone(&line), send, receive, slot));
            }
            Some(_) = answers.join_next(), if !answers.is_empty() => {}
            () = tokio::time::sleep(Duration::from_secs(IDLE_SECS)), if answers.is_empty() => {
                connection.close(VarInt::from_u32(close::DONE), b"nothing is asked for");
                break;
            }
        }
    }
    answers.shutdown().await;
}

/// The next question, once there is room for its answer.
async fn next(
    connection: &Connection,
    slots: &Arc<Semaphore>,
) -> Option<(SendStream, RecvStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let (send, receive) = connection.accept_bi().await.ok()?;
    Some((send, receive, slot))
}

async fn answer(
    line: Arc<Line>,
    mut send: SendStream,
    mut receive: RecvStream,
    _slot: OwnedSemaphorePermit,
) {
    let asked = tokio::time::timeout(Duration::from_secs(ASK_SECS), read_ask(&mut receive)).await;
    let Ok(Some(ask)) = asked else {
        count("malformed");
        // A stream that is gone by itself needs no reset.
        return drop(send.reset(VarInt::from_u32(reset::BROKEN)));
    };
    let Some(_turn) = line.fleet.lines.turn().await else { return };
    let given =
        tokio::time::timeout(Duration::from_secs(ANSWER_SECS), give(&line, &ask, &mut send));
    match given.await {
        Ok(Ok(result)) => count(result),
        Ok(Err(Cut::Gone)) => count("cut"),
        Ok(Err(Cut::Broken(error))) => {
            count("broken");
            tracing::warn!(host.id = %line.host, bundle = ask.bundle(),
                error = &error as &dyn std::error::Error, "an answer with a bundle broke off");
            drop(send.reset(VarInt::from_u32(reset::BROKEN)));
        }
        Ok(Err(Cut::Slow)) | Err(_) => {
            count("slow");
            tracing::debug!(host.id = %line.host, bundle = ask.bundle(), "a host is slow to take a bundle");
            drop(send.reset(VarInt::from_u32(reset::SLOW)));
        }
    }
}

fn count(result: &'static str) {
    metrics::counter!("hostler_bundle_answers_total", "result" => result).increment(1);
}

async fn read_ask(receive: &mut RecvStream) -> Option<Ask> {
    let mut header = [0; HEADER_BYTES];
    receive.read_exact(&mut header).await.ok()?;
    let mut payload = vec![0; payload_bytes(header).ok()?];
    receive.read_exact(&mut payload).await.ok()?;
    codec::decode(&payload).ok()
}

/// Why an answer was not given to its end.
enum Cut {
    /// The host has gone, or wants no more.
    Gone,
    Slow,
    Broken(BundleError),
}

async fn give(line: &Line, ask: &Ask, send: &mut SendStream) -> Result<&'static str, Cut> {
    let mut content = match find(line, ask).await {
        Ok(content) => content,
        Err(Refused { code, message }) => {
            tracing::info!(host.id = %line.host, bundle = ask.bundle(), code, "a bundle was refused");
            let code = code.to_owned();
            say(send, &Answer::Refused { code, message }).await?;
            return end(send).await.map(|()| "refused");
        }
    };
    say(send, &Answer::Found { bytes: content.bytes_total() }).await?;
    while let Some(piece) = content.next().await.map_err(Cut::Broken)? {
        metrics::counter!("hostler_bundle_bytes_total").increment(piece.len() as u64);
        write(send, &piece).await?;
    }
    end(send).await.map(|()| "given")
}

async fn say(send: &mut SendStream, answer: &Answer) -> Result<(), Cut> {
    let frame = codec::encode(answer).map_err(|_| Cut::Gone)?;
    write(send, &frame).await
}

async fn write(send: &mut SendStream, bytes: &[u8]) -> Result<(), Cut> {
    let written = tokio::time::timeout(Duration::from_secs(PIECE_SECS), send.write_all(bytes));
    written.await.map_err(|_| Cut::Slow)?.map_err(|_| Cut::Gone)
}

/// The place is free for another answer only when the host has this one.
async fn end(send: &mut SendStream) -> Result<(), Cut> {
    send.finish().map_err(|_| Cut::Gone)?;
    let taken = tokio::time::timeout(Duration::from_secs(PIECE_SECS), send.stopped()).await;
    taken.map_err(|_| Cut::Slow)?.map(drop).map_err(|_| Cut::Gone)
}

async fn find(line: &Line, ask: &Ask) -> Result<Content, Refused> {
    let bundle = ask.bundle();
    let digests = match ask {
        Ask::Manifest { .. } => is_digest(bundle),
        Ask::Blob { sha256, .. } => is_digest(bundle) && is_digest(sha256),
    };
    if !digests {
        return Err(refused(code::INVALID, "that is no bundle's or blob's name"));
    }
    let bundles = match line.bundles(bundle).await {
        Ok(Some(bundles)) => bundles,
        Ok(None) => return Err(not_found()),
        Err(error) => {
            tracing::warn!(%error, host.id = %line.host, "whose a bundle is cannot be looked up");
            return Err(refused(code::UNAVAILABLE, "the controller cannot look that up just now"));
        }
    };
    let content = match ask {
        Ask::Manifest { offset, .. } => bundles.open_manifest(bundle, *offset).await,
        Ask::Blob { sha256, offset, .. } => {
            let manifest = bundles.manifest(bundle).await.map_err(|error| line.refusal(&error))?;
            if !manifest.files.iter().any(|file| file.sha256 == *sha256) {
                return Err(not_found());
            }
            bundles.open(sha256, *offset).await
        }
    };
    content.map_err(|error| line.refusal(&error))
}

fn not_found() -> Refused {
    refused(code::NOT_FOUND, "this controller has no such bundle for this host")
}

impl Line {
    /// The store, if the host may have that bundle.
    async fn bundles(
        &self,
        bundle: &str,
    ) -> Result<Option<&crate::bundles::Bundles>, crate::store::StoreError> {
        let app = &self.fleet.app;
        let now_ms = app.clock.monotonic_ms();
        let known = self
            .permitted()
            .as_ref()
            .is_some_and(|(permitted, until_ms)| permitted == bundle && now_ms < *until_ms);
        if known {
            return Ok(app.desired.bundles());
        }
        let bundles = app.bundles_for(&self.host, bundle).await?;
        if bundles.is_some() {
            *self.permitted() = Some((bundle.to_owned(), now_ms.saturating_add(PERMITTED_MS)));
        }
        Ok(bundles)
    }

    fn permitted(&self) -> MutexGuard<'_, Option<(String, u64)>> {
        self.permitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, error: &BundleError) -> Refused {
        match error {
            BundleError::Missing { .. } => not_found(),
            BundleError::Damaged { .. } | BundleError::Invalid(_) => {
                refused(code::DAMAGED, error.to_string())
            }
            BundleError::Offset { .. } => refused(code::INVALID, error.to_string()),
            BundleError::TooLarge { .. }
            | BundleError::Incomplete { .. }
            | BundleError::NoSpace { .. }
            | BundleError::File { .. }
            | BundleError::Bucket { .. }
            | BundleError::Settings(_)
            | BundleError::Broken => {
                tracing::error!(host.id = %self.host, error = error as &dyn std::error::Error,
                    "a bundle cannot be given to a host");
                refused(code::UNAVAILABLE, "the controller cannot read that just now")
            }
        }
    }
}
