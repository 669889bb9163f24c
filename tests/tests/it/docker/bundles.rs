//! Bundles out of a directory: what the controller would send.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hostler_agent::steps::bundle::{BundleError, BundleSource};
use hostler_protocol::bundle::{File, FileKind, Manifest};
use sha2::{Digest as _, Sha256};

#[derive(Debug)]
pub(crate) struct Bundles {
    dir: PathBuf,
    manifests: Mutex<BTreeMap<String, Arc<Manifest>>>,
    kept: Mutex<Option<BTreeSet<String>>>,
}

impl Bundles {
    pub(crate) fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        Self { dir: dir.to_owned(), manifests: Mutex::default(), kept: Mutex::default() }
    }

    /// A bundle of these files (path, content); its name.
    pub(crate) fn add(&self, files: &[(&str, &str)]) -> String {
        let sorted: BTreeMap<_, _> = files.iter().copied().collect();
        let file = |(path, content): (&str, &str)| {
            let sha256 = hex::encode(Sha256::digest(content));
            std::fs::write(self.dir.join(&sha256), content).unwrap();
            let bytes = content.len() as u64;
            File { path: path.to_owned(), kind: FileKind::File, sha256, bytes }
        };
        let manifest = Manifest { files: sorted.into_iter().map(file).collect() };
        let name = hex::encode(Sha256::digest(manifest.bytes()));
        self.manifests.lock().unwrap().insert(name.clone(), Arc::new(manifest));
        name
    }

    /// What the agent said last it still needs.
    pub(crate) fn kept(&self) -> Option<BTreeSet<String>> {
        self.kept.lock().unwrap().clone()
    }
}

impl BundleSource for Bundles {
    fn ensure<'a>(&'a self, bundle: &'a str) -> BoxFuture<'a, Result<Arc<Manifest>, BundleError>> {
        let found = self.manifests.lock().unwrap().get(bundle).cloned();
        let missing = || BundleError::Missing { what: format!("bundle {bundle}") };
        std::future::ready(found.ok_or_else(missing)).boxed()
    }

    fn blob(&self, sha256: &str) -> PathBuf {
        self.dir.join(sha256)
    }

    fn keep(&self, bundles: BTreeSet<String>) {
        *self.kept.lock().unwrap() = Some(bundles);
    }
}
