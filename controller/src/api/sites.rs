//! `/sites`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use hostler_protocol::id::SiteId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::extract::{Id, Json, NoBody, Params};
use super::page::PageQuery;
use super::problem::ApiError;
use crate::views;

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new().routes(routes!(list_sites, create_site)).routes(routes!(
        show_site,
        rename_site,
        delete_site
    ))
}

/// A 201 with its place.
pub(crate) fn created(place: String, body: impl serde::Serialize) -> Response {
    let headers: [(HeaderName, String); 1] = [(LOCATION, place)];
    (StatusCode::CREATED, headers, axum::Json(body)).into_response()
}

/// List sites, oldest first.
#[utoipa::path(get, path = "/sites", tag = "sites", params(PageQuery),
    responses((status = 200, body = views::SitePage)))]
async fn list_sites(
    State(state): State<Arc<ApiState>>,
    Params(page): Params<PageQuery>,
) -> Result<axum::Json<views::SitePage>, ApiError> {
    let page = page.of::<SiteId>()?;
    Ok(axum::Json(state.app.list_sites(&page).await?))
}

/// Make a site.
#[utoipa::path(post, path = "/sites", tag = "sites", request_body = views::CreateSite,
    responses((status = 201, body = views::Site, headers(("Location" = String))),
              (status = 409, description = "The name is taken.")))]
async fn create_site(
    State(state): State<Arc<ApiState>>,
    Json(asked, _): Json<views::CreateSite>,
) -> Result<Response, ApiError> {
    let site = state.app.create_site(asked).await?;
    Ok(created(format!("/api/sites/{}", site.id), site))
}

/// Show a site.
#[utoipa::path(get, path = "/sites/{id}", tag = "sites",
    params(("id" = inline(views::SiteIdText), Path)),
    responses((status = 200, body = views::Site)))]
async fn show_site(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<SiteId>,
) -> Result<axum::Json<views::Site>, ApiError> {
    Ok(axum::Json(state.app.show_site(&id).await?))
}

/// Rename a site.
#[utoipa::path(patch, path = "/sites/{id}", tag = "sites",
    params(("id" = inline(views::SiteIdText), Path)), request_body = views::RenameSite,
    responses((status = 200, body = views::Site), (status = 409, description = "The name is taken.")))]
async fn rename_site(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<SiteId>,
    Json(asked, _): Json<views::RenameSite>,
) -> Result<axum::Json<views::Site>, ApiError> {
    Ok(axum::Json(state.app.rename_site(id, asked).await?))
}

/// Delete a site that has no environments.
#[utoipa::path(delete, path = "/sites/{id}", tag = "sites",
    params(("id" = inline(views::SiteIdText), Path)),
    responses((status = 204, description = "It is gone."),
              (status = 409, description = "It still has environments.")))]
async fn delete_site(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<SiteId>,
    _: NoBody,
) -> Result<StatusCode, ApiError> {
    state.app.delete_site(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
