//! The controller's store of bundles, in a directory and in a bucket of a real S3-compatible server.

use std::collections::BTreeSet;
use std::path::PathBuf;

use hostler_controller::bundles::s3::S3Settings;
use hostler_controller::bundles::{BundleError, Bundles, Collected, GRACE_SECS_MIN, sha256_hex};
use hostler_controller::clock::Clock;
use hostler_controller::domain::Micros;
use hostler_protocol::bundle::{BLOB_BYTES_MAX, File, FileKind, Manifest};
use hostler_tests::servers::s3::{BUCKET, S3};

/// A store, and what it stands on.
enum Ground {
    Disk(tempfile::TempDir),
    Bucket(Box<S3>),
}

struct Store {
    bundles: Bundles,
    ground: Ground,
}

pub(crate) fn settings(server: &S3) -> S3Settings {
    let (access_key_file, secret_key_file) = server.key_files();
    S3Settings {
        endpoint: server.endpoint(),
        bucket: BUCKET.to_owned(),
        region: "us-east-1".to_owned(),
        prefix: "of/one/".to_owned(),
        access_key_file,
        secret_key_file,
        ca_file: None,
    }
}

/// One of each kind, empty.
fn stores() -> [Store; 2] {
    let dir = tempfile::tempdir().unwrap();
    let disk = Bundles::on_disk(dir.path()).unwrap();
    let server = Box::new(S3::start().unwrap());
    let bucket = Bundles::in_bucket(&settings(&server)).unwrap();
    [
        Store { bundles: disk, ground: Ground::Disk(dir) },
        Store { bundles: bucket, ground: Ground::Bucket(server) },
    ]
}

impl Store {
    /// Puts other bytes in the place of a blob.
    fn damage(&self, sha256: &str, bytes: &[u8]) {
        let name = format!("blobs/{}/{}", &sha256[..2], &sha256[2..]);
        match &self.ground {
            Ground::Disk(dir) => std::fs::write(dir.path().join(name), bytes).unwrap(),
            Ground::Bucket(server) => server.put(&format!("of/one/{name}"), bytes).unwrap(),
        }
    }

    async fn bundle(&self, files: &[(&str, &str)]) -> String {
        let mut manifest = Manifest::default();
        for (path, content) in files {
            self.bundles.put(content.as_bytes().to_vec()).await.unwrap();
            manifest.files.push(file(path, content));
        }
        self.bundles.put_manifest(&manifest).await.unwrap()
    }

    async fn has(&self, content: &str) -> bool {
        !self.bundles.has(&[sha256_hex(content.as_bytes())]).await.unwrap().is_empty()
    }

    async fn collect(&self, keep: &[&String], now: Micros) -> Collected {
        let keep: BTreeSet<String> = keep.iter().map(|name| (*name).clone()).collect();
        self.bundles.collect(&keep, GRACE_SECS_MIN, now).await.unwrap()
    }
}

fn file(path: &str, content: &str) -> File {
    File {
        path: path.to_owned(),
        kind: FileKind::File,
        sha256: sha256_hex(content.as_bytes()),
        bytes: content.len() as u64,
    }
}

/// A time at which everything stored by now is older than the grace.
fn later() -> Micros {
    Clock::system().now().plus_secs(GRACE_SECS_MIN + 60)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_given_back_from_any_byte_on() {
    for store in stores() {
        let content: String = ('a'..='z').cycle().take(200_000).collect();
        let name = store.bundles.put(content.clone().into_bytes()).await.unwrap();
        assert_eq!(name, sha256_hex(content.as_bytes()));
        for offset in [0, 1, 65_536, 199_999, 200_000] {
            let mut given = store.bundles.open(&name, offset).await.unwrap();
            assert_eq!(given.bytes_total(), 200_000);
            let bytes = given.whole().await.unwrap();
            assert_eq!(bytes, content.as_bytes()[usize::try_from(offset).unwrap()..]);
        }
        let past = store.bundles.open(&name, 200_001).await.unwrap_err();
        assert!(matches!(past, BundleError::Offset { bytes: 200_000, .. }), "{past:?}");
        for nothing in ["0".repeat(64), "../x".to_owned()] {
            let error = store.bundles.open(&nothing, 0).await.unwrap_err();
            assert_eq!(error.code(), "BUNDLE_MISSING");
        }
        let large = vec![0; usize::try_from(BLOB_BYTES_MAX).unwrap() + 1];
        let error = store.bundles.put(large).await.unwrap_err();
        assert_eq!(error.code(), "BUNDLE_TOO_LARGE");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_is_stored_only_with_all_its_files() {
    for store in stores() {
        store.bundles.put(b"one".to_vec()).await.unwrap();
        let manifest = Manifest { files: vec![file("a", "one"), file("b", "two")] };
        let error = store.bundles.put_manifest(&manifest).await.unwrap_err();
        assert!(matches!(&error, BundleError::Incomplete { path } if path == "b"), "{error:?}");
        let name = store.bundle(&[("a", "one"), ("b", "two")]).await;
        assert_eq!(*store.bundles.manifest(&name).await.unwrap(), manifest);
        assert_eq!(name, sha256_hex(&manifest.bytes()));
        assert!(store.bundles.renew(&name).await.unwrap());
        assert!(!store.bundles.renew(&"0".repeat(64)).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_set_aside_and_counts_for_missing() {
    for store in stores() {
        let name = store.bundle(&[("a", "one"), ("b", "two")]).await;
        let sha256 = sha256_hex(b"two");
        store.damage(&sha256, b"owt");
        let error = store.bundles.open(&sha256, 0).await.unwrap_err();
        assert!(matches!(&error, BundleError::Damaged { .. }), "{error:?}");
        let error = store.bundles.open(&sha256, 0).await.unwrap_err();
        assert!(matches!(&error, BundleError::Missing { .. }), "{error:?}");
        // The bundle is not taken for whole, and is whole again once the file is.
        assert!(!store.bundles.renew(&name).await.unwrap());
        assert_eq!(store.bundle(&[("a", "one"), ("b", "two")]).await, name);
        assert!(store.bundles.renew(&name).await.unwrap());
        let bytes = store.bundles.open(&sha256, 0).await.unwrap().whole().await.unwrap();
        assert_eq!(bytes, b"two");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_kept_or_young_is_collected() {
    for store in stores() {
        let kept = store.bundle(&[("a", "kept"), ("b", "shared")]).await;
        let gone = store.bundle(&[("a", "gone"), ("b", "shared")]).await;
        store.bundles.put(b"stray".to_vec()).await.unwrap();
        let young = store.collect(&[], Clock::system().now().plus_secs(GRACE_SECS_MIN - 60)).await;
        assert_eq!((young.bundles_removed, young.blobs_removed, young.blobs_kept), (0, 0, 4));
        let old = store.collect(&[&kept], later()).await;
        assert_eq!((old.bundles_removed, old.blobs_removed, old.blobs_kept), (1, 2, 2));
        assert!(store.has("kept").await && store.has("shared").await);
        assert!(!store.has("gone").await && !store.has("stray").await);
        let error = store.bundles.manifest(&gone).await.unwrap_err();
        assert!(matches!(&error, BundleError::Missing { .. }), "{error:?}");
        assert!(!store.bundles.renew(&gone).await.unwrap());
        let again = store.collect(&[&kept], later()).await;
        assert_eq!((again.bundles_removed, again.blobs_removed, again.bytes_removed), (0, 0, 0));
        let rest = store.collect(&[], later()).await;
        assert_eq!((rest.bundles_removed, rest.blobs_removed, rest.blobs_kept), (1, 2, 0));
    }
}

/// What nobody names yet and somebody is about to name: making it young again saves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_bundle_is_not_collected() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store { bundles: Bundles::on_disk(dir.path()).unwrap(), ground: Ground::Disk(dir) };
    let renewed = store.bundle(&[("a", "renewed")]).await;
    let other = store.bundle(&[("a", "other")]).await;
    let Ground::Disk(dir) = &store.ground else { panic!("it is on a disk") };
    // A day ago.
    let then = std::time::SystemTime::UNIX_EPOCH
        + std::time::Duration::from_micros(Clock::system().now().0.unsigned_abs())
        - std::time::Duration::from_secs(86_400);
    let path = |folder: &str, name: &str| -> PathBuf {
        dir.path().join(folder).join(&name[..2]).join(&name[2..])
    };
    for file in [
        path("manifests", &renewed),
        path("manifests", &other),
        path("blobs", &sha256_hex(b"renewed")),
        path("blobs", &sha256_hex(b"other")),
    ] {
        std::fs::File::options().write(true).open(file).unwrap().set_modified(then).unwrap();
    }
    assert!(store.bundles.renew(&renewed).await.unwrap());
    let collected = store.collect(&[], Clock::system().now()).await;
    assert_eq!((collected.bundles_removed, collected.blobs_removed), (1, 1));
    assert!(store.has("renewed").await && !store.has("other").await);
    store.bundles.manifest(&renewed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_gone_is_an_error_without_its_keys() {
    let mut server = S3::start().unwrap();
    let bundles = Bundles::in_bucket(&settings(&server)).unwrap();
    let name = bundles.put(b"one".to_vec()).await.unwrap();
    // Another prefix of the same bucket is another store.
    let other = S3Settings { prefix: "of/two".to_owned(), ..settings(&server) };
    let other = Bundles::in_bucket(&other).unwrap();
    assert!(other.has(std::slice::from_ref(&name)).await.unwrap().is_empty());
    let nowhere = S3Settings { bucket: "nowhere".to_owned(), ..settings(&server) };
    let error = Bundles::in_bucket(&nowhere).unwrap().put(b"x".to_vec()).await.unwrap_err();
    assert_eq!(error.code(), "BUNDLE_STORE_FAILED", "{error:?}");
    server.stop();
    let error = bundles.open(&name, 0).await.unwrap_err();
    assert_eq!(error.code(), "BUNDLE_STORE_FAILED", "{error:?}");
    let said = format!("{error:?} {bundles:?}");
    assert!(!said.contains("the-secret-key") && !said.contains("the-access-key"), "{said}");
}
