//! Bundles: the files an agent needs for one piece of work, named by what is in them.
//!
//! A bundle is a manifest, and a blob for each different content its files have. A blob's name is
//! the lower-case hex SHA-256 of its bytes; the bundle's name is that of its manifest's canonical
//! bytes ([`Manifest::bytes`]), so that whoever has the name can check everything below it.

use serde::{Deserialize, Serialize};

/// Characters of a digest: lower-case hex of a SHA-256.
pub const DIGEST_CHARS: usize = 64;
/// Most files one bundle may have.
pub const FILES_MAX: usize = 20_000;
/// Largest file of a bundle, in bytes.
pub const BLOB_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest bundle, its files taken together, in bytes.
pub const BUNDLE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Largest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest path of a file, in bytes.
pub const PATH_BYTES_MAX: usize = 1024;

/// What a file of a bundle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    File,
    /// A file that may be run.
    Executable,
    /// A symbolic link; its content is its target.
    Symlink,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Relative, parts parted by `/`, none of them empty, `.` or `..`; see [`is_path`].
    pub path: String,
    pub kind: FileKind,
    /// Lower-case hex SHA-256 of its content.
    pub sha256: String,
    pub bytes: u64,
}

/// All files of a bundle, sorted by path (bytes), no path twice and none below another's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub files: Vec<File>,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the bytes of a manifest.
    #[error("the manifest cannot be read")]
    Unreadable,
    /// Past one of this module's limits.
    #[error("{what} of a bundle: {found}; the limit is {limit}")]
    TooLarge { what: &'static str, found: u64, limit: u64 },
    /// A path that could leave the bundle, or of a form no file has.
    #[error("{path:?} is no path of a bundle")]
    Path { path: String },
    /// Not sorted, twice, or below a file.
    #[error("{path:?} does not stand where it belongs in the manifest")]
    Order { path: String },
    /// A name that is no SHA-256.
    #[error("the digest of {path:?} is none")]
    Digest { path: String },
}

/// Whether a path stays inside a bundle and means the same everywhere.
#[must_use]
pub fn is_path(path: &str) -> bool {
    (1..=PATH_BYTES_MAX).contains(&path.len())
        && !path.contains(['\0', '\\'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a text is the name of a blob.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.len() == DIGEST_CHARS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Manifest {
    /// The canonical bytes: compact JSON, fields in the order of these types. Their SHA-256 is the
    /// bundle's name.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        crate::job::write(self)
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`], naming the file that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        too_large("bytes of the manifest", bytes.len() as u64, MANIFEST_BYTES_MAX as u64)?;
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|_| ManifestError::Unreadable)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether it is one that may be sent and placed.
    ///
    /// # Errors
    /// [`ManifestError`], naming the file that is wrong.
    pub fn check(&self) -> Result<(), ManifestError> {
        too_large("files", self.files.len() as u64, FILES_MAX as u64)?;
        let mut total = 0_u64;
        let mut last: Option<&str> = None;
        let mut paths = std::collections::BTreeSet::new();
        for file in &self.files {
            let path = || file.path.clone();
            if !is_path(&file.path) {
                return Err(ManifestError::Path { path: path() });
            }
            if !is_digest(&file.sha256) {
                return Err(ManifestError::Digest { path: path() });
            }
            let parents = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
            let below_a_file = parents.into_iter().any(|parent| paths.contains(parent));
            if below_a_file || last.is_some_and(|last| last >= file.path.as_str()) {
                return Err(ManifestError::Order { path: path() });
            }
            too_large("bytes of one file", file.bytes, BLOB_BYTES_MAX)?;
            total = total.saturating_add(file.bytes);
            last = Some(&file.path);
            paths.insert(file.path.as_str());
        }
        too_large("bytes in all files", total, BUNDLE_BYTES_MAX)
    }
}

fn too_large(what: &'static str, found: u64, limit: u64) -> Result<(), ManifestError> {
    if found > limit { Err(ManifestError::TooLarge { what, found, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> File {
        File { path: path.to_owned(), kind: FileKind::File, sha256: "ab".repeat(32), bytes: 1 }
    }

    fn of(paths: &[&str]) -> Manifest {
        Manifest { files: paths.iter().map(|path| file(path)).collect() }
    }

    #[test]
    fn a_manifest_reads_back() {
        let manifest = of(&["a", "b/c", "b/d"]);
        assert_eq!(Manifest::parse(&manifest.bytes()), Ok(manifest.clone()));
        assert!(manifest.bytes().starts_with(br#"{"files":[{"path":"a","kind":"file","#));
    }

    #[test]
    fn paths_that_could_leave_are_refused() {
        for bad in ["", "/a", "a/", "../a", "a/../b", "a//b", "./a", "a\0b", "a\\b"] {
            let told = of(&[bad]).check();
            assert_eq!(told, Err(ManifestError::Path { path: bad.to_owned() }), "{bad:?}");
        }
        assert!(is_path("a b/ü.conf") && is_path(".env") && is_path("..a"));
    }

    #[test]
    fn no_path_stands_twice_or_below_a_file() {
        for bad in [&["b", "a"][..], &["a", "a"], &["a", "a/b"], &["a", "a.b", "a/b"]] {
            assert!(matches!(of(bad).check(), Err(ManifestError::Order { .. })), "{bad:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut manifest = of(&["a"]);
        manifest.files[0].bytes = BLOB_BYTES_MAX + 1;
        assert!(matches!(manifest.check(), Err(ManifestError::TooLarge { .. })));
        let many = Manifest {
            files: (0..9).map(|n| File { bytes: BLOB_BYTES_MAX, ..file(&n.to_string()) }).collect(),
        };
        assert!(matches!(many.check(), Err(ManifestError::TooLarge { .. })));
        let odd = Manifest { files: vec![File { sha256: "AB".repeat(32), ..file("a") }] };
        assert!(matches!(odd.check(), Err(ManifestError::Digest { .. })));
    }
}
