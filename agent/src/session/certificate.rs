//! What a session does about the host's certificate: asks for a new one when it is time, reconnects
//! with it, and makes it the host's when it was welcomed.

use hostler_protocol::session::agent::Input;

use super::backoff::Backoff;
use super::link::Link;
use super::{Lost, chain};
use crate::identity::{Ask, Due, RecoverError, Shown};

/// The wait is looked at again after this long, in milliseconds: the clock it is measured with
/// stands still while the host sleeps.
const LOOK_MS: u64 = 60_000;

impl Link<'_> {
    /// When to look at [`Link::certificate_due`], if at all.
    pub(super) fn certificate_ms(&self) -> Option<u64> {
        self.due().map(|(_, wait_ms)| wait_ms.min(LOOK_MS))
    }

    fn due(&self) -> Option<(Due, u64)> {
        self.served.established_ms?;
        match self.keeper.due() {
            (Due::Ask, _) if !self.core.may_renew() => None,
            due => Some(due),
        }
    }

    /// Does what is due by now; what is to be said, if anything.
    pub(super) async fn certificate_due(&mut self) -> Option<Input> {
        match self.due() {
            Some((Due::Ask, 0)) => match self.keeper.ask().await {
                Ok(Ask { csr, wait_ms }) => {
                    tracing::info!("asking for a new certificate");
                    Some(Input::Renew { csr, wait_ms })
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(error, "no new certificate can be asked for; later again");
                    None
                }
            },
            Some((Due::Try, 0)) => {
                self.switch = Some("the new certificate is tried".to_owned());
                None
            }
            Some(_) | None => None,
        }
    }

    /// The identity shown is the host's from now on.
    pub(super) async fn identity_welcomed(&mut self) {
        if self.shown == Shown::Candidate {
            tracing::info!("the new certificate is this host's from now on");
        }
        if let Err(error) = self.keeper.welcomed(self.shown).await {
            tracing::error!(
                error = chain(&error),
                "the identity's files are not as they should be"
            );
        }
        self.shown = Shown::Committed;
    }

    pub(super) async fn renewed(&mut self, certificates: Vec<Vec<u8>>) {
        match self.keeper.granted(certificates).await {
            Ok(()) => self.switch = Some("a new certificate was received".to_owned()),
            Err(error) => {
                tracing::error!(error = chain(&error), "a new certificate is of no use");
            }
        }
    }

    pub(super) fn renewal_refused(&mut self, code: &str, message: &str) {
        tracing::error!(
            code,
            reason = message,
            "the controller gives no new certificate; later again"
        );
        // A key that is not wanted would not be wanted later.
        self.keeper.not_granted(code.starts_with("KEY_") || code.starts_with("CSR_"));
    }

    pub(super) fn renewal_unanswered(&mut self) {
        tracing::warn!("the controller does not answer for a new certificate; later again");
        self.keeper.not_granted(false);
    }
}

/// How the way back by the key went.
pub(super) fn returned(returned: Result<(), RecoverError>, backoff: &mut Backoff) -> Lost {
    match returned {
        Ok(()) => {
            let reason = "this host was taken back by its key".to_owned();
            Lost { code: None, reason, asked_ms: None, at_once: true }
        }
        Err(error) => {
            if error.is_final() {
                backoff.exhaust();
            }
            let reason = format!("the certificate has ended: {}", chain(&error));
            Lost { code: None, reason, asked_ms: None, at_once: false }
        }
    }
}
