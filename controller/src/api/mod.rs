//! The HTTP API: one file per noun.
//!
//! Invariants: an answer is a view or problem details; every route is in the contract, since a
//! handler is bound and documented by the same macro; every request passes [`layer::around`], and
//! with it the one function that authenticates; nothing here talks to an agent.

mod answer;
mod auth;
mod batches;
mod caches;
mod environments;
mod extract;
mod home;
mod hosts;
mod jobs;
mod layer;
mod openapi;
mod page;
mod problem;
mod refresh;
pub mod serve;
mod service;
mod sites;
mod stacks;
mod stream;
mod tokens;
mod webhook;

use std::sync::Arc;

use axum::Router;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

pub use auth::Access;

/// What every handler is given.
#[derive(Debug)]
pub struct ApiState {
    app: App,
    access: Access,
    contract: Value,
    streams: Arc<Semaphore>,
    /// Ends what would otherwise keep a connection open: streams and clients that wait.
    shutdown: CancellationToken,
}

fn routes() -> OpenApiRouter<Arc<ApiState>> {
    let api = OpenApiRouter::new()
        .merge(sites::routes())
        .merge(environments::routes())
        .merge(caches::routes())
        .merge(hosts::routes())
        .merge(tokens::routes())
        .merge(jobs::routes())
        .merge(batches::routes())
        .merge(refresh::routes())
        .merge(webhook::routes())
        .merge(stacks::routes())
        .merge(stream::routes());
    OpenApiRouter::with_openapi(openapi::Base::openapi())
        .merge(service::routes())
        .merge(home::routes())
        .nest("/api", api)
}

/// The contract as a JSON document: what `contracts/openapi.yaml` holds.
#[must_use]
pub fn contract() -> Value {
    openapi::complete(routes().get_openapi())
}

/// Every route. At the shutdown streams end and nobody waits for a job's end any longer.
pub fn router(app: App, access: Access, shutdown: CancellationToken) -> Router {
    let streams = Arc::new(Semaphore::new(stream::STREAMS_MAX));
    let state = Arc::new(ApiState { app, access, contract: contract(), streams, shutdown });
    let (router, _) = routes().split_for_parts();
    router
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&state), layer::around))
        .with_state(state)
}
