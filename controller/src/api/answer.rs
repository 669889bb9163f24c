//! The answer of a request that made a job: 202 at once, or the job itself when the client
//! prefers to wait for its end.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::LOCATION};
use axum::response::{IntoResponse, Response};
use hostler_protocol::id::{JobId, RequestId};
use sha2::{Digest as _, Sha256};

use super::ApiState;
use super::auth::Principal;
use super::problem::ApiError;
use crate::app::{App, AppError, Asked, IdempotencyKey, Told};
use crate::domain::decide::enqueue::Made;
use crate::views::{self, JobAccepted};

/// Longest wait a request can prefer, in seconds; a longer one is cut to it.
pub(crate) const WAIT_SECS_MAX: u64 = 60;
/// Longest `Idempotency-Key`, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 255;

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
static PREFER: HeaderName = HeaderName::from_static("prefer");
pub(crate) static PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What a request that makes a job says besides its body.
#[derive(Debug, Clone)]
pub(crate) struct Making {
    principal: String,
    request_id: RequestId,
    key: Option<String>,
    /// Method and path, the part of the request's identity before its body.
    target: String,
    wait_secs: Option<u64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Making {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let principal = parts.extensions.get::<Principal>().ok_or_else(ApiError::internal)?;
        let request_id = parts.extensions.get::<RequestId>().ok_or_else(ApiError::internal)?;
        Ok(Self {
            principal: principal.name.clone(),
            request_id: request_id.clone(),
            key: key(&parts.headers)?,
            target: format!("{} {}", parts.method, parts.uri.path()),
            wait_secs: wait_secs(&parts.headers),
        })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let (first, second) = (values.next(), values.next());
    let Some(first) = first else { return Ok(None) };
    let text = first.to_str().ok().filter(|text| text.len() <= KEY_BYTES_MAX && second.is_none());
    text.and_then(unquoted).map(|text| Some(text.to_owned())).ok_or_else(|| {
        let detail =
            format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} visible ASCII characters");
        ApiError::new(StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_INVALID", detail)
    })
}

/// A key, bare or between quotation marks: visible ASCII without quotation marks of its own.
fn unquoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let visible = |b: u8| b.is_ascii_graphic() && b != b'"';
    (!inner.is_empty() && inner.bytes().all(visible)).then_some(inner)
}

/// `wait=N` of a `Prefer` header (RFC 7240); what is not understood is ignored, as it says.
pub(crate) fn wait_secs(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(&PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(','));
    preferences.find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let secs: u64 = value.trim().trim_matches('"').parse().ok()?;
        name.trim().eq_ignore_ascii_case("wait").then_some(secs.min(WAIT_SECS_MAX))
    })
}

impl Making {
    /// The command's side of the request, for one with this body.
    #[must_use]
    pub(crate) fn asked(&self, body: &[u8]) -> Asked {
        let idempotency = self.key.clone().map(|key| {
            let mut digest = Sha256::new();
            digest.update(self.target.as_bytes());
            digest.update(b"\n");
            digest.update(body);
            IdempotencyKey { key, request_sha256: hex::encode(digest.finalize()) }
        });
        Asked {
            principal: self.principal.clone(),
            request_id: self.request_id.clone(),
            idempotency,
        }
    }

    /// Answers with the job, waiting for its end as long as the client prefers. A job that cannot
    /// be read meanwhile is queued nevertheless, and that is the answer.
    pub(crate) async fn answer(&self, state: &ApiState, made: Made) -> Response {
        let mut response = match self.wait_secs {
            Some(secs) => tokio::select! {
                answer = waited(&state.app, &made.job_id, secs) => answer,
                () = state.shutdown.cancelled() => accepted(&made.job_id),
            },
            None => accepted(&made.job_id),
        };
        let headers = response.headers_mut();
        if let Ok(location) = HeaderValue::from_str(&format!("/api/jobs/{}", made.job_id)) {
            headers.insert(LOCATION, location);
        }
        mark(&mut response, made.replayed);
        response
    }
}

/// An answer that says whether it was given to the same request before.
pub(crate) fn told<T: serde::Serialize>(status: StatusCode, told: Told<T>) -> Response {
    let mut response = (status, axum::Json(told.what)).into_response();
    mark(&mut response, told.replayed);
    response
}

/// Marks an answer that was given to the same request before.
pub(crate) fn mark(response: &mut Response, replayed: bool) {
    if replayed {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert(IDEMPOTENT_REPLAYED.clone(), yes);
    }
}

fn accepted(job: &JobId) -> Response {
    let body = JobAccepted { job_id: job.to_string() };
    (StatusCode::ACCEPTED, axum::Json(body)).into_response()
}

async fn waited(app: &App, job: &JobId, secs: u64) -> Response {
    let ended = match ended(app, job, secs).await {
        Ok(Some(ended)) => ended,
        Ok(None) => return accepted(job),
        Err(error) => {
            tracing::warn!(%error, job.id = %job, "a job that was waited for cannot be read");
            return accepted(job);
        }
    };
    let mut response = axum::Json(ended).into_response();
    if let Ok(applied) = HeaderValue::from_str(&format!("wait={secs}")) {
        response.headers_mut().insert(PREFERENCE_APPLIED.clone(), applied);
    }
    response
}

/// The job, if it ends in time.
async fn ended(app: &App, job: &JobId, secs: u64) -> Result<Option<views::Job>, AppError> {
    let ended = app.events.wait_for_end(job, Duration::from_secs(secs)).await?;
    match ended.filter(|job| job.state.is_ended()) {
        Some(ended) => app.with_waits(ended).await.map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn waits_are_read_and_cut() {
        assert_eq!(wait_secs(&headers("prefer", "wait=5")), Some(5));
        assert_eq!(wait_secs(&headers("prefer", "respond-async, Wait=\"7\"; x=1")), Some(7));
        assert_eq!(wait_secs(&headers("prefer", "wait=9999")), Some(WAIT_SECS_MAX));
        for other in ["wait", "wait=x", "wait=-1", "respond-async"] {
            assert_eq!(wait_secs(&headers("prefer", other)), None, "{other}");
        }
    }

    #[test]
    fn keys_are_bounded() {
        let read = |value: &str| key(&headers("idempotency-key", value));
        assert_eq!(read("\"abc\"").unwrap(), read("abc").unwrap());
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
        for bad in ["", "\"", "\"\"", "a b", "a\"b", "\"a", &"k".repeat(KEY_BYTES_MAX + 1)] {
            assert!(read(bad).is_err(), "{bad:?} was taken for a key");
        }
    }
}
