//! The engine's HTTP API over its Unix socket: one connection per request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::logs;
use super::model::{Container, Glance, Listed, Made, PROJECT, Volume, Volumes, at_us};

/// Longest wait for an answer to a question.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// Seconds a container gets to end by itself before it is killed.
const STOP_SECS: u64 = 10;
/// Longest wait for something to be stopped or removed.
const ACT_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines of a container's output that are asked for.
const LOG_LINES: u32 = 20;

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No connection.
    #[error("the Docker engine at {} cannot be reached", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The conversation broke.
    #[error("the Docker engine did not answer in HTTP")]
    Http {
        #[source]
        source: hyper::Error,
    },
    /// Too slow.
    #[error("no answer from the Docker engine within {} s", timeout.as_secs())]
    TimedOut { timeout: Duration },
    /// It answered and refused.
    #[error("the Docker engine refused {what} with status {status}: {message}")]
    Refused { what: String, status: u16, message: String },
    /// It answered something else than expected.
    #[error("the Docker engine's answer to {what} cannot be read")]
    Unreadable {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    /// The answer is larger than its limit.
    #[error("the Docker engine's answer to {what} has more than {limit} bytes")]
    TooLarge { what: String, limit: usize },
}

pub(super) type Sender = SendRequest<Empty<Bytes>>;
type Driver = Connection<TokioIo<UnixStream>, Empty<Bytes>>;

/// The engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The engine behind that socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn ping(&self) -> Result<(), EngineError> {
        self.ask(Method::GET, "/_ping", ASK_TIMEOUT).await.map(drop)
    }

    /// Every container of a compose project, sorted by name; those of `compose run` are left out.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn containers(&self, project: &str) -> Result<Vec<Container>, EngineError> {
        let path = format!("/containers/json?all=1&filters={}", of_project(project));
        let listed: Vec<Listed> = self.read(&path).await?;
        let mut containers = Vec::with_capacity(listed.len());
        for Listed { id } in listed {
            // One that went meanwhile is none.
            containers.extend(self.found::<Container>(&format!("/containers/{id}/json")).await?);
        }
        containers.retain(|container| !container.is_one_off());
        containers.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(containers)
    }

    /// What each compose project's containers look like from afar, by project: equal as long as
    /// none was made, removed, started, stopped, or changed its health. One request.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn glance(&self) -> Result<BTreeMap<String, Vec<String>>, EngineError> {
        let path = format!("/containers/json?all=1&filters={}", labelled(PROJECT));
        let mut projects: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for own in self.read::<Vec<Glance>>(&path).await? {
            projects.entry(own.project().to_owned()).or_default().push(own.mark());
        }
        projects.values_mut().for_each(|marks| marks.sort());
        Ok(projects)
    }

    /// The named volumes of a compose project, sorted.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn volumes(&self, project: &str) -> Result<Vec<String>, EngineError> {
        let path = format!("/volumes?filters={}", of_project(project));
        let volumes: Volumes = self.read(&path).await?;
        let mut names: Vec<_> =
            volumes.volumes.into_iter().flatten().map(|volume| volume.name).collect();
        names.sort();
        Ok(names)
    }

    /// The networks of a compose project.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn networks(&self, project: &str) -> Result<Vec<String>, EngineError> {
        let path = format!("/networks?filters={}", of_project(project));
        let networks: Vec<Volume> = self.read(&path).await?;
        Ok(networks.into_iter().map(|network| network.name).collect())
    }

    /// Since when the engine has been up, in microseconds since the Unix epoch: a container that ended
    /// before then ended before the engine did, with it, or as it came up again. `None` where it
    /// cannot be told.
    ///
    /// Each time it comes up with nothing running, the engine makes its own network anew: after it
    /// has ended what a crash had left running, and before it starts anything. One that was told to
    /// have no such network is as old as the host's boot, at most.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn up_since_us(&self) -> Result<Option<i64>, EngineError> {
        let bridge: Option<Made> = self.found("/networks/bridge").await?;
        Ok(bridge.and_then(|made| at_us(&made.created)).or_else(booted_at_us))
    }

    /// The id of an image by its name; `None` when the host does not have it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn image(&self, name: &str) -> Result<Option<String>, EngineError> {
        let path = format!("/images/{}/json", escape(name));
        Ok(self.found::<Listed>(&path).await?.map(|image| image.id))
    }

    /// What a container said last: at most twenty lines.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn said(&self, container: &Container) -> Result<String, EngineError> {
        let id = &container.id;
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&tail={LOG_LINES}");
        let bytes = self.ask(Method::GET, &path, ASK_TIMEOUT).await?;
        Ok(logs::text(&bytes, container.has_terminal()))
    }

    /// Stops and removes a container; its named volumes stay. One that is gone already is fine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        self.act(Method::POST, &format!("/containers/{id}/stop?t={STOP_SECS}")).await?;
        self.act(Method::DELETE, &format!("/containers/{id}?force=1")).await
    }

    /// Removes a network nobody uses.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        self.act(Method::DELETE, &format!("/networks/{}", escape(name))).await
    }

    /// Removes a volume nobody uses, with all that is in it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.act(Method::DELETE, &format!("/volumes/{}", escape(name))).await
    }

    async fn act(&self, method: Method, path: &str) -> Result<(), EngineError> {
        match self.ask(method, path, ACT_TIMEOUT).await {
            Ok(_) => Ok(()),
            // Gone, or stopped, already.
            Err(EngineError::Refused { status: 304 | 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn found<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, EngineError> {
        match self.read(path).await {
            Ok(found) => Ok(Some(found)),
            Err(EngineError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        let bytes = self.ask(Method::GET, path, ASK_TIMEOUT).await?;
        serde_json::from_slice(&bytes)
            .map_err(|source| EngineError::Unreadable { what: named(path), source })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        timeout: Duration,
    ) -> Result<Vec<u8>, EngineError> {
        match tokio::time::timeout(timeout, Box::pin(self.exchange(method, path))).await {
            Ok(answer) => answer,
            Err(_) => Err(EngineError::TimedOut { timeout }),
        }
    }

    /// Connects; whoever sends has to drive the connection too.
    pub(super) async fn connect(&self) -> Result<(Sender, Driver), EngineError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| EngineError::Unreachable { socket: self.socket.clone(), source })?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        shaken.map_err(|source| EngineError::Http { source })
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Vec<u8>, EngineError> {
        let request = request(method, path)?;
        let refused = |status, message| EngineError::Refused { what: named(path), status, message };
        let fail = |source| EngineError::Http { source };
        let (mut sender, connection) = self.connect().await?;
        let answer = async {
            let mut response = sender.send_request(request).await.map_err(fail)?;
            let mut body = Vec::new();
            while let Some(frame) = response.frame().await {
                let Ok(data) = frame.map_err(fail)?.into_data() else { continue };
                if body.len() + data.len() > ANSWER_BYTES_MAX {
                    let (what, limit) = (named(path), ANSWER_BYTES_MAX);
                    return Err(EngineError::TooLarge { what, limit });
                }
                body.extend_from_slice(&data);
            }
            let status = response.status();
            if status.is_success() {
                return Ok(body);
            }
            Err(refused(status.as_u16(), message(&body, status)))
        };
        tokio::pin!(answer);
        tokio::select! {
            // The connection has to be driven while the answer is read.
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }
}

pub(super) fn request(method: Method, path: &str) -> Result<Request<Empty<Bytes>>, EngineError> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "docker")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| EngineError::Refused {
            what: named(path),
            status: 0,
            message: error.to_string(),
        })
}

/// The engine's own word for why it refused.
fn message(body: &[u8], status: StatusCode) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.message,
        Err(_) => status.canonical_reason().unwrap_or("without a word").to_owned(),
    }
}

/// When the host was booted, in microseconds since the Unix epoch.
fn booted_at_us() -> Option<i64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let secs = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    secs.trim().parse::<i64>().ok()?.checked_mul(1_000_000)
}

/// A request as it is told to people.
pub(super) fn named(path: &str) -> String {
    path.split('?').next().unwrap_or(path).to_owned()
}

fn of_project(project: &str) -> String {
    labelled(&format!("{PROJECT}={project}"))
}

fn labelled(label: &str) -> String {
    filters(&serde_json::json!({ "label": [label] }))
}

pub(super) fn filters(filters: &serde_json::Value) -> String {
    escape(&filters.to_string())
}

/// For a path's part or a query's value; a slash stays, as image names have them.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_a_url_is_escaped() {
        assert_eq!(escape("a/b:1@x y"), "a/b:1%40x%20y");
        assert_eq!(of_project("p"), "%7B%22label%22:%5B%22com.docker.compose.project%3Dp%22%5D%7D");
    }

    #[test]
    fn the_host_was_booted_some_time() {
        assert!(booted_at_us().is_some_and(|at_us| at_us > 0));
    }

    #[tokio::test]
    async fn no_engine_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::new(dir.path().join("none.sock"));
        assert!(matches!(engine.ping().await, Err(EngineError::Unreachable { .. })));
    }
}
