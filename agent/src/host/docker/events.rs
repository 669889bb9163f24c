//! What the engine tells of containers as it happens, over a connection that stays open.

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::engine::{ASK_TIMEOUT, Engine, EngineError, Sender, filters, named, request};
use super::model::PROJECT;

/// What is listened to. Health checks run programs, which is told too, and is none of it.
const HAPPENINGS: &[&str] =
    &["create", "start", "die", "destroy", "rename", "pause", "unpause", "health_status"];
/// Longest event, in bytes; it carries the container's labels.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// An open stream of events; closed when dropped.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    buffer: Vec<u8>,
    path: String,
    /// Without it nobody would wait for the rest of the answer.
    _sender: Sender,
    /// The connection is driven beside it.
    _driver: AbortOnDropHandle<()>,
}

impl Engine {
    /// Listens to what happens to the containers of compose projects.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn events(&self) -> Result<Events, EngineError> {
        Events::open(self).await
    }
}

impl Events {
    async fn open(engine: &Engine) -> Result<Self, EngineError> {
        let wanted = json!({ "type": ["container"], "label": [PROJECT], "event": HAPPENINGS });
        let path = format!("/events?filters={}", filters(&wanted));
        let timed_out = |_| EngineError::TimedOut { timeout: ASK_TIMEOUT };
        tokio::time::timeout(ASK_TIMEOUT, Self::ask(engine, path)).await.map_err(timed_out)?
    }

    async fn ask(engine: &Engine, path: String) -> Result<Self, EngineError> {
        let request = request(Method::GET, &path)?;
        let (mut sender, connection) = engine.connect().await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a stream of events broke");
            }
        });
        let driver = AbortOnDropHandle::new(driver);
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|source| EngineError::Http { source })?;
        let status = answer.status();
        if !status.is_success() {
            let message = status.canonical_reason().unwrap_or("without a word").to_owned();
            return Err(EngineError::Refused {
                what: named(&path),
                status: status.as_u16(),
                message,
            });
        }
        let body = answer.into_body();
        Ok(Self { body, buffer: Vec::new(), path, _sender: sender, _driver: driver })
    }

    /// Waits until something happens; answers the compose project. `None` when the engine has
    /// ended the stream. Dropped while it waits, nothing is lost.
    ///
    /// # Errors
    /// [`EngineError`]; there is nothing more to come then.
    pub async fn next(&mut self) -> Result<Option<String>, EngineError> {
        loop {
            while let Some(line) = self.line() {
                if let Some(project) = project(&line) {
                    return Ok(Some(project));
                }
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                let (what, limit) = (named(&self.path), EVENT_BYTES_MAX);
                return Err(EngineError::TooLarge { what, limit });
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|source| EngineError::Http { source })?;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }

    /// The next whole line.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let rest = self.buffer.split_off(end + 1);
        Some(std::mem::replace(&mut self.buffer, rest))
    }
}

/// The compose project of the container an event is about; `None` where it is no such event.
fn project(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Event {
        actor: Actor,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Actor {
        attributes: std::collections::BTreeMap<String, String>,
    }
    let event: Event = serde_json::from_slice(line).ok()?;
    event.actor.attributes.get(PROJECT).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_of_an_event_is_found() {
        let line = br#"{"Type":"container","Action":"die","Actor":{"ID":"ab","Attributes":
            {"com.docker.compose.project":"shop","exitCode":"137"}},"time":1}"#;
        assert_eq!(project(line).as_deref(), Some("shop"));
        assert_eq!(project(br#"{"Actor":{"ID":"ab","Attributes":{}}}"#), None);
        assert_eq!(project(b"nonsense\n"), None);
    }
}
