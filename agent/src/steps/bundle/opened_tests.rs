//! Encrypted files of bundles: what they become, and what is refused before anything is written.

use std::os::unix::fs::PermissionsExt as _;

use hostler_protocol::job::{Code, FileAction};
use tempfile::TempDir;

use super::super::{clear, place, preview, private, strayed};
use super::*;
use crate::host::age::sealing::{key, seal};
use crate::steps::bundle::{BundleSource, Placed, Strayed};
use crate::steps::run::Failure;

use FileAction::{Added, Changed, Removed};

/// A host with a key, a store of blobs, and a directory to place into.
#[derive(Debug)]
struct Shelf(TempDir);

impl BundleSource for Shelf {
    fn ensure<'a>(
        &'a self,
        bundle: &'a str,
    ) -> futures_util::future::BoxFuture<'a, Result<Arc<Manifest>, BundleError>> {
        let what = bundle.to_owned();
        Box::pin(async { Err(BundleError::Missing { what }) })
    }

    fn blob(&self, sha256: &str) -> PathBuf {
        self.0.path().join(sha256)
    }
}

impl Shelf {
    fn new() -> Self {
        let shelf = Self(tempfile::tempdir().unwrap());
        Keys::make(&shelf.key_file(), Zeroizing::new([1; 32])).unwrap();
        shelf
    }

    fn key_file(&self) -> PathBuf {
        self.0.path().join("age.key")
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("stacks/shop")
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.dir().join(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        std::fs::metadata(self.dir().join(path)).unwrap().permissions().mode() & 0o777
    }

    fn manifest(&self, files: &[(&str, &[u8])]) -> Arc<Manifest> {
        let mut files: Vec<File> = files
            .iter()
            .map(|(path, content)| {
                let sha256 = sha256_hex(content);
                std::fs::write(self.blob(&sha256), content).unwrap();
                let (path, bytes) = ((*path).to_owned(), content.len() as u64);
                File { path, kind: FileKind::File, sha256, bytes }
            })
            .collect();
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Arc::new(Manifest { files })
    }

    async fn open(&self, files: &[(&str, &[u8])]) -> Result<Opened, BundleError> {
        super::super::open(self, self.manifest(files), &self.key_file()).await
    }

    async fn place(&self, files: &[(&str, &[u8])]) -> Vec<(String, FileAction)> {
        let opened = self.open(files).await.unwrap();
        let seen = preview(&opened, None, &self.dir()).await.unwrap();
        let placed = place(self, &opened, None, &self.dir()).await.unwrap();
        assert_eq!(seen, placed, "what was foretold is not what was done");
        let Placed { changes } = placed;
        changes.into_iter().map(|change| (change.path, change.action)).collect()
    }

    async fn refused(&self, files: &[(&str, &[u8])]) -> (String, String, String) {
        let failure = Failure::from(self.open(files).await.unwrap_err());
        let error = failure.into_error();
        (error.code, error.message, error.hint.unwrap_or_default())
    }
}

fn sealed(plain: &str, seed: u8) -> Vec<u8> {
    seal(&key(1), plain.as_bytes(), seed)
}

fn told(path: &str, action: FileAction) -> Vec<(String, FileAction)> {
    vec![(path.to_owned(), action)]
}

#[tokio::test]
async fn what_was_encrypted_is_placed_as_what_it_is_and_its_owner_s_alone() {
    let shelf = Shelf::new();
    let one = shelf.place(&[("a.env.age", &sealed("A=1\n", 1)), ("b", b"b")]).await;
    assert_eq!(one, [told("a.env", Added), told("b", Added)].concat());
    assert_eq!(
        (shelf.read("a.env"), shelf.mode("a.env"), shelf.mode("b")),
        ("A=1\n".into(), 0o600, 0o644)
    );
    assert!(!shelf.dir().join("a.env.age").exists());
    let read: Vec<_> = private(&shelf.dir()).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].as_slice(), b"A=1\n");
    // Encrypted anew it is the same, whatever its bytes.
    let again = shelf.place(&[("a.env.age", &sealed("A=1\n", 2)), ("b", b"b")]).await;
    assert_eq!(again, []);
    let other = shelf.place(&[("a.env.age", &sealed("A=22\n", 3)), ("b", b"b")]).await;
    assert_eq!(other, told("a.env", Changed));
    assert_eq!((shelf.read("a.env"), shelf.mode("a.env")), ("A=22\n".into(), 0o600));
    // What others can see since is not as it was written, nor is what was edited.
    let look = async || strayed(&shelf.dir(), None, &Strayed::default()).await.unwrap().changed;
    assert!(look().await.is_empty());
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(shelf.dir().join("a.env"), open).unwrap();
    assert!(look().await.contains("a.env"));
    let shut = shelf.place(&[("a.env.age", &sealed("A=22\n", 3)), ("b", b"b")]).await;
    assert_eq!((shut, shelf.mode("a.env")), (told("a.env", Changed), 0o600));
    std::fs::write(shelf.dir().join("a.env"), "A=33\n").unwrap();
    assert!(look().await.contains("a.env"));
    shelf.place(&[("a.env.age", &sealed("A=22\n", 3)), ("b", b"b")]).await;
    let gone = shelf.place(&[("b", b"b")]).await;
    assert_eq!(gone, told("a.env", Removed));
    assert!(!shelf.dir().join("a.env").exists());
}

#[tokio::test]
async fn a_file_becomes_private_and_everybody_s_again_through_the_same_inode() {
    use std::os::unix::fs::MetadataExt as _;
    let shelf = Shelf::new();
    shelf.place(&[("a", b"for everybody")]).await;
    let inode = || std::fs::metadata(shelf.dir().join("a")).unwrap().ino();
    let before = inode();
    assert_eq!(shelf.place(&[("a.age", &sealed("for one", 1))]).await, told("a", Changed));
    assert_eq!((shelf.read("a"), shelf.mode("a")), ("for one".into(), 0o600));
    assert_eq!(shelf.place(&[("a", b"for one")]).await, told("a", Changed));
    assert_eq!((shelf.read("a"), shelf.mode("a"), inode()), ("for one".into(), 0o644, before));
    assert_eq!(shelf.place(&[("a.age", &sealed("for one", 1))]).await, told("a", Changed));
    assert_eq!((shelf.mode("a"), inode()), (0o600, before));
    clear(None, &shelf.dir()).await.unwrap();
    assert!(!shelf.dir().exists());
}

#[tokio::test]
async fn without_a_key_that_fits_nothing_is_opened_and_the_way_out_is_told() {
    let shelf = Shelf::new();
    let ours = key(1).recipients().remove(0);
    let theirs = seal(&key(2), b"hunter22", 1);
    let (code, message, hint) = shelf.refused(&[("x/s.age", &theirs), ("y", b"")]).await;
    assert_eq!(code, Code::DecryptFailed.as_str());
    assert!(message.contains("`x/s.age`") && message.contains("for this host"), "{message}");
    assert!(hint.contains(&ours), "{hint}");
    let mut damaged = sealed("hunter22", 1);
    *damaged.last_mut().unwrap() ^= 1;
    for (content, why) in [
        (damaged.as_slice(), "damaged"),
        (b"A=1\n", "no file encrypted with age"),
        (b"age-encryption.org/v1\n-> scrypt c2FsdHNhbHRzYWx0c2FsdA 40\nAAAA\n", "passphrase"),
        (&vec![b'x'; FILE_BYTES_MAX + 1], "more than"),
    ] {
        let (code, message, _) = shelf.refused(&[("s.age", content)]).await;
        assert_eq!(code, Code::DecryptFailed.as_str(), "{message}");
        assert!(message.contains(why) && !message.contains("hunter"), "{message}");
    }
    std::fs::set_permissions(shelf.key_file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(shelf.refused(&[("s.age", &theirs)]).await.0, Code::AgeKeyRefused.as_str());
    std::fs::remove_file(shelf.key_file()).unwrap();
    let (code, message, hint) = shelf.refused(&[("s.age", &theirs)]).await;
    assert_eq!(code, Code::AgeKeyMissing.as_str());
    assert!(message.contains("`s.age`") && message.contains("age.key"), "{message}");
    assert!(hint.contains("hostler-agent age-key"), "{hint}");
    // Nobody asks for a key where nothing is encrypted.
    let plain: [(&str, &[u8]); 4] =
        [("s", b"plain"), ("d.age/x", b"below that name"), ("e/.age", b""), ("e/...age", b"")];
    let opened = shelf.open(&plain).await.unwrap();
    assert_eq!(opened.manifest(), &*shelf.manifest(&plain));
}

#[tokio::test]
async fn what_the_repository_has_both_ways_is_refused() {
    let shelf = Shelf::new();
    let content = sealed("A=1\n", 1);
    for other in ["a.env", "a.env/x"] {
        let (code, message, _) = shelf.refused(&[("a.env.age", &content), (other, b"")]).await;
        assert_eq!(code, Code::DecryptFailed.as_str());
        assert!(message.contains("has `a.env`, too"), "{message}");
    }
    // A name that comes between them hides nothing.
    let files: [(&str, &[u8]); 3] = [("a.age", &content), ("a.b", b""), ("a/c", b"")];
    assert!(shelf.refused(&files).await.1.contains("has `a`, too"));
}

#[tokio::test]
async fn all_that_is_encrypted_in_a_bundle_is_bounded() {
    let shelf = Shelf::new();
    let content = seal(&key(1), &vec![b'x'; 1024 * 1024], 1);
    let names: Vec<String> = (0..5).map(|number| format!("{number}.age")).collect();
    let files: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), content.as_slice())).collect();
    shelf.open(&files[..4]).await.unwrap();
    assert!(shelf.refused(&files).await.1.contains("encrypted files have more than"));
}

#[test]
fn nothing_of_it_is_shown() {
    let plain = Arc::new(Zeroizing::new(b"hunter22".to_vec()));
    let manifest = Arc::new(Manifest::default());
    let opened = Opened { manifest, plain: BTreeMap::from([("a".to_owned(), plain)]) };
    assert_eq!(format!("{opened:?}"), "Opened { files: 0, private: [\"a\"] }");
}
