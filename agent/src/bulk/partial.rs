//! One blob on its way: written beside its place, and hashed on the way.

use std::path::PathBuf;

use hostler_protocol::bulk::Ask;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWriteExt as _, BufWriter};

use super::cache::{Cache, create, failed};
use super::line::{Line, Trouble};
use crate::steps::bundle::BundleError;

/// Bytes written to a file at once.
const WRITE_BYTES: usize = 256 * 1024;

/// A blob as far as it has come. What was not finished goes with it.
pub(super) struct Partial {
    sha256: String,
    bytes: u64,
    staged: PathBuf,
    file: Option<BufWriter<tokio::fs::File>>,
    sum: Sha256,
    got: u64,
}

impl Partial {
    pub(super) fn new(cache: &Cache, sha256: String, bytes: u64) -> Self {
        let staged = cache.staged(&sha256);
        Self { sha256, bytes, staged, file: None, sum: Sha256::new(), got: 0 }
    }

    /// Bytes that have come.
    pub(super) fn got(&self) -> u64 {
        self.got
    }

    fn file(&mut self) -> Result<&mut BufWriter<tokio::fs::File>, BundleError> {
        if self.file.is_none() {
            let file = create(&self.staged).map_err(failed("create", &self.staged))?;
            let file = tokio::fs::File::from_std(file);
            self.file = Some(BufWriter::with_capacity(WRITE_BYTES, file));
        }
        self.file.as_mut().ok_or(BundleError::Broken)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        let staged = self.staged.clone();
        self.file()?.write_all(bytes).await.map_err(failed("write", &staged))?;
        self.sum.update(bytes);
        self.got += bytes.len() as u64;
        Ok(())
    }

    /// Begins anew: what has come is not what was asked for.
    fn forget(&mut self, cache: &Cache) {
        let bytes = self.bytes;
        *self = Self::new(cache, self.sha256.clone(), bytes);
    }

    /// Gives it its name, now that all of it has come.
    async fn finish(&mut self, cache: &Cache) -> Result<(), Trouble> {
        let found = hex::encode(self.sum.clone().finalize());
        if found != self.sha256 {
            let what = format!("blob {}: the bytes that came are those of {found}", self.sha256);
            self.forget(cache);
            return Err(Trouble::Damaged(what));
        }
        self.place(cache).await.map_err(Trouble::Local)
    }

    async fn place(&mut self, cache: &Cache) -> Result<(), BundleError> {
        let staged = self.staged.clone();
        let file = self.file()?;
        file.flush().await.map_err(failed("write", &staged))?;
        file.get_ref().sync_all().await.map_err(failed("sync", &staged))?;
        self.file = None;
        let path = cache.blob(&self.sha256);
        tokio::fs::rename(&staged, &path).await.map_err(failed("write", &path))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is not there any more when it has its name; else the next start clears it away.
        std::fs::remove_file(&self.staged).ok();
    }
}

/// Fetches what is missing of one blob.
pub(super) async fn blob(
    cache: &Cache,
    line: &Line,
    bundle: &str,
    mut partial: Partial,
) -> (Partial, Result<(), Trouble>) {
    let fetched = rest(cache, line, bundle, &mut partial).await;
    (partial, fetched)
}

async fn rest(
    cache: &Cache,
    line: &Line,
    bundle: &str,
    partial: &mut Partial,
) -> Result<(), Trouble> {
    let (bundle, sha256) = (bundle.to_owned(), partial.sha256.clone());
    let mut body = line.open(&Ask::Blob { bundle, sha256, offset: partial.got }).await?;
    if body.bytes != partial.bytes {
        let (told, listed) = (body.bytes, partial.bytes);
        let what = format!("blob {} has {told} bytes, its manifest says {listed}", partial.sha256);
        return Err(Trouble::Damaged(what));
    }
    while let Some(chunk) = body.next().await? {
        partial.write(&chunk.bytes).await.map_err(Trouble::Local)?;
    }
    partial.finish(cache).await
}
