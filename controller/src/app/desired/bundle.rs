//! Making a stack's bundle from the repository's objects.

use std::sync::Arc;
use std::time::Duration;

use hostler_protocol::bundle::{BLOB_BYTES_MAX, File, FileKind, Manifest};

use super::{Current, Desired, MakingError, Stuck};
use crate::bundles::{BundleError, Bundles, sha256_hex};
use crate::domain::desired::{Stack, StackProblem};
use crate::domain::stack::bundle::{is_pointer, pointer_message};
use crate::domain::stack::path::{is_within, unshown};
use crate::domain::stack::problem::code;
use crate::domain::stack::{BundleFile, EntryKind, Found, Tree as _, TreeError};

/// The code of a stack whose files are too large or too many.
const TOO_LARGE: &str = "BUNDLE_TOO_LARGE";

/// Seconds in which the disk has to give one file.
const READ_SECS: u64 = 30;

impl Desired {
    /// The name of the bundle of what a stack is now: its digest, and the bundle. `None` for a
    /// stack that has a problem. Made if it is not stored yet.
    ///
    /// # Errors
    /// [`MakingError::NotAtHand`] until a look has read the stack as its row has it.
    pub async fn bundle(&self, stack: &Stack) -> Result<Option<(String, String)>, MakingError> {
        let Some(digest) = stack.facts.bundle_digest.clone() else { return Ok(None) };
        if let Some(why) = self.refusal(&digest) {
            return Err(MakingError::Refused(why));
        }
        let not_at_hand = || MakingError::NotAtHand(stack.id.clone());
        let bundles = self.bundles().ok_or_else(not_at_hand)?;
        let _making = self.inner.making.lock().await;
        let known = self.known().made(&digest);
        // No row may name it yet: it must not be collected before one does.
        if let Some(name) = known
            && bundles.renew(&name).await?
        {
            return Ok(Some((digest, name)));
        }
        let current = self.current().ok_or_else(not_at_hand)?;
        let found = found(&current, stack, &digest).ok_or_else(not_at_hand)?;
        let name = self.make(bundles, &current, &found).await.inspect_err(|error| {
            if let MakingError::Refused(why) = error {
                self.known().refuse(digest.clone(), why.clone());
            }
        })?;
        self.known().make(digest.clone(), name.clone());
        Ok(Some((digest, name)))
    }

    /// Why no bundle can be made of the facts of that digest, if that is known.
    #[must_use]
    pub fn refusal(&self, digest: &str) -> Option<StackProblem> {
        self.known().refused(digest)
    }

    /// Stores what is not stored yet; the bundle's name.
    async fn make(
        &self,
        bundles: &Bundles,
        current: &Current,
        found: &Found,
    ) -> Result<String, MakingError> {
        let mut manifest = Manifest::default();
        for file in found.bundle.iter().flat_map(|bundle| &bundle.files) {
            let tree = current.tree.clone();
            let oid = file.oid.clone();
            let limit = usize::try_from(BLOB_BYTES_MAX).unwrap_or(usize::MAX);
            let most = Duration::from_secs(READ_SECS);
            let read = self.inner.reading.within(most, move || tree.read(&oid, limit)).await;
            let content = read.map_err(|stuck| match stuck {
                Stuck::Before => MakingError::Hangs,
                Stuck::Overdue => MakingError::Overdue(READ_SECS),
                Stuck::Broken => MakingError::Broken,
            })?;
            let content = content.map_err(|error| match error {
                TreeError::TooLarge { .. } => refused(TOO_LARGE, format!("{}: {error}", file.path)),
                TreeError::Missing
                | TreeError::Unreadable(_)
                | TreeError::Limit(_)
                | TreeError::Cancelled => error.into(),
            })?;
            // Files that nothing refers to are nobody's loss.
            if is_pointer(&content) && found.uses.iter().any(|one| is_within(&file.path, &one.path))
            {
                return Err(refused(code::LFS_POINTER, pointer_message(&file.path)));
            }
            let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
            let sha256 = sha256_hex(&content);
            if bundles.has(std::slice::from_ref(&sha256)).await?.is_empty() {
                bundles.put(content).await?;
            }
            let kind = kind(file)?;
            manifest.files.push(File { path: file.path.clone(), kind, sha256, bytes });
        }
        manifest.check().map_err(|error| refused(TOO_LARGE, error.to_string()))?;
        match bundles.put_manifest(&manifest).await {
            Err(error @ BundleError::TooLarge { .. }) => Err(refused(TOO_LARGE, error.to_string())),
            stored => Ok(stored?),
        }
    }
}

fn refused(code: &str, message: String) -> MakingError {
    MakingError::Refused(StackProblem { code: code.to_owned(), message })
}

/// What was found of a stack, if what was read last is what its row says.
fn found(current: &Current, stack: &Stack, digest: &str) -> Option<Arc<Found>> {
    let found = current.discovery.stacks.get(&unshown(&stack.path))?;
    let is_same = found.bundle.as_ref().is_some_and(|bundle| bundle.digest == digest);
    is_same.then(|| Arc::clone(found))
}

fn kind(file: &BundleFile) -> Result<FileKind, TreeError> {
    match file.kind {
        EntryKind::File => Ok(FileKind::File),
        EntryKind::Executable => Ok(FileKind::Executable),
        EntryKind::Symlink => Ok(FileKind::Symlink),
        EntryKind::Directory | EntryKind::Submodule => {
            Err(TreeError::Unreadable(format!("{} is no file", file.path)))
        }
    }
}
