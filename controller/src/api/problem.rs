//! Every error the API answers with: the only table from errors to statuses.
//!
//! A handler returns an [`ApiError`]; the outermost layer writes it as problem details
//! (RFC 9457) with the request's id. What the framework answers by itself (404, 405) becomes one
//! there too, so no answer of the API has another shape.

use axum::http::StatusCode;
use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};

use crate::app::AppError;
use crate::domain::{Refusal, RefusalKind};
use crate::store::StoreError;
use crate::views::{FieldProblem, Problem};

/// The media type of problem details.
pub(crate) const PROBLEM_TYPE: &str = "application/problem+json";
/// What `type` begins with; the code in lower case follows.
pub(crate) const PROBLEM_URN: &str = "urn:hostler:problem:";
/// Seconds after which a request may be tried again when the database could not be reached.
pub(crate) const RETRY_AFTER_SECS: u32 = 2;

/// An error on its way to the outermost layer.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub status: StatusCode,
    /// Stable, upper case.
    pub code: &'static str,
    pub detail: String,
    pub errors: Vec<FieldProblem>,
    /// Boxed: few errors have one, and every handler's result is as large as its error.
    pub header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl ApiError {
    /// An error about the request as a whole.
    #[must_use]
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), header: None }
    }

    /// A 400 about one place in the request.
    #[must_use]
    pub(crate) fn field(
        code: &'static str,
        pointer: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        let mut error = Self::new(StatusCode::BAD_REQUEST, code, detail.clone());
        error.errors.push(FieldProblem { pointer: pointer.into(), detail });
        error
    }

    /// A 401.
    #[must_use]
    pub(crate) fn unauthenticated(detail: &str) -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", detail);
        let challenge = HeaderValue::from_static("Bearer realm=\"hostler\"");
        error.header = Some(Box::new((WWW_AUTHENTICATE, challenge)));
        error
    }

    /// A 500: a defect of ours, of which nothing is told but that it is in the log.
    #[must_use]
    pub(crate) fn internal() -> Self {
        let detail = "a defect of the controller; its log has more under this request's id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", detail)
    }

    /// A 503 that says when to come back.
    #[must_use]
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        error.header = Some(Box::new((RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS))));
        error
    }

    /// What the framework's bare answer of that status means.
    #[must_use]
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => {
                Self::new(status, "NOT_FOUND", "there is nothing at this path")
            }
            StatusCode::METHOD_NOT_ALLOWED => Self::new(
                status,
                "METHOD_NOT_ALLOWED",
                "the path knows only the methods in the Allow header",
            ),
            status if status.is_client_error() => {
                Self::new(status, "BAD_REQUEST", "the request cannot be read")
            }
            _ => Self { status, ..Self::internal() },
        }
    }

    /// The document the outside reads.
    #[must_use]
    pub(crate) fn problem(self, request_id: &str) -> Problem {
        Problem {
            kind: format!("{PROBLEM_URN}{}", self.code.to_ascii_lowercase()),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            instance: request_id.to_owned(),
            code: self.code.to_owned(),
            errors: self.errors,
        }
    }
}

impl IntoResponse for ApiError {
    /// A bare answer that carries the error to the outermost layer.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::Denied => StatusCode::FORBIDDEN,
        };
        let field = |(pointer, detail)| FieldProblem { pointer, detail };
        let errors = refusal.fields.into_iter().map(field).collect();
        Self { errors, ..Self::new(status, refusal.code, refusal.message) }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, source, "a request failed at the database");
        if error.is_temporary() {
            Self::unavailable("STORE_UNAVAILABLE", error.cause())
        } else {
            Self::internal()
        }
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Refused(refusal) => refusal.into(),
            AppError::Store(error) => error.into(),
            AppError::Random(error) => {
                tracing::error!(%error, "a request failed for want of random bytes");
                Self::unavailable("NO_RANDOM", "the system's random generator failed; try again")
            }
            AppError::NowhereToJoin => {
                Self::new(StatusCode::CONFLICT, "NOWHERE_TO_JOIN", error.to_string())
            }
        }
    }
}
