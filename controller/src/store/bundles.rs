//! Which bundles rows name: those a host may have, and those that have to stay.

use std::collections::BTreeSet;

use hostler_protocol::bundle::{DIGEST_CHARS, is_digest};
use hostler_protocol::id::HostId;
use serde_json::Value;

use super::cells::Cells;
use super::db::params;
use super::error::Failure;
use super::{Store, StoreError};

/// A job that has not ended.
const OPEN: &str = "j.state IN ('queued', 'running', 'held')";

fn read_text(row: &mut Cells<'_>) -> Result<String, Failure> {
    row.text()
}

/// Whether a document names just that at that place. One that cannot be read names nothing.
fn names(document: &str, place: &str, bundle: &str) -> bool {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    document.pointer(place).and_then(Value::as_str) == Some(bundle)
}

impl Store {
    /// Whether a host runs that bundle, or has a job about a stack that is about it.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn is_bundle_of(&self, bundle: &str, host: &HostId) -> Result<bool, StoreError> {
        if !is_digest(bundle) {
            return Ok(false);
        }
        let like = format!("%{bundle}%");
        // In this order: what a job applied is found in one of the two at any time.
        let sql = format!(
            "SELECT j.request FROM jobs j WHERE j.host_id = $1 AND j.stack_id IS NOT NULL \
             AND {OPEN} AND j.request LIKE $2"
        );
        let values = params![host.as_str(), like.as_str()];
        let requests = self.read_all("bundle_jobs", sql, values, read_text).await?;
        if requests.iter().any(|request| names(request, "/spec/bundle", bundle)) {
            return Ok(true);
        }
        let sql = "SELECT h.applied FROM stack_hosts h WHERE h.host_id = $1 AND h.applied LIKE $2";
        let applied = self.read_all("bundle_applied", sql, values, read_text).await?;
        Ok(applied.iter().any(|applied| names(applied, "/bundle", bundle)))
    }

    /// The bundles that somebody may still need: what hosts run, what jobs are about that have not
    /// ended or ended lately, and what the jobs in history were about of stacks that are still there: they
    /// can be gone back to, or repeated. Whatever looks like
    /// a bundle's name in their documents is taken for one, so that none is missed.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn needed_bundles(&self) -> Result<BTreeSet<String>, StoreError> {
        // In this order: what moves between them while they are read is seen before it moves, or
        // after.
        let documents = [
            "SELECT j.request FROM jobs j WHERE j.stack_id IS NOT NULL",
            "SELECT h.applied FROM stack_hosts h WHERE h.applied IS NOT NULL",
            "SELECT j.request FROM jobs_history j \
             WHERE j.stack_id IN (SELECT s.id FROM stacks s)",
        ];
        let mut needed = BTreeSet::new();
        for sql in documents {
            for document in self.read_all("needed_bundles", sql, &[], read_text).await? {
                needed.extend(digests(&document).map(str::to_owned));
            }
        }
        Ok(needed)
    }
}

/// Everything in a text that could be the name of a bundle.
fn digests(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() == DIGEST_CHARS && is_digest(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_what_stands_in_its_place() {
        let (one, other) = ("a1".repeat(32), "b2".repeat(32));
        let request = format!(r#"{{"spec":{{"bundle":"{one}","desired":"{other}"}}}}"#);
        assert!(names(&request, "/spec/bundle", &one));
        assert!(!names(&request, "/spec/bundle", &other));
        assert!(!names("{", "/spec/bundle", &one), "what cannot be read names nothing");
    }

    #[test]
    fn everything_that_looks_like_a_name_is_found() {
        let (one, other) = ("a1".repeat(32), "b2".repeat(32));
        let text = format!(r#"{{"bundle":"{one}","x":["{other}","{one}0","A{}"]}}"#, &one[1..]);
        assert_eq!(digests(&text).collect::<Vec<_>>(), [one.as_str(), other.as_str()]);
    }
}
