//! Files encrypted with age (<https://age-encryption.org/v1>), opened with keys of this host.
//!
//! The part of the format that a host needs: X25519 recipients, binary or in ASCII armour. Other
//! recipients beside them are passed over. A passphrase is refused unread: how much work it takes
//! to try one is for whoever wrote the file to say.
//!
//! Invariants:
//! * no byte of a file is given out before all of it was found to be authentic;
//! * what is read is bounded: the file, its header, and what is in it;
//! * no error and no `Debug` shows a key or anything of a file's content.

mod armor;
mod header;
mod keys;
mod stream;

use zeroize::Zeroizing;

use self::header::Header;
pub use self::keys::{KEY_FILE_BYTES_MAX, KeyError, Keys};

/// Most bytes of what is encrypted.
pub const PLAIN_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of an encrypted file: armour takes a third more, and a header may be long.
pub const FILE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Why a file cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgeError {
    /// Not a file of age at all.
    #[error("it is no file encrypted with age")]
    NotAge,
    /// Begun as one, and then not as the format says.
    #[error("it is damaged: {0}")]
    Format(&'static str),
    /// Its header is not what was written for its recipients.
    #[error("it is damaged: its header was changed")]
    Header,
    /// Its content is not what was encrypted.
    #[error("it is damaged: its content was changed or cut off")]
    Content,
    #[error("it has more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    /// Encrypted with a passphrase.
    #[error("it is encrypted with a passphrase, and a host has none")]
    Passphrase,
    /// None of the keys is one of its recipients'.
    #[error("it is not encrypted for this host{}", only(.others))]
    NotForUs { others: Vec<&'static str> },
}

fn only(others: &[&'static str]) -> String {
    match others {
        [] => String::new(),
        others => format!(" but for {}", others.join(" and ")),
    }
}

/// What was encrypted.
///
/// # Errors
/// [`AgeError`].
pub fn open(keys: &Keys, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    if file.len() > FILE_BYTES_MAX {
        return Err(AgeError::TooLarge { bytes_max: FILE_BYTES_MAX });
    }
    let bare;
    let file = match armor::is_armored(file) {
        true => {
            bare = armor::strip(file)?;
            bare.as_slice()
        }
        false => file,
    };
    let (header, payload) = Header::parse(file)?;
    let file_key = header.file_key(keys)?;
    header.verify(&file_key)?;
    stream::open(&file_key, payload)
}

/// What all keys of the format are derived by.
fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; 32]>, AgeError> {
    use ring::hkdf::{HKDF_SHA256, Salt};
    let mut key = Zeroizing::new([0; 32]);
    let info = [info];
    let expanded = Salt::new(HKDF_SHA256, salt).extract(secret);
    let filled = expanded.expand(&info, HKDF_SHA256).and_then(|okm| okm.fill(key.as_mut()));
    // Only lengths that no hash can give fail.
    filled.map_err(|_| AgeError::Content)?;
    Ok(key)
}

/// Opens one sealed text in place; nothing when it is not authentic.
fn unseal<'a>(key: &[u8; 32], nonce: [u8; 12], sealed: &'a mut [u8]) -> Option<&'a [u8]> {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = key.open_in_place(nonce, Aad::empty(), sealed).ok()?;
    Some(opened)
}

#[cfg(test)]
pub(crate) mod sealing;
#[cfg(test)]
mod vector_tests;
