//! The HTTP API.

pub mod serve;

use axum::Router;
use axum::routing::get;

use crate::app::App;

/// Who may use the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches it: loopback, or explicitly insecure.
    Open,
    /// Bearers of an API token.
    Tokens,
}

/// What every handler is given.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub app: App,
    pub access: Access,
}

/// Every route.
#[must_use]
pub fn router(state: ApiState) -> Router {
    Router::new().route("/livez", get(|| std::future::ready("ok\n"))).with_state(state)
}
