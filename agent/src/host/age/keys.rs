//! This host's age keys: a private file with one `AGE-SECRET-KEY-1…` a line, as `age-keygen` writes
//! it.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use rustix::fs::OFlags;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

/// Largest file of keys.
pub const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most keys: each is tried on each recipient of a file.
const KEYS_MAX: usize = 16;
const SECRET_PREFIX: &str = "age-secret-key-";
const RECIPIENT_PREFIX: &str = "age";
/// Everybody else's permissions.
const OTHERS: u32 = 0o077;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("there is no age key: {} does not exist", path.display())]
    Missing { path: PathBuf },
    /// There, but not as private as it has to be, or not what a file of keys is.
    #[error("the age key {} is not used: {reason}", path.display())]
    Refused { path: PathBuf, reason: String },
    /// There is one already.
    #[error("{} is there already; it is never overwritten", path.display())]
    Exists { path: PathBuf },
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// One key.
pub(super) struct Key {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

/// The keys of this host.
pub struct Keys(Vec<Key>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.recipients()).finish()
    }
}

impl Keys {
    /// Reads the keys of this host: from a regular file, its owner's alone.
    ///
    /// # Errors
    /// [`KeyError`]; what is in the file is never part of it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let refused = |reason: &str| refused(path, reason.to_owned());
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KeyError::Missing { path: path.to_owned() });
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(refused("it is a symbolic link"));
            }
            Err(source) => return Err(failed("open", path)(source)),
        };
        let metadata = file.metadata().map_err(failed("look at", path))?;
        if !metadata.is_file() {
            return Err(refused("it is no regular file"));
        }
        if ![0, rustix::process::geteuid().as_raw()].contains(&metadata.uid()) {
            return Err(refused("it belongs to another user"));
        }
        if metadata.mode() & OTHERS != 0 {
            return Err(refused("others than its owner may use it; `chmod 600` it"));
        }
        if metadata.len() > KEY_FILE_BYTES_MAX {
            return Err(refused("it is too large"));
        }
        let mut text = Zeroizing::new(String::with_capacity(metadata.len() as usize + 1));
        match file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => Self::parse(&text)
                .map_err(|reason| KeyError::Refused { path: path.to_owned(), reason }),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(refused("it is no text"))
            }
            Err(source) => Err(failed("read", path)(source)),
        }
    }

    /// Reads keys from a text. The error names the line and nothing of it.
    ///
    /// # Errors
    /// A text for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = Key::parse(line).map_err(|why| format!("line {number} {why}"))?;
            keys.push(key);
        }
        match keys.len() {
            0 => Err("it has no key in it".to_owned()),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err(format!("it has more than {KEYS_MAX} keys")),
        }
    }

    /// Makes a key of random bytes and puts it where none is; the file is there whole, or not at all.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn make(path: &Path, random: Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let key = Key::of(random);
        let text = Zeroizing::new(format!("# recipient: {}\n{}\n", key.recipient(), *key.text()));
        let dir = path.parent().unwrap_or(Path::new("/"));
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755).create(dir).map_err(failed("create", dir))?;
        let staged = path.with_extension("new");
        match std::fs::remove_file(&staged) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed("clear away", &staged)(source)),
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&staged).map_err(failed("create", &staged))?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        // Unlike a rename a link takes nobody's place.
        let placed = written.and_then(|()| std::fs::hard_link(&staged, path));
        std::fs::remove_file(&staged).map_err(failed("clear away", &staged))?;
        match placed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(KeyError::Exists { path: path.to_owned() });
            }
            Err(source) => return Err(failed("write", path)(source)),
        }
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))?;
        Ok(Self(vec![key]))
    }

    /// What files have to be encrypted to, `age1…`; in the order of the keys.
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        self.0.iter().map(Key::recipient).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }
}

impl Key {
    fn of(secret: Zeroizing<[u8; 32]>) -> Self {
        let public = x25519(*secret, X25519_BASEPOINT_BYTES);
        Self { secret, public }
    }

    fn parse(line: &str) -> Result<Self, &'static str> {
        if line.starts_with("AGE-SECRET-KEY-PQ-1") || line.starts_with("AGE-PLUGIN-") {
            return Err("holds a key of a kind that hosts do not know; only AGE-SECRET-KEY-1… is");
        }
        const WRONG: &str = "is no AGE-SECRET-KEY-1… that age-keygen wrote";
        let checked = CheckedHrpstring::new::<Bech32>(line).map_err(|_| WRONG)?;
        let bytes = Zeroizing::new(checked.byte_iter().collect::<Vec<u8>>());
        let secret = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new);
        let key = Self::of(secret.map_err(|_| WRONG)?);
        // The one form it has: its prefix, its case, and nothing in the bits left over.
        if *key.text() == line { Ok(key) } else { Err(WRONG) }
    }

    pub(super) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The secret shared with whoever has the other half; `None` if that half lets anybody know it.
    pub(super) fn exchange(&self, public: [u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = Zeroizing::new(x25519(*self.secret, public));
        shared.iter().any(|byte| *byte != 0).then_some(shared)
    }

    fn recipient(&self) -> String {
        bech32_of(RECIPIENT_PREFIX, &self.public)
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(bech32_of(SECRET_PREFIX, self.secret.as_ref()));
        text.make_ascii_uppercase();
        text
    }
}

/// Both prefixes are ones the encoding takes, and 32 bytes are never too many.
fn bech32_of(prefix: &str, bytes: &[u8]) -> String {
    let encoded = Hrp::parse(prefix).map(|prefix| bech32::encode::<Bech32>(prefix, bytes));
    encoded.map(Result::unwrap_or_default).unwrap_or_default()
}

fn refused(path: &Path, reason: String) -> KeyError {
    KeyError::Refused { path: path.to_owned(), reason }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { action, path, source }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
