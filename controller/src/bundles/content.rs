//! Bytes on their way out of a store, piece by piece.

use tokio::io::AsyncReadExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::BundleError;

/// Bytes of one piece.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) enum Bytes {
    File(tokio::fs::File),
    /// Goes back to the store when it is sent or given up.
    Memory {
        bytes: Vec<u8>,
        at: usize,
        _permit: OwnedSemaphorePermit,
    },
}

/// A blob or a manifest, from some byte on to its end.
#[derive(Debug)]
pub struct Content {
    pub(super) bytes_total: u64,
    pub(super) bytes_left: u64,
    pub(super) what: String,
    pub(super) bytes: Bytes,
}

impl Content {
    /// Bytes of all of it, also of those before the one it was asked for from.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`BundleError`] if it cannot be read to its end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, BundleError> {
        if self.bytes_left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(self.bytes_left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let piece = match &mut self.bytes {
            Bytes::File(file) => {
                let mut piece = vec![0; wanted];
                let read = file.read(&mut piece).await.map_err(|source| BundleError::File {
                    action: "read",
                    path: self.what.clone(),
                    source,
                })?;
                piece.truncate(read);
                piece
            }
            Bytes::Memory { bytes, at, .. } => {
                let piece = bytes[*at..*at + wanted].to_vec();
                *at += wanted;
                piece
            }
        };
        if piece.is_empty() {
            let (what, reason) = (self.what.clone(), "it became shorter".to_owned());
            return Err(BundleError::Damaged { what, reason });
        }
        self.bytes_left -= piece.len() as u64;
        Ok(Some(piece))
    }

    /// All that is left.
    ///
    /// # Errors
    /// As [`Content::next`].
    pub async fn whole(&mut self) -> Result<Vec<u8>, BundleError> {
        let mut whole = Vec::with_capacity(usize::try_from(self.bytes_left).unwrap_or(0));
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}
