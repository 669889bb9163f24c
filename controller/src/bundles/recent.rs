//! The manifests used last, parsed.

use std::collections::HashMap;
use std::sync::Arc;

use hostler_protocol::bundle::Manifest;

/// Bytes of manifests, as they are stored, that are remembered.
const REMEMBERED_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
struct Known {
    manifest: Arc<Manifest>,
    bytes: usize,
    used: u64,
}

/// Least recently used manifests are forgotten first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    known: HashMap<String, Known>,
    bytes: usize,
    uses: u64,
}

impl Recent {
    pub(super) fn get(&mut self, bundle: &str) -> Option<Arc<Manifest>> {
        self.uses += 1;
        let known = self.known.get_mut(bundle)?;
        known.used = self.uses;
        Some(Arc::clone(&known.manifest))
    }

    pub(super) fn put(&mut self, bundle: &str, manifest: Arc<Manifest>, bytes: usize) {
        self.forget(bundle);
        self.uses += 1;
        let known = Known { manifest, bytes, used: self.uses };
        self.known.insert(bundle.to_owned(), known);
        self.bytes += bytes;
        while self.bytes > REMEMBERED_BYTES_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            let Some(oldest) = oldest.map(|(bundle, _)| bundle.clone()) else { return };
            self.forget(&oldest);
        }
    }

    pub(super) fn forget(&mut self, bundle: &str) {
        if let Some(known) = self.known.remove(bundle) {
            self.bytes -= known.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let mut recent = Recent::default();
        for name in ["a", "b", "c"] {
            recent.put(name, Arc::default(), REMEMBERED_BYTES_MAX / 3);
        }
        assert!(recent.get("a").is_some());
        recent.put("d", Arc::default(), REMEMBERED_BYTES_MAX / 3);
        let known = ["a", "b", "c", "d"].map(|name| recent.get(name).is_some());
        assert_eq!(known, [true, false, true, true]);
        recent.put("e", Arc::default(), REMEMBERED_BYTES_MAX + 1);
        assert_eq!((recent.bytes, recent.known.len()), (0, 0));
    }
}
