//! A bundle as it is placed: what was encrypted for this host stands in it as what it is.
//!
//! `x.age` becomes `x`, its owner's alone. The encrypted file itself is not placed: encrypted anew
//! to other recipients, the bundle places what it did before.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File as OsFile;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hostler_protocol::bundle::{File, FileKind, Manifest, is_path};
use zeroize::Zeroizing;

use super::error::BundleError;
use super::plan::sha256_hex;
use super::record::Written;
use crate::host::age::{self, FILE_BYTES_MAX, Keys};
use crate::host::fs::FsError;

/// What the name of an encrypted file ends in.
const ENDING: &str = ".age";
/// Most bytes of all that is encrypted in one bundle: they are in memory while it is placed.
const PLAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A bundle whose encrypted files were opened.
#[derive(Clone, Default)]
pub struct Opened {
    manifest: Arc<Manifest>,
    /// What was encrypted, by where it is placed.
    plain: BTreeMap<String, Arc<Zeroizing<Vec<u8>>>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let private: Vec<_> = self.plain.keys().collect();
        let files = self.manifest.files.len();
        f.debug_struct("Opened").field("files", &files).field("private", &private).finish()
    }
}

impl From<Arc<Manifest>> for Opened {
    /// A bundle nothing of which is encrypted, or is not to be opened.
    fn from(manifest: Arc<Manifest>) -> Self {
        Self { manifest, plain: BTreeMap::new() }
    }
}

impl Opened {
    /// The files as they are placed.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The same with only some of its files.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(&File) -> bool) -> Self {
        let files = self.manifest.files.iter().filter(|file| wanted(file)).cloned().collect();
        Self { manifest: Arc::new(Manifest { files }), plain: self.plain.clone() }
    }

    /// A file as it is recorded.
    pub(super) fn written(&self, file: &File) -> Written {
        Written::of(file, self.plain.contains_key(&file.path))
    }

    /// What was encrypted.
    pub(super) fn plain(&self, path: &str) -> Option<&[u8]> {
        self.plain.get(path).map(|plain| plain.as_slice())
    }

    /// Opens what is encrypted, all or nothing; keys are read only where there is anything.
    pub(super) fn open(
        manifest: &Arc<Manifest>,
        blobs: &BTreeMap<String, PathBuf>,
        key_file: &Path,
    ) -> Result<Self, BundleError> {
        let Some(first) = manifest.files.iter().find(|file| is_sealed(file)) else {
            return Ok(Self::from(manifest.clone()));
        };
        let keys = Keys::read(key_file)
            .map_err(|source| BundleError::Key { path: first.path.clone(), source })?;
        let opening = Opening { keys: &keys };
        let (mut files, mut plain, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
        for file in &manifest.files {
            let Some(path) = sealed_as(&file.path) else {
                files.push(file.clone());
                continue;
            };
            let blob =
                blobs.get(&file.sha256).ok_or_else(|| BundleError::damaged_blob(&file.sha256))?;
            let content = opening.file(file, blob)?;
            bytes += content.len();
            if bytes > PLAIN_BYTES_MAX {
                let reason =
                    format!("the bundle's encrypted files have more than {PLAIN_BYTES_MAX} bytes");
                return Err(opening.failed(file, reason));
            }
            let sha256 = sha256_hex(&content);
            let (path, kind, bytes) = (path.to_owned(), file.kind, content.len() as u64);
            files.push(File { path: path.clone(), kind, sha256, bytes });
            plain.insert(path, Arc::new(content));
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let opened = Manifest { files };
        if let Err(error) = opened.check() {
            return Err(clash(&opened, &plain).unwrap_or_else(|| BundleError::Damaged {
                what: "the bundle's manifest".to_owned(),
                reason: error.to_string(),
            }));
        }
        Ok(Self { manifest: Arc::new(opened), plain })
    }
}

/// Whether a file of a bundle is encrypted.
pub(super) fn is_sealed(file: &File) -> bool {
    sealed_as(&file.path).is_some()
}

/// Where what is encrypted in a file is placed; `None` for a file that is not encrypted.
fn sealed_as(path: &str) -> Option<&str> {
    path.strip_suffix(ENDING).filter(|path| is_path(path))
}

/// What has the place of something that was encrypted.
fn clash(
    manifest: &Manifest,
    plain: &BTreeMap<String, Arc<Zeroizing<Vec<u8>>>>,
) -> Option<BundleError> {
    plain.keys().find_map(|path| {
        let is_at = |file: &&File| file.path == *path;
        let is_below =
            |file: &File| file.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let taken =
            manifest.files.iter().filter(is_at).count() > 1 || manifest.files.iter().any(is_below);
        let reason = format!("the repository has `{path}`, too: remove one of the two");
        let path = format!("{path}{ENDING}");
        taken.then_some(BundleError::Sealed { path, reason, recipients: Vec::new() })
    })
}

/// What files are opened with.
struct Opening<'a> {
    keys: &'a Keys,
}

impl Opening<'_> {
    fn failed(&self, file: &File, reason: String) -> BundleError {
        let path = file.path.clone();
        BundleError::Sealed { path, reason, recipients: self.keys.recipients() }
    }

    fn file(&self, file: &File, blob: &Path) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        if file.kind == FileKind::Symlink {
            let reason = "it is a symbolic link; the encrypted file itself has to be there";
            return Err(self.failed(file, reason.to_owned()));
        }
        if file.bytes > FILE_BYTES_MAX as u64 {
            return Err(self.failed(file, format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let mut bytes = Vec::new();
        OsFile::open(blob)
            .and_then(|blob| blob.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
            .map_err(|source| FsError::Io { action: "read", path: blob.to_owned(), source })?;
        if sha256_hex(&bytes) != file.sha256 {
            return Err(BundleError::damaged_blob(&file.sha256));
        }
        age::open(self.keys, &bytes).map_err(|error| self.failed(file, error.to_string()))
    }
}

#[cfg(test)]
#[path = "opened_tests.rs"]
mod tests;
