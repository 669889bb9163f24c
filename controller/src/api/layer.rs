//! What every request passes: its id, authentication, a net for panics, and the one place where
//! errors become problem details.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use hostler_protocol::id::RequestId;
use tracing::Instrument as _;

use super::ApiState;
use super::auth::authenticate;
use super::problem::{ApiError, PROBLEM_TYPE};

/// The header that names a request.
pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Times requests by method, route and class of status.
const DURATION: &str = "http_server_request_duration_seconds";

/// Carries a request through: in with its id, out as an answer or problem details.
pub(crate) async fn around(
    State(state): State<Arc<ApiState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started_ms = state.app.clock.monotonic_ms();
    let route = route(&request);
    let method = request.method().clone();
    let id = match state.app.clock.new_request_id() {
        Ok(id) => id,
        // An id is for finding a request in the log; without randomness nothing else works either.
        Err(_) => RequestId::from_parts(0, [0; 10]),
    };
    request.extensions_mut().insert(id.clone());
    // Whatever is logged on its behalf carries its id.
    let span = tracing::info_span!("request", id = %id);
    let passed = AssertUnwindSafe(pass(&state, request, next, &route).instrument(span));
    let passed = passed.catch_unwind().await;
    let response = passed.unwrap_or_else(|_| {
        tracing::error!(request_id = %id, %method, route, "a request's handler panicked");
        axum::response::IntoResponse::into_response(ApiError::internal())
    });
    let response = finish(response, &id);
    let took_ms = state.app.clock.monotonic_ms().saturating_sub(started_ms);
    let status = response.status().as_u16();
    record(&method, &route, status, took_ms);
    if method.is_safe() && status < 500 {
        tracing::debug!(request_id = %id, %method, route, status, took_ms, "a request was answered");
    } else {
        tracing::info!(request_id = %id, %method, route, status, took_ms, "a request was answered");
    }
    response
}

fn route(request: &Request) -> String {
    let matched = request.extensions().get::<MatchedPath>();
    matched.map_or("unmatched", |matched| matched.as_str()).to_owned()
}

async fn pass(state: &ApiState, mut request: Request, next: Next, route: &str) -> Response {
    let who = authenticate(
        &state.app,
        &state.access,
        request.method(),
        route,
        request.uri(),
        request.headers(),
    )
    .await;
    match who {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(error) => axum::response::IntoResponse::into_response(error),
    }
}

/// Writes an error as problem details, and the headers every answer has.
fn finish(mut response: Response, id: &RequestId) -> Response {
    let status = response.status();
    let error = response.extensions_mut().remove::<ApiError>();
    if error.is_some() || status.is_client_error() || status.is_server_error() {
        let mut error = error.unwrap_or_else(|| ApiError::of_status(status));
        let header = error.header.take();
        let text = serde_json::to_vec(&error.problem(id.as_str())).unwrap_or_default();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        headers.extend(header.map(|header| *header));
        *response.body_mut() = Body::from(text);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(X_REQUEST_ID.clone(), id);
    }
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-store"));
    response
}

fn record(method: &axum::http::Method, route: &str, status: u16, took_ms: u64) {
    let class = format!("{}xx", status / 100);
    // Methods are an open set: what nobody defined must not become a label.
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    }
    .to_owned();
    let seconds = std::time::Duration::from_millis(took_ms).as_secs_f64();
    metrics::histogram!(
        DURATION, "method" => method, "route" => route.to_owned(), "status_class" => class
    )
    .record(seconds);
}
