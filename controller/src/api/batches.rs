//! `/batches`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use hostler_protocol::id::BatchId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::answer::{Making, mark};
use super::extract::{Id, Json, NoBody, Params};
use super::problem::ApiError;
use super::{openapi, page};
use crate::app::BatchAnswer;
use crate::domain::BatchState;
use crate::domain::batch::TARGETS_MAX;
use crate::views;

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(create_batch, list_batches))
        .routes(routes!(show_batch))
        .routes(routes!(list_targets))
        .routes(routes!(cancel_batch))
}

/// Which batches.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    #[param(nullable = false, inline)]
    state: Option<views::BatchState>,
    /// `next` of the page before.
    #[param(nullable = false, pattern = "^batch_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    after: Option<String>,
    /// Most rows of the page.
    #[param(nullable = false, minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Which targets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct FromPlace {
    /// `next` of the page before.
    #[param(nullable = false, minimum = 0, maximum = 10000)]
    from: Option<u32>,
    /// Most rows of the page.
    #[param(nullable = false, minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

fn state(state: views::BatchState) -> BatchState {
    match state {
        views::BatchState::Running => BatchState::Running,
        views::BatchState::Succeeded => BatchState::Succeeded,
        views::BatchState::Failed => BatchState::Failed,
        views::BatchState::Cancelled => BatchState::Cancelled,
    }
}

/// Do the same to many environments, a job each. With `dry_run`: say which, and do nothing. An
/// `Idempotency-Key` is remembered for as long as the batch is.
#[utoipa::path(post, path = "/batches", tag = "batches",
    params(openapi::KeyHeader), request_body = views::CreateBatch,
    responses((status = 202, description = "It is under way.", body = views::BatchAccepted,
               headers(("Location" = String), ("Idempotent-Replayed" = Option<String>))),
              (status = 200, description = "What it would do.", body = views::BatchPlan),
              (status = 409, description = "No environment that is meant can take the job: they failed or are being deleted, or their hosts are revoked.")))]
async fn create_batch(
    State(state): State<Arc<ApiState>>,
    making: Making,
    Json(request, body): Json<views::CreateBatch>,
) -> Result<Response, ApiError> {
    match state.app.create_batch(&making.asked(&body), request).await? {
        BatchAnswer::Plan(plan) => Ok(axum::Json(plan).into_response()),
        BatchAnswer::Made(made) => {
            let location = format!("/api/batches/{}", made.id);
            let accepted = views::BatchAccepted { batch_id: made.id.into() };
            let mut answer = (StatusCode::ACCEPTED, axum::Json(accepted)).into_response();
            if let Ok(location) = location.parse() {
                answer.headers_mut().insert(LOCATION, location);
            }
            mark(&mut answer, made.replayed);
            Ok(answer)
        }
    }
}

/// List batches, newest first.
#[utoipa::path(get, path = "/batches", tag = "batches", params(Filter),
    responses((status = 200, body = views::BatchPage)))]
async fn list_batches(
    State(api): State<Arc<ApiState>>,
    Params(asked): Params<Filter>,
) -> Result<axum::Json<views::BatchPage>, ApiError> {
    let page = page::page::<BatchId>(asked.after, asked.limit)?;
    Ok(axum::Json(api.app.list_batches(asked.state.map(state), &page).await?))
}

/// Show a batch: how its targets stand, which failed, and which did not answer.
#[utoipa::path(get, path = "/batches/{id}", tag = "batches",
    params(("id" = inline(views::BatchIdText), Path)),
    responses((status = 200, body = views::Batch)))]
async fn show_batch(
    State(api): State<Arc<ApiState>>,
    Id(id): Id<BatchId>,
) -> Result<axum::Json<views::Batch>, ApiError> {
    Ok(axum::Json(api.app.show_batch(&id).await?))
}

/// List a batch's targets, in the order they are taken up.
#[utoipa::path(get, path = "/batches/{id}/targets", tag = "batches",
    params(("id" = inline(views::BatchIdText), Path), FromPlace),
    responses((status = 200, body = views::BatchTargetPage)))]
async fn list_targets(
    State(api): State<Arc<ApiState>>,
    Id(id): Id<BatchId>,
    Params(asked): Params<FromPlace>,
) -> Result<axum::Json<views::BatchTargetPage>, ApiError> {
    let limit = page::page::<BatchId>(None, asked.limit)?.limit;
    let from = asked.from.unwrap_or(0);
    if usize::try_from(from).is_ok_and(|from| from > TARGETS_MAX) {
        let detail = format!("a batch has {TARGETS_MAX} targets at most");
        return Err(ApiError::field("INVALID_QUERY", "?from", detail));
    }
    Ok(axum::Json(api.app.list_targets(&id, from, limit).await?))
}

/// Cancel a batch: nothing further is taken up, what waits is cancelled, what runs is told to stop.
#[utoipa::path(post, path = "/batches/{id}/cancel", tag = "batches",
    params(("id" = inline(views::BatchIdText), Path)),
    responses((status = 200, body = views::Batch), (status = 409, description = "It has ended.")))]
async fn cancel_batch(
    State(api): State<Arc<ApiState>>,
    Id(id): Id<BatchId>,
    _: NoBody,
) -> Result<axum::Json<views::Batch>, ApiError> {
    Ok(axum::Json(api.app.cancel_batch(id).await?))
}
