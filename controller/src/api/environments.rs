//! `/environments`, without their caches.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hostler_protocol::id::{EnvironmentId, SiteId};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::answer::Making;
use super::extract::{Id, Json, NoBody, Params};
use super::problem::ApiError;
use super::sites::created;
use super::{openapi, page};
use crate::domain::decide::environment::Deletion;
use crate::store::EnvironmentFilter;
use crate::views;

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(create_environment))
        .routes(routes!(list_environments))
        .routes(routes!(show_environment, change_environment, delete_environment))
        .routes(routes!(check_environment))
}

/// Which environments.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only those of this site.
    #[param(nullable = false, pattern = "^site_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    site: Option<String>,
    /// Only those on this host.
    #[param(nullable = false, pattern = "^host_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    host: Option<String>,
    /// `next` of the page before.
    #[param(nullable = false, pattern = "^env_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    after: Option<String>,
    /// Most rows of the page.
    #[param(nullable = false, minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Make an environment of a site. Nothing happens on the host: both caches begin switched off.
#[utoipa::path(post, path = "/sites/{id}/environments", tag = "environments",
    params(("id" = inline(views::SiteIdText), Path)), request_body = views::CreateEnvironment,
    responses((status = 201, body = views::Environment, headers(("Location" = String))),
              (status = 409, description = "The name is taken, it overlaps another environment, or its host is revoked.")))]
async fn create_environment(
    State(state): State<Arc<ApiState>>,
    Id(site): Id<SiteId>,
    Json(asked, _): Json<views::CreateEnvironment>,
) -> Result<Response, ApiError> {
    let made = state.app.create_environment(site, asked).await?;
    Ok(created(format!("/api/environments/{}", made.id), made))
}

/// List environments, oldest first.
#[utoipa::path(get, path = "/environments", tag = "environments", params(Filter),
    responses((status = 200, body = views::EnvironmentPage)))]
async fn list_environments(
    State(state): State<Arc<ApiState>>,
    Params(asked): Params<Filter>,
) -> Result<axum::Json<views::EnvironmentPage>, ApiError> {
    let filter = EnvironmentFilter {
        site: page::id("site", asked.site)?,
        host: page::id("host", asked.host)?,
    };
    let page = page::page::<EnvironmentId>(asked.after, asked.limit)?;
    Ok(axum::Json(state.app.list_environments(&filter, &page).await?))
}

/// Show an environment.
#[utoipa::path(get, path = "/environments/{id}", tag = "environments",
    params(("id" = inline(views::EnvironmentIdText), Path)),
    responses((status = 200, body = views::Environment)))]
async fn show_environment(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
) -> Result<axum::Json<views::Environment>, ApiError> {
    Ok(axum::Json(state.app.show_environment(&id).await?))
}

/// Change an environment; its next job works with what it is then.
#[utoipa::path(patch, path = "/environments/{id}", tag = "environments",
    params(("id" = inline(views::EnvironmentIdText), Path)),
    request_body = views::ChangeEnvironment,
    responses((status = 200, body = views::Environment),
              (status = 409, description = "The name is taken, it overlaps another environment, a cache must be off first, or it is being deleted.")))]
async fn change_environment(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
    Json(asked, _): Json<views::ChangeEnvironment>,
) -> Result<axum::Json<views::Environment>, ApiError> {
    if asked == views::ChangeEnvironment::default() {
        return Err(ApiError::field("INVALID_REQUEST", "", "name at least one field to change"));
    }
    Ok(axum::Json(state.app.change_environment(id, asked).await?))
}

/// Delete an environment: what waits is cancelled, a job takes our files off its host (and waits
/// for it if it is offline), then it is gone. On a revoked host it is gone at once.
#[utoipa::path(delete, path = "/environments/{id}", tag = "environments",
    params(("id" = inline(views::EnvironmentIdText), Path), openapi::JobHeaders),
    responses(openapi::JobAnswers,
              (status = 204, description = "Its host is revoked, so there was nothing to take back; it is gone.")))]
async fn delete_environment(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
    making: Making,
    _: NoBody,
) -> Result<Response, ApiError> {
    match state.app.delete_environment(id, &making.asked(b"")).await? {
        Deletion::Job(made) => Ok(making.answer(&state, made).await),
        Deletion::Gone => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Look at the host and say what would be wrong; changes nothing and waits for no other job.
#[utoipa::path(post, path = "/environments/{id}/check", tag = "environments",
    params(("id" = inline(views::EnvironmentIdText), Path), openapi::JobHeaders),
    responses(openapi::JobAnswers, (status = 409, description = "It failed or is being deleted, or its host is revoked.")))]
async fn check_environment(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnvironmentId>,
    making: Making,
    _: NoBody,
) -> Result<Response, ApiError> {
    let made = state.app.check_environment(id, &making.asked(b"")).await?;
    Ok(making.answer(&state, made).await)
}
