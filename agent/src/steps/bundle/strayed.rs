//! Which placed files are no longer as they were written.

use std::collections::BTreeSet;
use std::path::Path;

use super::BundleError;
use super::plan::any_is;
use super::record::{Record, Written};
use crate::host::tree::{Found, Tree};

/// Paths of files that are not as Hostler wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strayed {
    pub changed: BTreeSet<String>,
    pub missing: BTreeSet<String>,
}

pub(super) fn look(
    dir: &Path,
    since_us: Option<i64>,
    before: &Strayed,
) -> Result<Strayed, BundleError> {
    let record = Record::load(dir)?;
    let mut strayed = Strayed::default();
    let Some(tree) = Tree::open(dir)? else {
        strayed.missing.extend(record.files.into_keys());
        return Ok(strayed);
    };
    for path in record.files.keys() {
        let found = tree.look(path)?;
        if found == Found::Nothing {
            strayed.missing.insert(path.clone());
            continue;
        }
        let is_known = before.changed.contains(path) || before.missing.contains(path);
        let touched = match since_us {
            Some(since_us) if !is_known => tree.touched_us(path)? >= since_us,
            Some(_) | None => true,
        };
        // What a placing that was cut off was about to write is as good as what was there.
        let fits = |wanted: &&Written| wanted.has_access(&found);
        if touched && !any_is(&tree, path, &found, record.of(path).filter(fits))? {
            strayed.changed.insert(path.clone());
        }
    }
    Ok(strayed)
}
