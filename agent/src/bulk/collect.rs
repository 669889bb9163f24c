//! What may go when there is more than there should be: bundles nobody names, the one asked for
//! longest ago first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::cache::{Cache, remove};
use super::{Inner, blocking, lock};
use crate::steps::bundle::BundleError;

/// What a collection came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Collected {
    bundles: usize,
    blobs: usize,
    bytes: u64,
}

/// One bundle of the cache.
struct Known {
    name: String,
    used: SystemTime,
    blobs: BTreeSet<String>,
}

impl Inner {
    /// Removes what may go until so many bytes are left, unless somebody is looking for a bundle just
    /// now: whoever fetches one collects after it. Whether anything was removed.
    pub(super) async fn collect(self: &Arc<Self>, bytes_max: u64) -> bool {
        let Ok(_alone) = self.removing.try_write() else { return false };
        let Some(mut stay) = lock(&self.kept).clone() else { return false };
        let now_ms = self.clock.monotonic_ms();
        let pinned = lock(&self.pinned).clone();
        stay.extend(pinned.into_iter().filter(|(_, until)| *until > now_ms).map(|(name, _)| name));
        let inner = Arc::clone(self);
        match blocking(move || collect(&inner.cache, &stay, bytes_max)).await {
            Ok(Collected { blobs: 0, bundles: 0, .. }) => false,
            Ok(Collected { bundles, blobs, bytes }) => {
                tracing::info!(bundles, blobs, bytes, "bundles nobody names were removed");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "old bundles cannot be removed");
                false
            }
        }
    }
}

fn collect(
    cache: &Cache,
    stay: &BTreeSet<String>,
    bytes_max: u64,
) -> Result<Collected, BundleError> {
    let sizes: BTreeMap<String, u64> =
        cache.blobs()?.iter().map(|(path, metadata)| (name(path), metadata.len())).collect();
    let mut known = Vec::new();
    for (path, metadata) in cache.manifests()? {
        let name = name(&path);
        // A damaged one names nothing, and is gone by this look.
        let Some(manifest) = cache.manifest(&name)? else { continue };
        let blobs = manifest.files.into_iter().map(|file| file.sha256).collect();
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        known.push(Known { name, used, blobs });
    }
    let total = |known: &[Known]| -> u64 {
        let needed: BTreeSet<&String> = known.iter().flat_map(|one| &one.blobs).collect();
        needed.iter().filter_map(|sha256| sizes.get(*sha256)).sum()
    };
    let mut collected = Collected::default();
    known.sort_by_key(|one| std::cmp::Reverse(one.used));
    while total(&known) > bytes_max {
        let oldest = known.iter().rposition(|one| !stay.contains(&one.name));
        let Some(oldest) = oldest else { break };
        let gone = known.remove(oldest);
        // The manifest before its blobs: it is never left without one that it is thought to have.
        remove(&cache.manifest_path(&gone.name))?;
        collected.bundles += 1;
    }
    let needed: BTreeSet<String> = known.into_iter().flat_map(|one| one.blobs).collect();
    for (sha256, bytes) in sizes.iter().filter(|(sha256, _)| !needed.contains(*sha256)) {
        if remove(&cache.blob(sha256))? {
            collected.blobs += 1;
            collected.bytes += bytes;
        }
    }
    Ok(collected)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use hostler_protocol::bundle::{File as Listed, FileKind, Manifest};
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// A bundle with one file of its own and one that all share, asked for that long ago.
    fn bundle(cache: &Cache, own: &str, secs_ago: u64) -> String {
        let mut files = Vec::new();
        for content in [own, "shared"] {
            let sha256 = hex::encode(Sha256::digest(content));
            std::fs::write(cache.blob(&sha256), content).unwrap();
            let (path, bytes) = (content.to_owned(), content.len() as u64);
            files.push(Listed { path, kind: FileKind::File, sha256, bytes });
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let bytes = Manifest { files }.bytes();
        let name = hex::encode(Sha256::digest(&bytes));
        cache.store_manifest(&name, &bytes).unwrap();
        let file = File::options().write(true).open(cache.manifest_path(&name)).unwrap();
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        file.set_modified(epoch - Duration::from_secs(secs_ago)).unwrap();
        name
    }

    fn blobs(cache: &Cache) -> usize {
        cache.blobs().unwrap().len()
    }

    #[test]
    fn what_was_asked_for_longest_ago_goes_first_and_what_is_kept_never() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("bundles"));
        cache.open().unwrap();
        let kept = bundle(&cache, "kept: the oldest", 300);
        let old = bundle(&cache, "old", 200);
        let new = bundle(&cache, "new", 100);
        let stay = BTreeSet::from([kept.clone()]);
        let all = 16 + 3 + 3 + 6;
        assert_eq!(collect(&cache, &stay, all).unwrap(), Collected::default());
        let one = Collected { bundles: 1, blobs: 1, bytes: 3 };
        assert_eq!(collect(&cache, &stay, all - 1).unwrap(), one);
        assert!(cache.manifest(&old).unwrap().is_none());
        assert!(cache.manifest(&new).unwrap().is_some());
        assert_eq!(collect(&cache, &stay, 0).unwrap(), one, "the new one too, the kept one not");
        let manifest = cache.manifest(&kept).unwrap().unwrap();
        assert!(cache.missing(&manifest).unwrap().is_empty(), "what it shares has stayed");
        assert_eq!(blobs(&cache), 2);
    }

    #[test]
    fn blobs_that_no_bundle_names_go() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        cache.open().unwrap();
        bundle(&cache, "one", 0);
        std::fs::write(cache.blob("stray"), "stray").unwrap();
        let stray = Collected { bundles: 0, blobs: 1, bytes: 5 };
        assert_eq!(collect(&cache, &BTreeSet::new(), u64::MAX).unwrap(), stray);
        assert_eq!(blobs(&cache), 2);
    }

    #[test]
    fn what_is_damaged_here_counts_for_missing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        cache.open().unwrap();
        let name = bundle(&cache, "one", 0);
        let manifest = cache.manifest(&name).unwrap().unwrap();
        let own = &manifest.files[0].sha256;
        std::fs::write(cache.blob(own), "other").unwrap();
        let missing = cache.missing(&manifest).unwrap();
        assert_eq!(missing.into_iter().collect::<Vec<_>>(), [(own.clone(), 3)]);
        assert!(!cache.blob(own).exists());
        std::fs::write(cache.manifest_path(&name), "{}").unwrap();
        assert!(cache.manifest(&name).unwrap().is_none());
        assert!(!cache.manifest_path(&name).exists());
    }
}
