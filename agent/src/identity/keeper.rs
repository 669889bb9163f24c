//! Keeps the host's identity good: the committed one, the candidate beside it, and the key that is
//! being certified. What is decided about them is [`super::renewal`]'s; here it is carried out.

use std::fmt;
use std::path::{Path, PathBuf};

use hostler_protocol::CERTIFICATE_BACKDATE_SECS;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::recover::{self, KEY_NOT_KNOWN};
use super::renewal::{Life, Now, Renewal};
use super::{Card, Due, Identity, IdentityError, Loss, RecoverError, Shown, files, key, tls};
use crate::clock::Clock;

/// A new key to be certified.
#[derive(Debug)]
pub struct Ask {
    pub csr: Vec<u8>,
    /// How long to wait for the answer.
    pub wait_ms: u64,
}

/// The identities of this host.
pub struct Keeper {
    state_dir: PathBuf,
    clock: Clock,
    committed: Identity,
    candidate: Option<Identity>,
    /// The committed identity still lies in the candidate's place: it must not be overwritten.
    unplaced: bool,
    /// The key that was asked for and not certified yet (PEM).
    asked: Option<Zeroizing<String>>,
    renewal: Renewal,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("card", self.card()).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Reads the identities of a state directory.
    ///
    /// # Errors
    /// [`IdentityError`] if there is none that can be used.
    pub fn load(state_dir: &Path, clock: Clock) -> Result<Self, IdentityError> {
        let committed = files::load(state_dir)?;
        tls::session_config(&committed, &clock)?;
        let candidate = files::load_candidate(state_dir, &committed)
            .filter(|candidate| tls::session_config(candidate, &clock).is_ok());
        let renewal = Renewal::new(life(&committed), candidate.is_some(), now(&clock));
        let state_dir = state_dir.to_owned();
        let (unplaced, asked) = (false, None);
        Ok(Self { state_dir, clock, committed, candidate, unplaced, asked, renewal })
    }

    /// Who this host is.
    #[must_use]
    pub fn card(&self) -> &Card {
        &self.committed.card
    }

    /// Which identity the next connection is to show.
    #[must_use]
    pub fn shown(&self) -> Shown {
        match &self.candidate {
            Some(_) => self.renewal.shown(self.now()),
            None => Shown::Committed,
        }
    }

    /// Settings of a session that shows that identity.
    ///
    /// # Errors
    /// [`IdentityError`] if it is not fit for TLS.
    pub fn config(&self, shown: Shown) -> Result<quinn::ClientConfig, IdentityError> {
        let identity = match (shown, &self.candidate) {
            (Shown::Candidate, Some(candidate)) => candidate,
            (Shown::Candidate | Shown::Committed, _) => &self.committed,
        };
        tls::session_config(identity, &self.clock)
    }

    /// Settings of a connection that bundles come over; it shows the committed identity.
    ///
    /// # Errors
    /// [`IdentityError`] if it is not fit for TLS.
    pub fn bulk_config(&self) -> Result<quinn::ClientConfig, IdentityError> {
        tls::bulk_config(&self.committed, &self.clock)
    }

    /// What is due in a live session, and in how many milliseconds.
    #[must_use]
    pub fn due(&self) -> (Due, u64) {
        self.renewal.due(self.now())
    }

    /// A new key to be certified; the same one until it is, or is refused.
    ///
    /// # Errors
    /// [`IdentityError`] if none can be made now; it is tried again later.
    pub async fn ask(&mut self) -> Result<Ask, IdentityError> {
        let asked = async {
            self.place().await?;
            let key_pem = match &self.asked {
                Some(key_pem) => key_pem.clone(),
                None => key::generate()?,
            };
            let csr = key::request(&key_pem)?;
            self.asked = Some(key_pem);
            Ok(Ask { csr, wait_ms: self.renewal.answer_ms() })
        };
        let asked = asked.await;
        if asked.is_err() {
            self.renewal.not_granted(self.now());
        }
        asked
    }

    /// The answer to [`Keeper::ask`]: the new certificate is stored as the candidate.
    ///
    /// # Errors
    /// [`IdentityError`] if it is of no use or cannot be stored; another is asked for later.
    pub async fn granted(&mut self, chain: Vec<Vec<u8>>) -> Result<(), IdentityError> {
        let stored = self.store(chain).await;
        let now = self.now();
        match stored {
            Ok(()) => self.renewal.granted(now),
            Err(_) => self.renewal.not_granted(now),
        }
        stored
    }

    /// No certificate came. A key that was refused is not asked for again.
    pub fn not_granted(&mut self, refused: bool) {
        if refused {
            self.asked = None;
        }
        self.renewal.not_granted(self.now());
    }

    /// A session that showed that identity was welcomed: a candidate is committed by it on the
    /// controller's side, and here now.
    ///
    /// # Errors
    /// [`IdentityError`] if the files could not be moved; the identity works all the same.
    pub async fn welcomed(&mut self, shown: Shown) -> Result<(), IdentityError> {
        match (shown, self.candidate.take()) {
            (Shown::Candidate, Some(candidate)) => {
                self.renewal = Renewal::new(life(&candidate), false, self.now());
                self.committed = candidate;
                self.unplaced = true;
            }
            (Shown::Candidate | Shown::Committed, candidate) => {
                self.candidate = candidate;
                if self.renewal.welcomed(self.now()) {
                    self.candidate = None;
                    return on_disk(&self.state_dir, |dir| files::discard_candidate(&dir)).await;
                }
            }
        }
        self.place().await
    }

    /// A connection that showed that identity was not made, or was lost. True if there is another
    /// way that is worth trying at once.
    pub fn lost(&mut self, shown: Shown, loss: Loss) -> bool {
        self.renewal.lost(shown, loss, self.now())
    }

    /// Whether the host has to come back by its key before it can connect.
    #[must_use]
    pub fn must_return(&self) -> bool {
        self.renewal.must_return()
    }

    /// Comes back: proves the key of the last certificate and stores the new one as the candidate.
    ///
    /// # Errors
    /// [`RecoverError`]; nothing has changed then.
    pub async fn come_back(&mut self, controllers: &[String]) -> Result<(), RecoverError> {
        let returned = self.returned(controllers).await;
        let now = self.now();
        match &returned {
            Ok(()) => self.renewal.granted(now),
            Err(_) => self.renewal.not_returned(),
        }
        returned
    }

    async fn returned(&mut self, controllers: &[String]) -> Result<(), RecoverError> {
        let Ask { csr, .. } = self.ask().await?;
        let by_committed = recover::recover(controllers, &self.committed, csr.clone(), &self.clock);
        let chain = match (by_committed.await, &self.candidate) {
            // Its session may have been entered there without our hearing of it.
            (Err(RecoverError::Refused { code, .. }), Some(candidate)) if code == KEY_NOT_KNOWN => {
                let by_candidate = recover::recover(controllers, candidate, csr, &self.clock);
                let chain = by_candidate.await?;
                // So it is what the controller has committed; it moves before another is stored.
                if let Err(error) = self.welcomed(Shown::Candidate).await {
                    return Err(error.into());
                }
                chain
            }
            (answer, _) => answer?,
        };
        Ok(self.store(chain).await?)
    }

    async fn store(&mut self, chain: Vec<Vec<u8>>) -> Result<(), IdentityError> {
        let unfit =
            || IdentityError::Tls(rustls::Error::General("no key was asked for".to_owned()));
        let key_pem = self.asked.clone().ok_or_else(unfit)?;
        self.place().await?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| IdentityError::Tls(rustls::Error::General(error.to_string())))?;
        let card = Card { issued_at_us: Some(self.clock.now_us()), ..self.committed.card.clone() };
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let candidate = Identity { card, chain, root: self.committed.root.clone(), key };
        // It must be fit for use before it is stored.
        tls::session_config(&candidate, &self.clock)?;
        let stored = candidate.duplicate();
        on_disk(&self.state_dir, move |dir| files::store_candidate(&dir, &stored, &key_pem))
            .await?;
        self.candidate = Some(candidate);
        self.asked = None;
        Ok(())
    }

    /// Moves the committed identity to its place, if it is not there yet.
    async fn place(&mut self) -> Result<(), IdentityError> {
        if self.unplaced {
            on_disk(&self.state_dir, |dir| files::commit_candidate(&dir)).await?;
            self.unplaced = false;
        }
        Ok(())
    }

    fn now(&self) -> Now {
        now(&self.clock)
    }
}

fn now(clock: &Clock) -> Now {
    Now {
        wall_us: clock.now_us(),
        monotonic_ms: clock.monotonic_ms(),
        random: u64::from_le_bytes(clock.random()),
    }
}

/// When a certificate was received and how long it lasts, backdating left out. One whose times
/// cannot be read never asks to be replaced.
fn life(identity: &Identity) -> Life {
    let validity = identity.chain.first().and_then(|leaf| tls::validity_secs(leaf));
    let backdate = i64::try_from(CERTIFICATE_BACKDATE_SECS).unwrap_or(0);
    let (issued, until) = match validity {
        Some((from, until)) => (from.saturating_add(backdate), until),
        None => (0, i64::MAX),
    };
    let secs = u64::try_from(until.saturating_sub(issued)).unwrap_or(0);
    let issued_us = identity.card.issued_at_us.unwrap_or(issued.saturating_mul(1_000_000));
    Life { issued_us, ms: secs.saturating_mul(1000) }
}

/// Files are written away from the loop that keeps the session alive.
async fn on_disk(
    state_dir: &Path,
    work: impl FnOnce(PathBuf) -> Result<(), IdentityError> + Send + 'static,
) -> Result<(), IdentityError> {
    let state_dir = state_dir.to_owned();
    let done = tokio::task::spawn_blocking(move || work(state_dir)).await;
    done.map_err(|_| IdentityError::Broken)?
}
