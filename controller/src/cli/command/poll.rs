//! Waits for what has no stream of events, by asking for its document again and again.

use std::time::Duration;

use serde_json::Value;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::follow::over;
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
        let waited = tokio::select! {
            biased;
            ended = self.until_ended(context, &standing) => ended.map(Some),
            () = over(limit) => self.at_last(context, &standing).await.map(Some),
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(CliError::Runtime)?;
                out.say(&format!("detached; the {} goes on\n{resume}", self.name));
                Ok(None)
            }
        };
        waited.inspect_err(|_| out.say(resume))
    }

    /// When the time is over: it may have ended in the very last moment.
    async fn at_last(
        &self,
        context: &Context,
        standing: &impl Fn(&Value) -> Result<Option<String>, CliError>,
    ) -> Result<Value, CliError> {
        let document = context.client.get(&self.path).await?;
        if standing(&document)?.is_some() {
            let (name, resume) = (self.name, &self.resume);
            context.out.say(&format!("waited long enough; the {name} goes on\n{resume}"));
        }
        Ok(document)
    }

    async fn until_ended(
        &self,
        context: &Context,
        standing: &impl Fn(&Value) -> Result<Option<String>, CliError>,
    ) -> Result<Value, CliError> {
        let mut progress = Progress::new(&context.out);
        loop {
            let document = self.look(context, &mut progress).await?;
            match standing(&document)? {
                Some(how) => progress.remark(&how),
                None => return Ok(document),
            }
            self.pause().await;
        }
    }

    /// Asks until there is an answer, while the controller may be away.
    async fn look(&self, context: &Context, progress: &mut Progress) -> Result<Value, CliError> {
        let mut last = match context.client.get(&self.path).await {
            Err(error) if error.is_transient() => error,
            answered => return answered,
        };
        let answered = tokio::time::timeout(Duration::from_secs(AWAY_SECS), async {
            loop {
                progress.remark(&format!("{last}; the {} goes on, asking again", self.name));
                self.pause().await;
                match context.client.get(&self.path).await {
                    Err(error) if error.is_transient() => last = error,
                    answered => return answered,
                }
            }
        })
        .await;
        answered.unwrap_or(Err(last))
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(self.every_ms)).await;
    }
}
