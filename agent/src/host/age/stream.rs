//! A file's content: pieces of one size, each sealed by itself, the last one marked as the last.

use zeroize::Zeroizing;

use super::header::FileKey;
use super::{AgeError, PLAIN_BYTES_MAX, derive, unseal};

const NONCE_BYTES: usize = 16;
const PIECE_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;

/// The whole content, found to be authentic to its end.
pub(super) fn open(file_key: &FileKey, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let Some((nonce, sealed)) = payload.split_at_checked(NONCE_BYTES) else {
        return Err(AgeError::Format("it ends behind its header"));
    };
    let pieces = sealed.len().div_ceil(PIECE_BYTES + TAG_BYTES);
    let bytes = sealed.len().saturating_sub(pieces * TAG_BYTES);
    if bytes > PLAIN_BYTES_MAX {
        return Err(AgeError::TooLarge { bytes_max: PLAIN_BYTES_MAX });
    }
    let key = derive(file_key.as_ref(), nonce, b"payload")?;
    // Of its full size from the start: growing would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(bytes));
    let mut piece = Zeroizing::new(Vec::with_capacity(PIECE_BYTES + TAG_BYTES));
    let mut rest = sealed;
    for number in 0_u64.. {
        let (this, behind) = rest.split_at(rest.len().min(PIECE_BYTES + TAG_BYTES));
        let is_last = behind.is_empty();
        piece.clear();
        piece.extend_from_slice(this);
        let opened = unseal(&key, nonce_of(number, is_last), &mut piece);
        let opened = opened.ok_or(AgeError::Content)?;
        // Only what is empty as a whole has an empty piece.
        if opened.is_empty() && number > 0 {
            return Err(AgeError::Content);
        }
        content.extend_from_slice(opened);
        if is_last {
            break;
        }
        rest = behind;
    }
    Ok(content)
}

/// Eleven bytes that count, and one that says whether it is the last.
pub(super) fn nonce_of(number: u64, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}
