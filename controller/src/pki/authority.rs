//! The root and the issuing authority, and what they sign.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use hostler_protocol::id::HostId;
use hostler_protocol::{CONTROLLER_NAME, CSR_BYTES_MAX};
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};

use super::making::{
    ISSUING_NAME, Pair, Root, is_signed_by, leaf_params, load, make_issuing, open_root,
    reset_secret, sign, validity,
};
use super::{
    ISSUING_LEFT_SECS_MIN, PkiError, SERVER_SECS, certificate_key_sha256, files, host_uri,
    key_sha256, new_key,
};
use crate::clock::Clock;
use crate::domain::Micros;

/// The certificate authority of this installation.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    clock: Clock,
    /// Seconds a host's certificate is good for.
    host_secs: u64,
    root: Root,
    issuing: RwLock<Pair>,
    reset_secret: [u8; 32],
}

/// How long the issuing authority is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub secs: u64,
    /// Nothing but a person can replace it, and it is time to.
    pub by_hand: bool,
}

/// A checked signing request: its signature is that of its own key.
#[derive(Debug)]
pub struct Request {
    parsed: CertificateSigningRequestParams,
    /// SHA-256 of its public key info, lower-case hex.
    pub key_sha256: String,
}

/// A host's new certificate.
#[derive(Debug, Clone)]
pub struct HostCertificate {
    /// Leaf first, then the issuing authority; DER.
    pub chain: Vec<Vec<u8>>,
    /// The root; DER.
    pub root: Vec<u8>,
    pub expires_at: Micros,
}

/// The controller's own certificate and key.
#[derive(Debug)]
pub struct ServerCertificate {
    /// Leaf, issuing authority, root.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub expires_at: Micros,
}

impl Request {
    /// Checks a PKCS#10 request (DER).
    ///
    /// # Errors
    /// [`PkiError::Request`] if it is too large, unreadable, or not signed by its own key.
    pub fn check(der: &[u8]) -> Result<Self, PkiError> {
        if der.len() > CSR_BYTES_MAX {
            return Err(PkiError::Request);
        }
        let parsed =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
                .map_err(|_| PkiError::Request)?;
        let algorithm = parsed.public_key.algorithm();
        if algorithm != &rcgen::PKCS_ECDSA_P256_SHA256 && algorithm != &rcgen::PKCS_ED25519 {
            return Err(PkiError::Request);
        }
        let key_sha256 = key_sha256(&parsed.public_key.subject_public_key_info());
        Ok(Self { parsed, key_sha256 })
    }
}

impl Authority {
    /// Whether a directory holds a root already.
    #[must_use]
    pub fn is_begun(dir: &Path) -> bool {
        dir.join("root.crt").exists()
    }

    /// Reads the authority from its directory; makes what is not there yet. A directory made by
    /// [`issue`](super::issue) has no root key: then nothing can be made anew.
    ///
    /// # Errors
    /// [`PkiError::File`] and [`PkiError::Damaged`] for what cannot be read, [`PkiError::KeyLost`]
    /// where a key is gone that cannot be made anew, [`PkiError::OtherRoot`] for files that do not
    /// belong together, [`PkiError::IssuingEnded`].
    pub fn open(dir: &Path, clock: Clock, host_secs: u64) -> Result<Self, PkiError> {
        files::make_dir(dir)?;
        let root = open_root(dir, &clock)?;
        let issuing = match (load(dir, "issuing"), &root.key_pem) {
            (Ok(Some(pair)), _) => pair,
            // Below the same root a new issuing authority does as well as the lost one.
            (Ok(None) | Err(PkiError::KeyLost { .. }), Some(_)) => {
                make_issuing(dir, &root, ISSUING_NAME, &clock)?
            }
            (Ok(None), None) => {
                let path = dir.join("root.key").display().to_string();
                return Err(PkiError::KeyLost { path });
            }
            (Err(error), _) => return Err(error),
        };
        if !is_signed_by(&issuing.certificate, &root.certificate)? {
            return Err(PkiError::OtherRoot { dir: dir.display().to_string() });
        }
        let reset_secret = reset_secret(dir, &root, &clock)?;
        let (dir, issuing) = (dir.to_owned(), RwLock::new(issuing));
        let authority = Self { dir, clock, host_secs, root, issuing, reset_secret };
        authority.renew_issuing()?;
        authority.left()?;
        Ok(authority)
    }

    /// What agents pin: SHA-256 of the root's public key info (DER).
    ///
    /// # Errors
    /// [`PkiError`] if the root cannot be parsed.
    pub fn pin(&self) -> Result<[u8; 32], PkiError> {
        certificate_key_sha256(&self.root.certificate)
    }

    /// The root certificate.
    #[must_use]
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root.certificate
    }

    /// A secret that is the same after each restart and tells nothing of the keys: the agents'
    /// port resets connections of the process before it with it. Each controller has its own.
    #[must_use]
    pub fn reset_secret(&self) -> [u8; 32] {
        self.reset_secret
    }

    /// Replaces the issuing authority if it is near its end, or of a time that has not come, since
    /// the clock was ahead; says whether it did. Without the root's key it is read again from its
    /// files, where a person may have put a newer one.
    ///
    /// # Errors
    /// [`PkiError`] if the new one cannot be made, read or written.
    pub fn renew_issuing(&self) -> Result<bool, PkiError> {
        let mut issuing = self.issuing.write().unwrap_or_else(PoisonError::into_inner);
        let (from, until) = validity(&issuing.certificate)?;
        let now = self.clock.now();
        if from <= now && until > now.plus_secs(ISSUING_LEFT_SECS_MIN) {
            return Ok(false);
        }
        if self.root.key_pem.is_some() {
            *issuing = make_issuing(&self.dir, &self.root, ISSUING_NAME, &self.clock)?;
            return Ok(true);
        }
        let Some(found) = load(&self.dir, "issuing")? else { return Ok(false) };
        let (_, found_until) = validity(&found.certificate)?;
        let is_newer = found_until > until;
        if is_newer && !is_signed_by(&found.certificate, &self.root.certificate)? {
            return Err(PkiError::OtherRoot { dir: self.dir.display().to_string() });
        }
        if is_newer {
            *issuing = found;
        }
        Ok(is_newer)
    }

    /// How long the issuing authority is good for, and whether a person has to see to its
    /// replacement: it is near its end, and the root's key is not here.
    ///
    /// # Errors
    /// [`PkiError::IssuingEnded`] if it is good no more.
    pub fn left(&self) -> Result<Left, PkiError> {
        let until = self.issuing_until()?;
        let now = self.clock.now();
        if until <= now {
            let path = self.dir.join("issuing.crt").display().to_string();
            return Err(PkiError::IssuingEnded { path });
        }
        let near = until <= now.plus_secs(ISSUING_LEFT_SECS_MIN);
        let secs = u64::try_from((until.0 - now.0) / 1_000_000).unwrap_or(0);
        Ok(Left { secs, by_hand: near && self.root.key_pem.is_none() })
    }

    fn issuing_until(&self) -> Result<Micros, PkiError> {
        let issuing = self.issuing.read().unwrap_or_else(PoisonError::into_inner);
        Ok(validity(&issuing.certificate)?.1)
    }

    /// When a host's certificate ends that is signed now: never after the authority that signs it,
    /// or the host would be shut out without having been told.
    #[must_use]
    pub fn host_certificate_ends(&self) -> Micros {
        self.ends(self.host_secs)
    }

    fn ends(&self, secs: u64) -> Micros {
        let wanted = self.clock.now().plus_secs(secs);
        let Micros(end) = self.issuing_until().map_or(wanted, |until| until.min(wanted));
        // Certificates count in whole seconds.
        Micros(end - end.rem_euclid(1_000_000))
    }

    /// Signs a host's certificate. Of the request only the public key is used.
    ///
    /// # Errors
    /// [`PkiError::Sign`] if the library refuses, [`PkiError::IssuingEnded`].
    pub fn sign_host(&self, request: &Request, host: &HostId) -> Result<HostCertificate, PkiError> {
        self.left()?;
        let expires_at = self.host_certificate_ends();
        let issuing = self.issuing.read().unwrap_or_else(PoisonError::into_inner);
        let mut params = leaf_params(&self.clock, host.as_str(), expires_at)?;
        params.subject_alt_names =
            vec![SanType::URI(sign("naming a host", host_uri(host).try_into())?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let signer = issuing.issuer()?;
        let leaf = sign(
            "signing a host's certificate",
            params.signed_by(&request.parsed.public_key, &signer),
        )?;
        Ok(HostCertificate {
            chain: vec![leaf.der().to_vec(), issuing.certificate.to_vec()],
            root: self.root.certificate.to_vec(),
            expires_at,
        })
    }

    /// Makes a new key and certificate for this controller's own endpoint.
    ///
    /// # Errors
    /// [`PkiError::Sign`] if the library refuses, [`PkiError::IssuingEnded`].
    pub fn sign_server(&self) -> Result<ServerCertificate, PkiError> {
        self.left()?;
        let expires_at = self.ends(SERVER_SECS);
        let issuing = self.issuing.read().unwrap_or_else(PoisonError::into_inner);
        let key = new_key()?;
        let mut params = leaf_params(&self.clock, CONTROLLER_NAME, expires_at)?;
        let name = sign("naming the controller", CONTROLLER_NAME.try_into())?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signer = issuing.issuer()?;
        let leaf = sign("signing the controller's certificate", params.signed_by(&key, &signer))?;
        let chain =
            vec![leaf.der().clone(), issuing.certificate.clone(), self.root.certificate.clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|_| PkiError::Damaged { path: "a new key".to_owned() })?;
        Ok(ServerCertificate { chain, key, expires_at })
    }
}
