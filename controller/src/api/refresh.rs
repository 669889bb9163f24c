//! `/refresh`, `/refresh-status`, `/refreshes`: looks at the config repository.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hostler_protocol::id::RefreshId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::answer::{Making, PREFERENCE_APPLIED, mark, told, wait_secs};
use super::extract::{Id, NoBody, Params};
use super::openapi;
use super::page::PageQuery;
use super::problem::ApiError;
use crate::app::Told;
use crate::views;

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(refresh))
        .routes(routes!(refresh_status))
        .routes(routes!(list_refreshes))
        .routes(routes!(show_refresh))
}

/// Look at the config repository now. With `Prefer: wait=SECONDS` the answer is the look's end.
#[utoipa::path(post, path = "/refresh", tag = "stacks",
    params(("Prefer" = Option<String>, Header, description = "`wait=SECONDS`: wait for the end, 60 s at most."),
           openapi::KeyHeader),
    responses((status = 200, body = views::Refresh, description = "It has ended: `completed` or `failed`.",
               headers(("Idempotent-Replayed" = Option<String>))),
              (status = 202, body = views::Refresh, description = "It runs, or waits for the one that does.",
               headers(("Idempotent-Replayed" = Option<String>))),
              (status = 409, description = "No repository is configured.")))]
async fn refresh(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    making: Making,
    _: NoBody,
) -> Result<Response, ApiError> {
    let Told { what: asked, replayed } = state.app.refresh_now(&making.asked(b"")).await?;
    let Some(secs) = wait_secs(&headers) else {
        return Ok(told(StatusCode::ACCEPTED, Told { what: asked, replayed }));
    };
    let id: RefreshId = asked.id.parse().map_err(|_| ApiError::internal())?;
    let found = tokio::select! {
        found = state.app.wait_for_refresh(&id, Duration::from_secs(secs)) => found?,
        () = state.shutdown.cancelled() => asked,
    };
    let status = if found.finished_at.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, axum::Json(found)).into_response();
    mark(&mut response, replayed);
    if let Ok(applied) = HeaderValue::from_str(&format!("wait={secs}")) {
        response.headers_mut().insert(PREFERENCE_APPLIED.clone(), applied);
    }
    Ok(response)
}

/// Say how the desired state stands: the snapshot that holds, the last look, the one that runs.
#[utoipa::path(get, path = "/refresh-status", tag = "stacks",
    responses((status = 200, body = views::RefreshStatus)))]
async fn refresh_status(
    State(state): State<Arc<ApiState>>,
) -> Result<axum::Json<views::RefreshStatus>, ApiError> {
    Ok(axum::Json(state.app.refresh_status().await?))
}

/// List looks at the repository, newest first.
#[utoipa::path(get, path = "/refreshes", tag = "stacks", params(PageQuery),
    responses((status = 200, body = views::RefreshPage)))]
async fn list_refreshes(
    State(state): State<Arc<ApiState>>,
    Params(page): Params<PageQuery>,
) -> Result<axum::Json<views::RefreshPage>, ApiError> {
    let page = page.of::<RefreshId>()?;
    Ok(axum::Json(state.app.list_refreshes(&page).await?))
}

/// Show a look; of one that a newer one replaced before it began, the one that answers for it.
#[utoipa::path(get, path = "/refreshes/{id}", tag = "stacks",
    params(("id" = inline(views::RefreshIdText), Path)),
    responses((status = 200, body = views::Refresh)))]
async fn show_refresh(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<RefreshId>,
) -> Result<axum::Json<views::Refresh>, ApiError> {
    Ok(axum::Json(state.app.show_refresh(&id).await?))
}
