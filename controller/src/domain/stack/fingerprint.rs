//! When two states of a stack are the same.
//!
//! Three digests, each over more than the one before: the compose file alone, everything the stack
//! is made of, and that together with what a host does with it. A sync compares the last one with
//! what was applied; commits are never compared.
//!
//! The encodings are fixed: a change of one of them syncs every stack everywhere, so it takes a new
//! number in the first line.

use sha2::{Digest as _, Sha256};

use super::hostler::PullPolicy;
use super::tree::EntryKind;

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// Relative to the repository's root.
    pub path: String,
    /// A file, an executable or a symbolic link.
    pub kind: EntryKind,
    pub oid: String,
}

/// The lower-case hex SHA-256 of a compose file's bytes, just as they are.
#[must_use]
pub fn compose_hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The lower-case hex SHA-256 over a bundle's files.
///
/// Hashed are the line `hostler-bundle-1` and, for each file in the order of their paths, the path,
/// a zero byte, the kind's name, a zero byte, the object id and a line feed. No path holds a zero
/// byte, and kinds and ids hold neither of the two, so that only one list of files gives these
/// bytes.
#[must_use]
pub fn bundle_digest(files: &[BundleFile]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"hostler-bundle-1\n");
    for file in files {
        hash.update(&file.path);
        hash.update([0]);
        hash.update(file.kind.as_str());
        hash.update([0]);
        hash.update(&file.oid);
        hash.update(b"\n");
    }
    hex::encode(hash.finalize())
}

/// What changes the way a stack is brought up, besides its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpSettings<'a> {
    /// The compose project's name.
    pub project: &'a str,
    /// The stack's directory, relative to the repository's root; empty for the root.
    pub directory: &'a str,
    /// The compose file's name in that directory.
    pub compose_file: &'a str,
    /// The override file's name beside it.
    pub override_file: Option<&'a str>,
    pub pull: PullPolicy,
    pub health_secs: u32,
}

/// The lower-case hex SHA-256 of what one host should have applied.
///
/// Hashed are the line `hostler-desired-1` and a line for each field: its name, a space, its
/// length in bytes, a colon, and its value.
#[must_use]
pub fn desired_digest(bundle_digest: &str, settings: &UpSettings<'_>, host_id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"hostler-desired-1\n");
    let health_secs = settings.health_secs.to_string();
    for (name, value) in [
        ("bundle", bundle_digest),
        ("host", host_id),
        ("project", settings.project),
        ("directory", settings.directory),
        ("compose_file", settings.compose_file),
        ("override_file", settings.override_file.unwrap_or_default()),
        ("pull", settings.pull.as_str()),
        ("health_secs", &health_secs),
    ] {
        hash.update(format!("{name} {}:{value}\n", value.len()));
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::super::tree::EntryKind;
    use super::*;

    fn file(path: &str, kind: EntryKind, oid: &str) -> BundleFile {
        BundleFile { path: path.to_owned(), kind, oid: oid.to_owned() }
    }

    #[test]
    fn the_compose_hash_is_the_files_sha256() {
        assert_eq!(
            compose_hash(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_ne!(compose_hash(b"a\r\n"), compose_hash(b"a\n"));
    }

    #[test]
    fn path_kind_and_content_count() {
        let files = [file("a", EntryKind::File, "01"), file("b", EntryKind::File, "02")];
        let digest = bundle_digest(&files);
        for other in [
            [file("a", EntryKind::File, "02"), file("b", EntryKind::File, "01")],
            [file("a", EntryKind::Executable, "01"), file("b", EntryKind::File, "02")],
            [file("a", EntryKind::File, "01"), file("c", EntryKind::File, "02")],
        ] {
            assert_ne!(bundle_digest(&other), digest);
        }
        assert_ne!(bundle_digest(&files[..1]), digest);
        // Fixed for good: what is stored elsewhere was made with it.
        let known = Sha256::digest(b"hostler-bundle-1\na\0file\x0001\nb\0file\x0002\n");
        assert_eq!(digest, hex::encode(known));
    }

    #[test]
    fn each_setting_and_the_host_count() {
        let base = UpSettings {
            project: "p",
            directory: "d",
            compose_file: "docker-compose.yml",
            override_file: None,
            pull: PullPolicy::Missing,
            health_secs: 120,
        };
        let others = [
            UpSettings { project: "q", ..base },
            UpSettings { directory: "e", ..base },
            UpSettings { compose_file: "docker-compose.yaml", ..base },
            UpSettings { override_file: Some("docker-compose.override.yml"), ..base },
            UpSettings { pull: PullPolicy::Always, ..base },
            UpSettings { health_secs: 121, ..base },
        ];
        let mut all: Vec<String> =
            others.iter().map(|settings| desired_digest("00", settings, "h")).collect();
        all.extend([
            desired_digest("00", &base, "h"),
            desired_digest("00", &base, "i"),
            desired_digest("01", &base, "h"),
        ]);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 9);
    }
}
