//! A stack as it was found.

use std::collections::BTreeMap;

use super::bundle::{Bundle, Use};
use super::compose::Service;
use super::hostler::HostlerSection;
use super::problem::Problem;
use super::tree::EntryKind;

/// One stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Relative to the deploy directory, `.` for that itself; see [`named`](super::path::named).
    pub path: String,
    /// Its directory, relative to the repository's root; empty for the root. One that is not UTF-8, with
    /// which there is a problem, as [`shown`](super::path::shown).
    pub directory: String,
    /// The compose file's name.
    pub compose_file: String,
    /// The name of the file that is laid over it.
    pub override_file: Option<String>,
    /// Of the compose file; none only if its bytes could not be read. See
    /// [`compose_hash`](super::fingerprint::compose_hash).
    pub compose_hash: Option<String>,
    /// The object id of the directory's tree.
    pub tree_oid: String,
    /// Its files; none exactly if there is a problem.
    pub bundle: Option<Bundle>,
    /// The compose project's name, if one follows.
    pub project: Option<String>,
    /// Its section `x-hostler`, or the defaults; with a problem it says nothing that may be acted
    /// on.
    pub hostler: HostlerSection,
    pub services: BTreeMap<String, Service>,
    /// What its services use, sorted.
    pub uses: Vec<Use>,
    /// What keeps it from being synced.
    pub problem: Option<Problem>,
    pub warnings: Vec<Problem>,
    /// What else it hangs on: paths outside its directory, and what stood there, its kind and its object.
    pub outside: BTreeMap<String, Option<(EntryKind, String)>>,
}
