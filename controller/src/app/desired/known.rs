//! What is remembered of bundles and of the last look at stacks, in this process alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Micros;
use crate::domain::desired::StackProblem;
use crate::store::StacksMark;

/// Bundles by the digests of the facts they were made of, and why none can be made of others: it is
/// not tried again and again.
#[derive(Debug, Default)]
pub(super) struct Known {
    made: BTreeMap<String, String>,
    refused: BTreeMap<String, StackProblem>,
}

impl Known {
    pub(super) fn made(&self, digest: &str) -> Option<String> {
        self.made.get(digest).cloned()
    }

    pub(super) fn refused(&self, digest: &str) -> Option<StackProblem> {
        self.refused.get(digest).cloned()
    }

    pub(super) fn make(&mut self, digest: String, bundle: String) {
        self.made.insert(digest, bundle);
    }

    pub(super) fn refuse(&mut self, digest: String, why: StackProblem) {
        self.refused.insert(digest, why);
    }

    /// Forgets all but these digests: of others no bundle can be asked for any more.
    pub(super) fn keep(&mut self, digests: &BTreeSet<&str>) {
        self.made.retain(|digest, _| digests.contains(digest.as_str()));
        self.refused.retain(|digest, _| digests.contains(digest.as_str()));
    }
}

/// A look at stacks that found nothing to do.
#[derive(Debug)]
pub(super) struct Settled {
    /// Of what it was made on.
    pub(super) mark: StacksMark,
    /// From when on there may be something to do all the same.
    pub(super) due: Option<Micros>,
}

impl Settled {
    /// Whether there is still nothing to do.
    pub(super) fn holds(&self, mark: &StacksMark, now: Micros) -> bool {
        self.mark == *mark && self.due.is_none_or(|due| now < due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_known_than_there_is() {
        let mut known = Known::default();
        for commit in 0..100 {
            let digests =
                ["same".to_owned(), format!("made {commit}"), format!("refused {commit}")];
            known.keep(&digests.iter().map(String::as_str).collect());
            known.make(digests[0].clone(), "bundle".to_owned());
            known.make(digests[1].clone(), "bundle".to_owned());
            known.refuse(
                digests[2].clone(),
                StackProblem { code: String::new(), message: String::new() },
            );
            assert_eq!((known.made.len(), known.refused.len()), (2, 1));
            assert!(known.made("same").is_some());
        }
    }
}
