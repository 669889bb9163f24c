//! Waits for what has no stream of events, by asking for its document again and again.

use std::time::Duration;

use serde_json::Value;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::progress::Progress;

/// How long the controller may be away before the waiting ends: as docs/CLI.md says.
const AWAY_SECS: u64 = 60;

/// What is waited for.
pub(super) struct Polled<'a> {
    pub(super) path: [&'a str; 2],
    /// As messages call it.
    pub(super) name: &'static str,
    /// How to come back to it.
    pub(super) resume: String,
    /// Milliseconds between two looks.
    pub(super) every_ms: u64,
}

impl Polled<'_> {
    /// Waits to its end, or for so long: its document then, or none if somebody pressed Ctrl-C.
    /// `standing` says how a document stands, and nothing of one that has ended.
    pub(super) async fn wait(
        &self,
        context: &Context,
        limit: Option<Duration>,
        standing: impl Fn(&Value) -> Result<Option<String>, CliError>,
    ) -> Result<Option<Value>, CliError> {
        let (out, resume) = (&context.out, &self.resume);
        let over = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = self.until_ended(context, &standing) => ended.map(Some),
            () = over => {
                // It may have ended in the very last moment.
                let document = context.client.get(&self.path).await?;
                if standing(&document)?.is_some() {
                    out.say(&format!("waited long enough; the {} goes on\n{resume}", self.name));
                }
                Ok(Some(document))
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(CliError::Runtime)?;
                out.say(&format!("detached; the {} goes on\n{resume}", self.name));
                Ok(None)
            }
        }
    }

    async fn until_ended(
        &self,
        context: &Context,
        standing: &impl Fn(&Value) -> Result<Option<String>, CliError>,
    ) -> Result<Value, CliError> {
        let failures_max = AWAY_SECS * 1000 / self.every_ms;
        let mut progress = Progress::new(&context.out);
        let mut failures = 0;
        loop {
            match context.client.get(&self.path).await {
                Ok(document) => {
                    failures = 0;
                    match standing(&document)? {
                        Some(how) => progress.remark(&how),
                        None => return Ok(document),
                    }
                }
                Err(error) if error.is_transient() && failures < failures_max => {
                    failures += 1;
                    progress.remark(&format!("{error}; the {} goes on, asking again", self.name));
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(self.every_ms)).await;
        }
    }
}
