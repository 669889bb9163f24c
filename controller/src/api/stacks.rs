//! `/stacks`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hostler_protocol::id::StackId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::answer::{Making, told};
use super::extract::{Id, Json, NoBody, OptionalJson, Params};
use super::problem::ApiError;
use super::{openapi, page};
use crate::app::StackFilter;
use crate::views;

/// Most stacks of one answer: more than a repository may have.
const ALL_STACKS_MAX: u32 = 100_000;

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(list_stacks))
        .routes(routes!(show_stack))
        .routes(routes!(sync_stack))
        .routes(routes!(plan_stack))
        .routes(routes!(suspend_stack))
        .routes(routes!(resume_stack))
        .routes(routes!(roll_back_stack))
        .routes(routes!(accept_drift))
}

/// Which stacks; filters named together all have to hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only the one of exactly this path.
    #[param(nullable = false)]
    path: Option<String>,
    /// Only those of this status over all their hosts.
    #[param(nullable = false, inline)]
    status: Option<views::StackStatus>,
    /// Only those that are on this host or meant to be.
    #[param(nullable = false, pattern = "^host_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    host: Option<String>,
    /// Only those of which a host runs something else than the repository says, or those of which
    /// none does.
    #[param(nullable = false)]
    out_of_sync: Option<bool>,
    /// Only those of which a host is no longer as it was synced, or those of which none is.
    #[param(nullable = false)]
    drifted: Option<bool>,
    /// `next` of the page before.
    #[param(nullable = false)]
    after: Option<String>,
    /// Most rows of the page; without it all come at once.
    #[param(nullable = false, minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// List stacks with their status, by path.
#[utoipa::path(get, path = "/stacks", tag = "stacks", params(Filter),
    responses((status = 200, body = views::StackPage)))]
async fn list_stacks(
    State(state): State<Arc<ApiState>>,
    Params(asked): Params<Filter>,
) -> Result<axum::Json<views::StackPage>, ApiError> {
    let filter = StackFilter {
        path: asked.path,
        status: asked.status,
        host: page::id("host", asked.host)?,
        out_of_sync: asked.out_of_sync,
        drifted: asked.drifted,
    };
    let mut page = page::page::<String>(asked.after, asked.limit)?;
    if asked.limit.is_none() {
        page.limit = ALL_STACKS_MAX;
    }
    Ok(axum::Json(state.app.list_stacks(&filter, &page).await?))
}

/// Show a stack: its fingerprints, and how it stands on each of its hosts.
#[utoipa::path(get, path = "/stacks/{id}", tag = "stacks",
    params(("id" = inline(views::StackIdText), Path)),
    responses((status = 200, body = views::Stack)))]
async fn show_stack(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<StackId>,
) -> Result<axum::Json<views::Stack>, ApiError> {
    Ok(axum::Json(state.app.show_stack(&id).await?))
}

/// Sync a stack now, also one whose last sync failed for good; or take it down where it is to go.
#[utoipa::path(post, path = "/stacks/{id}/sync", tag = "stacks",
    params(("id" = inline(views::StackIdText), Path), openapi::KeyHeader),
    request_body = Option<views::SyncStack>,
    responses((status = 202, body = views::StackJobs,
               headers(("Idempotent-Replayed" = Option<String>))),
              (status = 409, description = "It cannot be synced as it stands; the code says why.")))]
async fn sync_stack(
    State(state): State<Arc<ApiState>>,
    making: Making,
    Id(id): Id<StackId>,
    OptionalJson(what, body): OptionalJson<views::SyncStack>,
) -> Result<Response, ApiError> {
    let jobs = state.app.sync_stack(id, &making.asked(&body), what).await?;
    Ok(told(StatusCode::ACCEPTED, jobs))
}

/// Ask the hosts what a sync would do: files that change; services that would be created, recreated,
/// restarted or removed. Changes nothing. The jobs' results say it.
#[utoipa::path(post, path = "/stacks/{id}/plan", tag = "stacks",
    params(("id" = inline(views::StackIdText), Path), openapi::KeyHeader),
    request_body = Option<views::PlanStack>,
    responses((status = 202, body = views::StackJobs,
               headers(("Idempotent-Replayed" = Option<String>))),
              (status = 409, description = "It cannot be synced as it stands; the code says why.")))]
async fn plan_stack(
    State(state): State<Arc<ApiState>>,
    making: Making,
    Id(id): Id<StackId>,
    OptionalJson(what, body): OptionalJson<views::PlanStack>,
) -> Result<Response, ApiError> {
    let jobs = state.app.plan_stack(id, &making.asked(&body), what).await?;
    Ok(told(StatusCode::ACCEPTED, jobs))
}

/// Leave a stack alone from now on: neither synced nor taken down, until it is resumed.
#[utoipa::path(post, path = "/stacks/{id}/suspend", tag = "stacks",
    params(("id" = inline(views::StackIdText), Path), openapi::KeyHeader),
    responses((status = 200, body = views::Stack,
               headers(("Idempotent-Replayed" = Option<String>)))))]
async fn suspend_stack(
    State(state): State<Arc<ApiState>>,
    making: Making,
    Id(id): Id<StackId>,
    _: NoBody,
) -> Result<Response, ApiError> {
    let stack = state.app.suspend_stack(id, &making.asked(b""), true).await?;
    Ok(told(StatusCode::OK, stack))
}

/// Go on with a suspended stack.
#[utoipa::path(post, path = "/stacks/{id}/resume", tag = "stacks",
    params(("id" = inline(views::StackIdText), Path), openapi::KeyHeader),
    responses((status = 200, body = views::Stack,
               headers(("Idempotent-Replayed" = Option<String>)))))]
async fn resume_stack(
    State(state): State<Arc<ApiState>>,
    making: Making,
    Id(id): Id<StackId>,
    _: NoBody,
) -> Result<Response, ApiError> {
    let stack = state.app.suspend_stack(id, &making.asked(b""), false).await?;
    Ok(told(StatusCode::OK, stack))
}

/// Accept what differs from what was synced: it is neither shown as drift nor put right, until it
/// changes or something else is synced.
#[utoipa::path(post, path = "/stacks/{id}/accept-drift", tag = "stacks",
    params(("id" = inline(views::StackIdText), Path), openapi::KeyHeader),
    request_body = Option<views::AcceptDrift>,
    responses((status = 200, body = views::Stack,
               headers(("Idempotent-Replayed" = Option<String>))),
              (status = 409, description = "Nothing differs there.")))]
async fn accept_drift(
    State(state): State<Arc<ApiState>>,
    making: Making,
    Id(id): Id<StackId>,
    OptionalJson(what, body): OptionalJson<views::AcceptDrift>,
) -> Result<Response, ApiError> {
    let stack = state.app.accept_drift(id, &making.asked(&body), what).await?;
    Ok(told(StatusCode::OK, stack))
}

/// Go back, on its host, to what an earlier sync applied. The stack is suspended by it, or the next
/// look would undo it: resume it to go on with what the repository says.
#[utoipa::path(post, path = "/stacks/{id}/rollback", tag = "stacks",
    params(("id" = inline(views::StackIdText), Path), openapi::KeyHeader),
    request_body = views::RollBackStack,
    responses((status = 202, body = views::StackJobs,
               headers(("Idempotent-Replayed" = Option<String>))),
              (status = 409, description = "The job is no sync of it that succeeded, or it is busy.")))]
async fn roll_back_stack(
    State(state): State<Arc<ApiState>>,
    making: Making,
    Id(id): Id<StackId>,
    Json(what, body): Json<views::RollBackStack>,
) -> Result<Response, ApiError> {
    let jobs = state.app.roll_back_stack(id, &making.asked(&body), what).await?;
    Ok(told(StatusCode::ACCEPTED, jobs))
}
