//! Why something was not done.

use crate::clock::RandomError;
use crate::domain::Refusal;
use crate::store::{StoreError, TransactError};

/// Why a command or a read was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The answer is no, and says why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Random(#[from] RandomError),
    /// No join string can be made: agents have nowhere to connect to.
    #[error("this controller has no address for agents; start it with --agent-listen")]
    NowhereToJoin,
}

impl From<TransactError> for AppError {
    fn from(error: TransactError) -> Self {
        match error {
            TransactError::Refused(refusal) => Self::Refused(refusal),
            TransactError::Store(error) => Self::Store(error),
        }
    }
}
