//! The store's figures.

/// So many operations share a commit.
pub(super) fn group(operations: usize) {
    let operations = u32::try_from(operations).unwrap_or(u32::MAX);
    metrics::histogram!("hostler_store_group_operations").record(f64::from(operations));
}

/// Other controllers were told of commits here.
pub(super) fn rung() {
    metrics::counter!("hostler_doorbell_sent_total").increment(1);
}

/// A controller told of its commits.
pub(super) fn heard() {
    metrics::counter!("hostler_doorbell_received_total").increment(1);
}

/// The connection that listens was lost.
pub(super) fn deaf() {
    metrics::counter!("hostler_doorbell_lost_total").increment(1);
}
