//! Following a job to its end. The stream only says when to look; what is true is read.

use std::time::Duration;

use futures_util::StreamExt;
use hostler_controller::views::{Event, Job, JobState};
use serde_json::Value;

use super::Context;
use super::client::{Client, view};
use super::error::CliError;
use super::progress::Progress;
use super::sse::StreamReader;

/// A stream that is silent for this long is given up (the controller sends keep-alives).
const SILENCE_SECS_MAX: u64 = 45;
/// First and longest pause before connecting again, in milliseconds.
const PAUSE_MS_MIN: u64 = 200;
const PAUSE_MS_MAX: u64 = 5_000;
/// Failed requests in a row before the controller is called unreachable; about a minute.
const FAILURES_MAX: u32 = 16;

/// How following ended.
pub(super) enum Followed {
    /// The job is over, or held for a person.
    Settled(Box<Job>, Value),
    /// The time to wait is over, the job is not.
    OutOfTime,
    /// Ctrl-C.
    Detached,
}

/// Follows a job until it has ended or is held, at most `limit`.
pub(super) async fn follow(
    context: &Context,
    job_id: &str,
    limit: Option<Duration>,
) -> Result<Followed, CliError> {
    let mut progress = Progress::new(&context.out);
    tokio::select! {
        biased;
        settled = until_settled(&context.client, job_id, &mut progress) => settled,
        () = over(limit) => Ok(Followed::OutOfTime),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(CliError::Runtime)?;
            Ok(Followed::Detached)
        }
    }
}

/// Waits for so long, or for ever.
pub(super) async fn over(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

async fn until_settled(
    client: &Client,
    job_id: &str,
    progress: &mut Progress,
) -> Result<Followed, CliError> {
    let mut cursor: Option<String> = None;
    let mut failures = 0;
    let mut pause_ms = PAUSE_MS_MIN;
    loop {
        match client.get(&["jobs", job_id]).await {
            Ok(document) => {
                failures = 0;
                let job: Job = view(&document)?;
                if job.state.is_ended() || job.state == JobState::Held {
                    return Ok(Followed::Settled(Box::new(job), document));
                }
                progress.job(&job);
            }
            Err(error) if error.is_transient() && failures < FAILURES_MAX => {
                failures += 1;
                progress.remark(&format!("{error}; the job goes on, asking again"));
            }
            Err(error) => return Err(error),
        }
        let mut seen = 0;
        if failures == 0 {
            seen = read_stream(client, job_id, &mut cursor, progress).await;
        }
        if seen > 0 {
            pause_ms = PAUSE_MS_MIN;
        }
        // A stream that told something is followed by a look at the job at once; one that broke
        // or never began, by a pause.
        if seen == 0 {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
        }
    }
}

/// Reads a job's stream until it ends, breaks or falls silent; answers how many events came.
async fn read_stream(
    client: &Client,
    job_id: &str,
    cursor: &mut Option<String>,
    progress: &mut Progress,
) -> u32 {
    let response = match client.job_events(job_id, cursor.as_deref()).await {
        Ok(response) => response,
        Err(error) => {
            // A refused cursor is older than what the controller keeps: without it there is less
            // to show, and the job itself is read all the same.
            if !error.is_transient() {
                *cursor = None;
            }
            return 0;
        }
    };
    let (mut reader, mut seen) = (StreamReader::default(), 0);
    let mut pieces = response.bytes_stream();
    let silence = Duration::from_secs(SILENCE_SECS_MAX);
    'stream: while let Ok(Some(Ok(piece))) = tokio::time::timeout(silence, pieces.next()).await {
        let Ok(events) = reader.take(&piece) else { break };
        for event in events {
            seen += 1;
            if event.name == "end" {
                break 'stream;
            }
            // Kinds of a later version are skipped.
            if let Ok(event) = serde_json::from_str::<Event>(&event.data) {
                progress.event(&event);
                // A held job's stream goes on until a person acts: look at the job.
                if event.kind == "job.held" {
                    break 'stream;
                }
            }
        }
    }
    if let Some(id) = reader.last_id() {
        *cursor = Some(id.to_owned());
    }
    seen
}
