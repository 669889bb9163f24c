//! `/jobs`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hostler_protocol::id::JobId;
use hostler_protocol::job::JobType;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::answer::Making;
use super::extract::{Id, NoBody, OptionalJson, Params};
use super::problem::ApiError;
use super::{openapi, page};
use crate::domain::JobState;
use crate::store::JobFilter;
use crate::views;

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(list_jobs))
        .routes(routes!(show_job))
        .routes(routes!(cancel_job))
        .routes(routes!(retry_job))
        .routes(routes!(release_job))
}

/// Which jobs; filters named together all have to hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    #[param(nullable = false, inline)]
    state: Option<views::JobState>,
    #[param(nullable = false, inline)]
    r#type: Option<views::JobType>,
    #[param(nullable = false, pattern = "^env_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    environment: Option<String>,
    #[param(nullable = false, pattern = "^host_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    host: Option<String>,
    #[param(nullable = false, pattern = "^site_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    site: Option<String>,
    /// Only those that follow from this job.
    #[param(nullable = false, pattern = "^job_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    parent: Option<String>,
    /// Only those about this stack.
    #[param(nullable = false, pattern = "^stack_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    stack: Option<String>,
    /// Only those this batch queued.
    #[param(nullable = false, pattern = "^batch_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    batch: Option<String>,
    /// `next` of the page before.
    #[param(nullable = false, pattern = "^job_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    after: Option<String>,
    /// Most rows of the page.
    #[param(nullable = false, minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

fn state(state: views::JobState) -> JobState {
    match state {
        views::JobState::Queued => JobState::Queued,
        views::JobState::Running => JobState::Running,
        views::JobState::Held => JobState::Held,
        views::JobState::Succeeded => JobState::Succeeded,
        views::JobState::Failed => JobState::Failed,
        views::JobState::Cancelled => JobState::Cancelled,
    }
}

fn job_type(job_type: views::JobType) -> JobType {
    match job_type {
        views::JobType::EnvCacheToggle => JobType::EnvCacheToggle,
        views::JobType::CachePurge => JobType::CachePurge,
        views::JobType::EnvCheck => JobType::EnvCheck,
        views::JobType::EnvDelete => JobType::EnvDelete,
        views::JobType::CacheWarm => JobType::CacheWarm,
        views::JobType::CacheFacts => JobType::CacheFacts,
        views::JobType::CacheExplain => JobType::CacheExplain,
        views::JobType::StackSync => JobType::StackSync,
        views::JobType::StackDown => JobType::StackDown,
        views::JobType::StackPlan => JobType::StackPlan,
    }
}

/// List jobs, newest first, without their results, steps and output.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(Filter),
    responses((status = 200, body = views::JobPage)))]
async fn list_jobs(
    State(api): State<Arc<ApiState>>,
    Params(asked): Params<Filter>,
) -> Result<axum::Json<views::JobPage>, ApiError> {
    let filter = JobFilter {
        state: asked.state.map(state),
        job_type: asked.r#type.map(job_type),
        environment: page::id("environment", asked.environment)?,
        host: page::id("host", asked.host)?,
        site: page::id("site", asked.site)?,
        parent: page::id("parent", asked.parent)?,
        batch: page::id("batch", asked.batch)?,
        stack: page::id("stack", asked.stack)?,
    };
    let page = page::page::<JobId>(asked.after, asked.limit)?;
    Ok(axum::Json(api.app.list_jobs(&filter, &page).await?))
}

/// Show a job, with what it waits for.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs",
    params(("id" = inline(views::JobIdText), Path)),
    responses((status = 200, body = views::Job)))]
async fn show_job(
    State(api): State<Arc<ApiState>>,
    Id(id): Id<JobId>,
) -> Result<axum::Json<views::Job>, ApiError> {
    Ok(axum::Json(api.app.show_job(&id).await?))
}

/// Cancel a job: at once while it waits, through its host while it runs. What is undone on the
/// way is in its steps; a success that is already on its way wins. With `force` a job whose host is
/// gone is given up: it ends at once, and nobody knows what it did there.
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "jobs",
    params(("id" = inline(views::JobIdText), Path)),
    request_body = Option<views::CancelJob>,
    responses((status = 200, body = views::Job), (status = 409, description = "It has ended, or (with force) its host can still tell how it went.")))]
async fn cancel_job(
    State(api): State<Arc<ApiState>>,
    Id(id): Id<JobId>,
    OptionalJson(how, _): OptionalJson<views::CancelJob>,
) -> Result<axum::Json<views::Job>, ApiError> {
    let cancelled = if how.force == Some(true) {
        api.app.abandon_job(id).await?
    } else {
        api.app.cancel_job(id).await?
    };
    Ok(axum::Json(cancelled))
}

/// Repeat an ended job as a new one.
#[utoipa::path(post, path = "/jobs/{id}/retry", tag = "jobs",
    params(("id" = inline(views::JobIdText), Path), openapi::JobHeaders),
    responses(openapi::JobAnswers, (status = 409, description = "It has not ended, or what it worked on cannot take a job.")))]
async fn retry_job(
    State(api): State<Arc<ApiState>>,
    Id(id): Id<JobId>,
    making: Making,
    _: NoBody,
) -> Result<Response, ApiError> {
    let made = api.app.retry_job(id, &making.asked(b"")).await?;
    Ok(making.answer(&api, made).await)
}

/// Let a held job go: it is queued again.
#[utoipa::path(post, path = "/jobs/{id}/release", tag = "jobs",
    params(("id" = inline(views::JobIdText), Path)),
    responses((status = 200, body = views::Job), (status = 409, description = "It is not held.")))]
async fn release_job(
    State(api): State<Arc<ApiState>>,
    Id(id): Id<JobId>,
    _: NoBody,
) -> Result<axum::Json<views::Job>, ApiError> {
    Ok(axum::Json(api.app.release_job(id).await?))
}
