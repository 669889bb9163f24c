//! Who this host is: a key that never leaves it, a certificate for that key, the root it trusts.
//!
//! All of it lies in one directory, which is built aside and renamed into place, so that it is
//! always whole: `key.pem` (0600), `chain.pem`, `root.der`, `identity.json`. Beside it, while a new
//! certificate waits to be proven, lies a second one, the candidate. [`Keeper`] looks after both.

mod certificate;
mod enrol;
mod exchange;
mod files;
mod keeper;
mod key;
mod recover;
mod renewal;
pub mod tls;
mod verify;

use std::fmt;
use std::path::PathBuf;

use hostler_protocol::id::HostId;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

pub use self::enrol::{EnrolError, Enrolment, enrol};
pub use self::exchange::ExchangeError;
pub use self::files::{ACTIONS_DIR, RUNS_DIR, is_enrolled, load, prepare_state_dir};
pub use self::keeper::{Ask, Keeper};
pub use self::recover::{RecoverError, controller_clock_us};
pub use self::renewal::{Due, Loss, Shown};
pub use self::verify::CLOCK_TOLERANCE_SECS;

/// An enrolled host's identity.
pub struct Identity {
    pub card: Card,
    /// The host's certificate, then its issuer.
    pub chain: Vec<CertificateDer<'static>>,
    pub root: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    fn duplicate(&self) -> Self {
        let Self { card, chain, root, key } = self;
        let key = key.clone_key();
        Self { card: card.clone(), chain: chain.clone(), root: root.clone(), key }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("card", &self.card).finish_non_exhaustive()
    }
}

/// The part of an identity for people, `identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub host: HostId,
    pub name: String,
    /// Where the controller listens for agents, `host:port`.
    pub controllers: Vec<String>,
    /// When the certificate was received, by this host's own clock. Older agents did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at_us: Option<i64>,
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The host was never enrolled.
    #[error("this host is not enrolled: run `hostler-agent enroll` ({} is missing)", path.display())]
    NotEnrolled { path: PathBuf },
    /// A file cannot be used.
    #[error("cannot {doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The state directory is somebody else's.
    #[error("{} holds other files: give the agent a state directory of its own", path.display())]
    StateDirForeign { path: PathBuf },
    /// A file holds something else.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A key or a request could not be made, or nothing can be signed with the key.
    #[error("cannot make or use a key")]
    Key(#[source] rcgen::Error),
    /// The key, the certificate and the root do not make a TLS identity.
    #[error("the identity cannot be used for TLS")]
    Tls(#[source] rustls::Error),
    /// The root certificate cannot be read.
    #[error("the root certificate cannot be read")]
    Root,
    /// Somebody enrolled this host anew while the agent ran.
    #[error("{} is another host's by now: start the agent again", path.display())]
    Replaced { path: PathBuf },
    /// A task that writes files broke off.
    #[error("writing the identity broke off")]
    Broken,
}
