//! `/webhook`: what forges say when somebody pushed.
//!
//! Its signature is its key: it passes neither tokens nor the checks of `Host` and `Origin`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::ApiError;
use crate::domain::desired::Trigger;
use crate::domain::webhook::{self, Event, Unverified, Verdict};
use crate::views;

/// Largest delivery, in bytes: what GitHub sends at most.
pub(crate) const BODY_BYTES_MAX: usize = 25 * 1024 * 1024;
/// Bytes of one delivery that are taken whatever else is under way: most have no more.
const BODY_BYTES_FREE: usize = 256 * 1024;
/// Bytes of all deliveries beyond that, in KiB: nobody has said yet who sends them.
const BODIES_KIB_MAX: usize = 64 * 1024;
/// Seconds a sender has for all of a delivery; forges themselves give up after ten.
const BODY_SECS: u64 = 30;
/// The route's pattern.
pub(crate) const ROUTE: &str = "/api/webhook";
/// The room for large deliveries, of the whole process.
static ROOM: Semaphore = Semaphore::const_new(BODIES_KIB_MAX);

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new().routes(routes!(receive))
}

/// Receive a forge's delivery. It is verified over its raw bytes: GitHub's `X-Hub-Signature-256`,
/// or as Gitea, Forgejo, Gogs, GitLab, Bitbucket or a generic sender sign.
#[utoipa::path(post, path = "/webhook", tag = "stacks",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = views::WebhookAnswer, description = "There is nothing to do, or it was served before."),
              (status = 202, body = views::WebhookAnswer, description = "The repository is looked at."),
              (status = 401, description = "The signature is missing or wrong."),
              (status = 409, description = "No repository is configured."),
              (status = 413, description = "The delivery is larger than 25 MiB."),
              (status = 503, description = "No webhook secret is configured: nothing is accepted.")))]
async fn receive(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let secrets = &state.app.desired.keeping().webhook_secrets;
    if secrets.is_empty() {
        return Err(refused(Unverified::NoSecret));
    }
    let whole = whole(&headers, body).await?;
    let body = whole.bytes.as_slice();
    let named: Vec<(&str, &str)> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.expose().as_bytes()).collect();
    webhook::verify(&named, body, &secrets, state.app.clock.now()).map_err(refused)?;
    let delivery = webhook::parse(&named, body);
    let forge = delivery.forge.as_str();
    let source = state.app.desired.source();
    let reference = source.map_or("", |source| source.reference.as_str());
    if let Verdict::Ignored(reason) = webhook::concerns(reference, &delivery) {
        let status = if delivery.event == Event::Ping { "pong" } else { "ignored" };
        tracing::info!(forge, status, reason, "a webhook asks for nothing");
        count(status);
        let answer =
            views::WebhookAnswer { status: status.to_owned(), reason: Some(reason), refresh: None };
        return Ok(axum::Json(answer).into_response());
    }
    let id = delivery.delivery_id.map(|id| format!("{forge}:{id}"));
    let refresh = state.app.request_refresh(Trigger::Webhook, id).await?;
    tracing::info!(forge, refresh.id = refresh.id, "a webhook asks for a refresh");
    count("accepted");
    let ended = refresh.finished_at.is_some();
    let status = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
    let answer = views::WebhookAnswer {
        status: word(refresh.status).to_owned(),
        reason: None,
        refresh: Some(refresh),
    };
    Ok((status, axum::Json(answer)).into_response())
}

fn count(outcome: &'static str) {
    metrics::counter!("hostler_webhooks_total", "outcome" => outcome).increment(1);
}

fn word(status: views::RefreshState) -> &'static str {
    match status {
        views::RefreshState::Refreshing => "refreshing",
        views::RefreshState::Queued => "queued",
        views::RefreshState::Completed => "completed",
        views::RefreshState::Failed => "failed",
    }
}

/// The delivery's bytes, as they came, and the room that is theirs.
async fn whole(headers: &HeaderMap, body: Body) -> Result<Whole, ApiError> {
    let said = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if said.is_some_and(|bytes: usize| bytes > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let limit = Duration::from_secs(BODY_SECS);
    tokio::time::timeout(limit, read(body)).await.map_err(|_| {
        let detail = format!("the delivery did not come within {BODY_SECS} s");
        ApiError::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", detail)
    })?
}

/// A delivery, and its share of the room for all of them.
struct Whole {
    bytes: Vec<u8>,
    _room: Option<SemaphorePermit<'static>>,
}

async fn read(body: Body) -> Result<Whole, ApiError> {
    let (mut bytes, mut room) = (Vec::new(), None::<SemaphorePermit<'static>>);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| {
            ApiError::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", "the delivery broke off")
        })?;
        let total = bytes.len() + part.len();
        if total > BODY_BYTES_MAX {
            return Err(too_large());
        }
        let held = room.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = total.saturating_sub(BODY_BYTES_FREE).div_ceil(1024).saturating_sub(held);
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let taken = ROOM.try_acquire_many(more).map_err(|_| busy())?;
            match &mut room {
                Some(room) => room.merge(taken),
                None => room = Some(taken),
            }
        }
        bytes.extend_from_slice(&part);
    }
    Ok(Whole { bytes, _room: room })
}

fn busy() -> ApiError {
    count("busy");
    tracing::warn!("too many large webhooks came at once, and one was refused");
    ApiError::unavailable("WEBHOOKS_BUSY", "too many large deliveries at once; send it again")
}

fn too_large() -> ApiError {
    count("too_large");
    tracing::warn!("a webhook's delivery is too large and was refused");
    let detail = format!("a delivery has {BODY_BYTES_MAX} bytes at most");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", detail)
}

/// One answer for every signature that does not hold: who guesses learns nothing.
fn refused(why: Unverified) -> ApiError {
    match why {
        Unverified::NoSecret => {
            count("not_configured");
            tracing::warn!("a webhook came, and no webhook secret is configured: it was refused");
            let detail =
                "no webhook secret is configured: set HOSTLER_WEBHOOK_SECRET (or its file)";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "WEBHOOK_NOT_CONFIGURED", detail)
        }
        Unverified::Missing
        | Unverified::Twice
        | Unverified::Malformed
        | Unverified::Wrong
        | Unverified::Stale => {
            count("unverified");
            tracing::warn!(%why, "a webhook was refused");
            let detail = "the delivery is not signed with the webhook secret";
            ApiError::new(StatusCode::UNAUTHORIZED, "WEBHOOK_UNVERIFIED", detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_deliveries_share_a_room_and_small_ones_need_none() {
        let mebibytes = |n: usize| Body::from(vec![b'x'; n << 20]);
        let one = read(mebibytes(25)).await.map_err(|_| ()).expect("there is room");
        assert_eq!(one.bytes.len(), BODY_BYTES_MAX);
        let two = read(mebibytes(25)).await.map_err(|_| ()).expect("there is still room");
        assert!(read(mebibytes(25)).await.is_err(), "a third is too many");
        assert!(read(Body::from("small")).await.is_ok());
        drop((one, two));
        assert!(read(mebibytes(25)).await.is_ok(), "what has ended gives its room back");
        assert!(read(Body::from(vec![0; BODY_BYTES_MAX + 1])).await.is_err());
    }
}
