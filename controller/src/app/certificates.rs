//! New keys for hosts that are enrolled.

use super::App;
use crate::domain::decide::renew::{self, Renew};
use crate::domain::{Host, Scope};
use crate::store::TransactError;

impl App {
    /// Makes a new key the candidate of a host with a live session; see [`renew::renew`].
    ///
    /// # Errors
    /// [`TransactError::Refused`] with a stable code, or what went wrong here.
    pub async fn renew_certificate(&self, asked: Renew) -> Result<Host, TransactError> {
        let (now, scope) = (self.clock.now(), scope(&asked));
        let decide = move |snapshot: &_| renew::renew(snapshot, &asked, now);
        Ok(self.store.transact("renew_certificate", scope, decide).await?.reply)
    }

    /// Makes a new key the candidate of a host that is back with a certificate that has ended; see
    /// [`renew::recover`].
    ///
    /// # Errors
    /// As [`App::renew_certificate`].
    pub async fn recover_host(&self, asked: Renew) -> Result<Host, TransactError> {
        let (now, scope) = (self.clock.now(), scope(&asked));
        let decide = move |snapshot: &_| renew::recover(snapshot, &asked, now);
        Ok(self.store.transact("recover_host", scope, decide).await?.reply)
    }
}

fn scope(asked: &Renew) -> Scope {
    Scope {
        host: Some(asked.host.clone()),
        key: Some(asked.new_key_sha256.clone()),
        ..Scope::default()
    }
}
