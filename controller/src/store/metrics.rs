//! The store's figures.

/// So many operations share a commit.
pub(super) fn group(operations: usize) {
    let operations = u32::try_from(operations).unwrap_or(u32::MAX);
    metrics::histogram!("hostler_store_group_operations").record(f64::from(operations));
}
