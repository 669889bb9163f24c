//! `/enrolment-tokens`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hostler_protocol::id::EnrolmentTokenId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::extract::{Id, NoBody, OptionalJson, Params};
use super::page::PageQuery;
use super::problem::ApiError;
use super::sites::created;
use crate::views;

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(list_enrolment_tokens, create_enrolment_token))
        .routes(routes!(delete_enrolment_token))
}

/// List enrolment tokens, oldest first; their secrets are not kept.
#[utoipa::path(get, path = "/enrolment-tokens", tag = "enrolment", params(PageQuery),
    responses((status = 200, body = views::EnrolmentTokenPage)))]
async fn list_enrolment_tokens(
    State(state): State<Arc<ApiState>>,
    Params(page): Params<PageQuery>,
) -> Result<axum::Json<views::EnrolmentTokenPage>, ApiError> {
    let page = page.of::<EnrolmentTokenId>()?;
    Ok(axum::Json(state.app.list_enrolment_tokens(&page).await?))
}

/// Make a one-time enrolment token; its join string is in this answer and nowhere else.
#[utoipa::path(post, path = "/enrolment-tokens", tag = "enrolment",
    request_body = Option<views::CreateEnrolmentToken>,
    responses((status = 201, body = views::EnrolmentTokenCreated, headers(("Location" = String))),
              (status = 409, description = "A host has that name, or agents have nowhere to connect to.")))]
async fn create_enrolment_token(
    State(state): State<Arc<ApiState>>,
    OptionalJson(asked, _): OptionalJson<views::CreateEnrolmentToken>,
) -> Result<Response, ApiError> {
    let made = state.app.create_enrolment_token(asked).await?;
    Ok(created(format!("/api/enrolment-tokens/{}", made.id), made))
}

/// Forget an enrolment token: nobody can use it any more. A host it let in stays.
#[utoipa::path(delete, path = "/enrolment-tokens/{id}", tag = "enrolment",
    params(("id" = inline(views::EnrolmentTokenIdText), Path)),
    responses((status = 204, description = "It is gone.")))]
async fn delete_enrolment_token(
    State(state): State<Arc<ApiState>>,
    Id(id): Id<EnrolmentTokenId>,
    _: NoBody,
) -> Result<StatusCode, ApiError> {
    state.app.delete_enrolment_token(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
