//! Removes bundles that nobody can need any more. What that is, the rows say: see
//! [`App::collect_bundles`].

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::bundles::Collected;

/// Seconds between two collections; the first comes so long after the start.
pub const PERIOD_SECS: u64 = 3600;
/// Seconds for which what nobody names stays all the same: four hours.
pub const GRACE_SECS: u64 = 4 * 3600;

/// Collects until the shutdown.
pub async fn run(app: App, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(PERIOD_SECS)) => {}
        }
        let collected = tokio::select! {
            () = shutdown.cancelled() => return,
            collected = app.collect_bundles(GRACE_SECS) => collected,
        };
        match collected {
            Ok(Some(collected)) => tell(collected),
            Ok(None) => {}
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "bundles nobody needs could not be removed; they are looked for again later"
            ),
        }
    }
}

fn tell(collected: Collected) {
    let Collected { bundles_removed, blobs_removed, bytes_removed, blobs_kept } = collected;
    metrics::counter!("hostler_bundles_collected_total").increment(bundles_removed);
    #[expect(clippy::cast_precision_loss, reason = "a store has far fewer than 2^52 blobs")]
    metrics::gauge!("hostler_bundle_blobs").set(blobs_kept as f64);
    if bundles_removed + blobs_removed > 0 {
        tracing::info!(
            bundles_removed,
            blobs_removed,
            bytes_removed,
            blobs_kept,
            "bundles nobody needs any more were removed"
        );
    }
}
