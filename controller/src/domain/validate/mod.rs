//! Validation: everything wrong with a request is found at once, each with a JSON pointer.

pub mod environment;
pub mod overlap;
pub mod purge;
pub mod redis;
pub mod text;

use super::{Refusal, RefusalKind};

/// Most problems one answer lists; the rest is only counted.
pub const PROBLEMS_MAX: usize = 100;

/// What has been found wrong so far: JSON pointers and sentences.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Problems {
    found: Vec<(String, String)>,
}

impl Problems {
    /// Notes one problem.
    pub fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.found.push((pointer.into(), detail.into()));
    }

    /// Notes a problem if there is one.
    pub fn check(&mut self, pointer: &str, checked: Result<(), String>) {
        if let Err(detail) = checked {
            self.add(pointer, detail);
        }
    }

    /// All that was found.
    #[must_use]
    pub fn found(&self) -> &[(String, String)] {
        &self.found
    }

    /// Nothing, or one refusal that lists everything.
    ///
    /// # Errors
    /// `INVALID_REQUEST` with a field for each problem, at most [`PROBLEMS_MAX`].
    pub fn finish(self) -> Result<(), Refusal> {
        let count = self.found.len();
        let message = match self.found.first() {
            None => return Ok(()),
            Some((_, detail)) if count == 1 => detail.clone(),
            Some(_) => format!("{count} things are wrong; each is listed in `errors`"),
        };
        let mut refusal = Refusal::new(RefusalKind::Invalid, "INVALID_REQUEST", message);
        refusal.fields = self.found;
        refusal.fields.truncate(PROBLEMS_MAX);
        Err(refusal)
    }
}
