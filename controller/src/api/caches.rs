//! `/environments/{id}/cache`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hostler_protocol::id::EnvironmentId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::answer::Making;
use super::extract::{Id, Json, NoBody, OptionalJson};
use super::openapi;
use super::problem::ApiError;
use crate::views;

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(show_caches, set_caches))
        .routes(routes!(purge_caches))
        .routes(routes!(reconcile_caches))
        .routes(routes!(warm_cache))
        .routes(routes!(cache_facts))
        .routes(routes!(explain_url))
}

/// Show what should be, what is, and what went wrong last.
#[utoipa::path(get, path = "/environments/{id}/cache", tag = "caches",
    params(("id" = inline(views::EnvironmentIdText), Path)),
    responses((status = 200, body = views::CacheState)))]
async fn show_caches(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
) -> Result<axum::Json<views::CacheState>, ApiError> {
    Ok(axum::Json(state.app.show_caches(&id).await?))
}

/// Switch caches on or off. What should be changes at once, what is when the job has proven it.
/// A newer switch ends older ones that still wait.
#[utoipa::path(patch, path = "/environments/{id}/cache", tag = "caches",
    params(("id" = inline(views::EnvironmentIdText), Path), openapi::JobHeaders),
    request_body = views::SetCaches,
    responses(openapi::JobAnswers, (status = 409, description = "It failed or is being deleted, or its host is revoked.")))]
async fn set_caches(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
    making: Making,
    Json(flags, body): Json<views::SetCaches>,
) -> Result<Response, ApiError> {
    let made = state.app.set_caches(id, &making.asked(&body), flags).await?;
    Ok(making.answer(&state, made).await)
}

/// Purge both caches of this environment and of no other, or what the body names.
#[utoipa::path(post, path = "/environments/{id}/cache/purge", tag = "caches",
    params(("id" = inline(views::EnvironmentIdText), Path), openapi::JobHeaders),
    request_body = Option<views::PurgeCaches>,
    responses(openapi::JobAnswers, (status = 409, description = "It failed or is being deleted, or its host is revoked.")))]
async fn purge_caches(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
    making: Making,
    OptionalJson(what, body): OptionalJson<views::PurgeCaches>,
) -> Result<Response, ApiError> {
    let made = state.app.purge_caches(id, &making.asked(&body), what).await?;
    Ok(making.answer(&state, made).await)
}

/// Apply again what should be.
#[utoipa::path(post, path = "/environments/{id}/cache/reconcile", tag = "caches",
    params(("id" = inline(views::EnvironmentIdText), Path), openapi::JobHeaders),
    responses(openapi::JobAnswers, (status = 409, description = "It failed or is being deleted, or its host is revoked.")))]
async fn reconcile_caches(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
    making: Making,
    _: NoBody,
) -> Result<Response, ApiError> {
    let made = state.app.reconcile_caches(id, &making.asked(b"")).await?;
    Ok(making.answer(&state, made).await)
}

/// Fetch pages past the cache and store them, over what is there. A newer warm-up ends older ones
/// that still wait if it names all their URLs.
#[utoipa::path(post, path = "/environments/{id}/cache/warm", tag = "caches",
    params(("id" = inline(views::EnvironmentIdText), Path), openapi::JobHeaders),
    request_body = views::WarmCache,
    responses(openapi::JobAnswers, (status = 409, description = "Its FastCGI cache is off, it failed or is being deleted, or its host is revoked.")))]
async fn warm_cache(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
    making: Making,
    Json(what, body): Json<views::WarmCache>,
) -> Result<Response, ApiError> {
    let made = state.app.warm_cache(id, &making.asked(&body), what).await?;
    Ok(making.answer(&state, made).await)
}

/// Ask the host what is in the page cache: entries, bytes, fresh, stale, oldest. Changes nothing
/// and waits for no other job.
#[utoipa::path(post, path = "/environments/{id}/cache/facts", tag = "caches",
    params(("id" = inline(views::EnvironmentIdText), Path), openapi::JobHeaders),
    responses(openapi::JobAnswers, (status = 409, description = "It failed or is being deleted, or its host is revoked.")))]
async fn cache_facts(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
    making: Making,
    _: NoBody,
) -> Result<Response, ApiError> {
    let made = state.app.cache_facts(id, &making.asked(b"")).await?;
    Ok(making.answer(&state, made).await)
}

/// Ask the host what the page cache does with one URL, and why. Changes nothing and waits for no
/// other job.
#[utoipa::path(post, path = "/environments/{id}/cache/explain", tag = "caches",
    params(("id" = inline(views::EnvironmentIdText), Path), openapi::JobHeaders),
    request_body = views::ExplainUrl,
    responses(openapi::JobAnswers, (status = 409, description = "It failed or is being deleted, or its host is revoked.")))]
async fn explain_url(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
    making: Making,
    Json(what, body): Json<views::ExplainUrl>,
) -> Result<Response, ApiError> {
    let made = state.app.explain_url(id, &making.asked(&body), what).await?;
    Ok(making.answer(&state, made).await)
}
