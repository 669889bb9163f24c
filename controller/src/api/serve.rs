//! HTTP on a listener until the shutdown.

use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Seconds requests under way get at a shutdown.
pub const GRACE_SECS: u64 = 10;
/// The media type of Prometheus's text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the shutdown; then no new connection is taken, and requests under way get
/// [`GRACE_SECS`].
///
/// # Errors
/// What the listener could not do.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let drained = shutdown.clone();
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(async move { drained.cancelled().await });
    let cut_off = async {
        shutdown.cancelled().await;
        tokio::time::sleep(Duration::from_secs(GRACE_SECS)).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = cut_off => {
            tracing::warn!("some requests did not end in time and are cut off");
            Ok(())
        }
    }
}

/// The routes of the metrics listener.
pub fn metrics_router(render: impl Fn() -> String + Clone + Send + Sync + 'static) -> Router {
    let metrics = move || {
        let text = render();
        std::future::ready(([(CONTENT_TYPE, METRICS_TYPE)], text))
    };
    Router::new().route("/metrics", get(metrics))
}
