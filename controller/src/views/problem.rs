//! Errors as the outside reads them: RFC 9457 problem details.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was not carried out (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:hostler:problem:` and the code in lower case.
    #[schema(pattern = "^urn:hostler:problem:[a-z_]+$", example = "urn:hostler:problem:not_found")]
    #[serde(rename = "type")]
    pub kind: String,
    /// What sort of problem it is, in a few words.
    pub title: String,
    /// The HTTP status, repeated.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What is wrong here and what to do about it.
    pub detail: String,
    /// The request's id, as in the `X-Request-Id` header and the controller's log.
    #[schema(value_type = super::RequestIdText)]
    pub instance: String,
    /// A stable code for programs.
    #[schema(pattern = "^[A-Z][A-Z_]*$", example = "NOT_FOUND")]
    pub code: String,
    /// What is wrong where in the request; empty if it is wrong as a whole.
    pub errors: Vec<FieldProblem>,
}

/// One thing wrong in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) into the request's body; `?name` for a query parameter.
    #[schema(example = "/nginx/http_file")]
    pub pointer: String,
    pub detail: String,
}
