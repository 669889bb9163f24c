//! `/hosts`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use hostler_protocol::id::HostId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::extract::{Id, Json, NoBody, OptionalJson, Params};
use super::page::PageQuery;
use super::problem::ApiError;
use crate::views;

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(list_hosts))
        .routes(routes!(show_host, change_host, delete_host))
        .routes(routes!(revoke_host))
}

/// List hosts, oldest first.
#[utoipa::path(get, path = "/hosts", tag = "hosts", params(PageQuery),
    responses((status = 200, body = views::HostPage)))]
async fn list_hosts(
    State(state): State<Arc<ApiState>>,
    Params(page): Params<PageQuery>,
) -> Result<axum::Json<views::HostPage>, ApiError> {
    let page = page.of::<HostId>()?;
    Ok(axum::Json(state.app.list_hosts(&page).await?))
}

/// Show a host.
#[utoipa::path(get, path = "/hosts/{id}", tag = "hosts",
    params(("id" = inline(views::HostIdText), Path)),
    responses((status = 200, body = views::Host)))]
async fn show_host(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<HostId>,
) -> Result<axum::Json<views::Host>, ApiError> {
    Ok(axum::Json(state.app.show_host(&id).await?))
}

/// Change a host: its name, its labels.
#[utoipa::path(patch, path = "/hosts/{id}", tag = "hosts",
    params(("id" = inline(views::HostIdText), Path)), request_body = views::ChangeHost,
    responses((status = 200, body = views::Host), (status = 409, description = "The name is taken.")))]
async fn change_host(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<HostId>,
    Json(asked, _): Json<views::ChangeHost>,
) -> Result<axum::Json<views::Host>, ApiError> {
    if asked == views::ChangeHost::default() {
        return Err(ApiError::field("INVALID_REQUEST", "", "name at least one field to change"));
    }
    Ok(axum::Json(state.app.change_host(id, asked).await?))
}

/// Shut a host out: its live session ends, its certificate is refused, its jobs end. An evicted
/// host may be enrolled again with a new token, as another host; a banned one's keys never can.
#[utoipa::path(post, path = "/hosts/{id}/revoke", tag = "hosts",
    params(("id" = inline(views::HostIdText), Path)),
    request_body = Option<views::RevokeHost>,
    responses((status = 200, body = views::Host),
              (status = 409, description = "It is banned, and would become merely evicted.")))]
async fn revoke_host(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<HostId>,
    OptionalJson(asked, _): OptionalJson<views::RevokeHost>,
) -> Result<axum::Json<views::Host>, ApiError> {
    Ok(axum::Json(state.app.revoke_host(id, asked).await?))
}

/// Forget a revoked host that has no environments.
#[utoipa::path(delete, path = "/hosts/{id}", tag = "hosts",
    params(("id" = inline(views::HostIdText), Path)),
    responses((status = 204, description = "It is forgotten."),
              (status = 409, description = "It is not revoked, or still has environments.")))]
async fn delete_host(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<HostId>,
    _: NoBody,
) -> Result<StatusCode, ApiError> {
    state.app.delete_host(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
