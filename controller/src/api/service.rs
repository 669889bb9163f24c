//! The controller itself: `/livez`, `/readyz`, `/openapi.json`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::problem::ApiError;
use crate::views::{Health, HealthStatus};

/// Routes at the root.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(openapi_json))
}

/// The process lives.
#[utoipa::path(get, path = "/livez", tag = "service", responses((status = 200, body = Health)))]
fn livez() -> std::future::Ready<axum::Json<Health>> {
    std::future::ready(axum::Json(Health { status: HealthStatus::Ok }))
}

/// The controller can serve: its database answers.
#[utoipa::path(get, path = "/readyz", tag = "service", responses((status = 200, body = Health)))]
async fn readyz(State(state): State<Arc<ApiState>>) -> Result<axum::Json<Health>, ApiError> {
    state.app.store.ping().await.map_err(|error| {
        tracing::warn!(%error, "not ready: the database does not answer");
        ApiError::unavailable("STORE_UNAVAILABLE", "the database does not answer")
    })?;
    Ok(axum::Json(Health { status: HealthStatus::Ok }))
}

/// This contract.
#[utoipa::path(get, path = "/openapi.json", tag = "service",
    responses((status = 200, body = Object, content_type = "application/json")))]
fn openapi_json(State(state): State<Arc<ApiState>>) -> std::future::Ready<Response> {
    let text = state.contract.to_string();
    std::future::ready(([(CONTENT_TYPE, "application/json")], text).into_response())
}
