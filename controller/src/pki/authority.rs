//! The root and the issuing authority, and what they sign.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use hostler_protocol::id::HostId;
use hostler_protocol::{CERTIFICATE_BACKDATE_SECS, CONTROLLER_NAME, CSR_BYTES_MAX};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::{
    ISSUING_LEFT_SECS_MIN, ISSUING_SECS, PkiError, ROOT_SECS, SERVER_SECS, certificate_key_sha256,
    files, host_uri, key_sha256, new_key,
};
use sha2::{Digest as _, Sha256};

use crate::clock::Clock;
use crate::domain::Micros;

/// The certificate authority of this installation.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    clock: Clock,
    /// Seconds a host's certificate is good for.
    host_secs: u64,
    root: Pair,
    issuing: RwLock<Pair>,
}

#[derive(Debug)]
struct Pair {
    key_pem: String,
    certificate: CertificateDer<'static>,
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
    /// Reads the authority from its directory; makes what is not there yet.
    ///
    /// # Errors
    /// [`PkiError::File`] and [`PkiError::Damaged`] for what cannot be read, [`PkiError::KeyLost`]
    /// where a key is gone that cannot be made anew.
    pub fn open(dir: &Path, clock: Clock, host_secs: u64) -> Result<Self, PkiError> {
        files::make_dir(dir)?;
        let root = match load(dir, "root")? {
            Some(pair) => pair,
            None => make_root(dir, &clock)?,
        };
        let issuing = match load(dir, "issuing") {
            Ok(Some(pair)) => pair,
            // Below the same root a new issuing authority does as well as the lost one.
            Ok(None) | Err(PkiError::KeyLost { .. }) => make_issuing(dir, &root, &clock)?,
            Err(error) => return Err(error),
        };
        let (dir, issuing) = (dir.to_owned(), RwLock::new(issuing));
        let authority = Self { dir, clock, host_secs, root, issuing };
        authority.renew_issuing()?;
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
    /// port resets connections of the process before it with it.
    #[must_use]
    pub fn reset_secret(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"hostler stateless reset 1\0");
        hash.update(self.root.key_pem.as_bytes());
        hash.finalize().into()
    }

    /// Replaces the issuing authority if it is near its end, or of a time that has not come, since
    /// the clock was ahead; says whether it did.
    ///
    /// # Errors
    /// [`PkiError`] if the new one cannot be made or written.
    pub fn renew_issuing(&self) -> Result<bool, PkiError> {
        let mut issuing = self.issuing.write().unwrap_or_else(PoisonError::into_inner);
        let (from, until) = validity(&issuing.certificate)?;
        let now = self.clock.now();
        if from <= now && until > now.plus_secs(ISSUING_LEFT_SECS_MIN) {
            return Ok(false);
        }
        *issuing = make_issuing(&self.dir, &self.root, &self.clock)?;
        Ok(true)
    }

    /// When a host's certificate ends that is signed now.
    #[must_use]
    pub fn host_certificate_ends(&self) -> Micros {
        // Certificates count in whole seconds.
        let Micros(end) = self.clock.now().plus_secs(self.host_secs);
        Micros(end - end.rem_euclid(1_000_000))
    }

    /// Signs a host's certificate. Of the request only the public key is used.
    ///
    /// # Errors
    /// [`PkiError::Sign`] if the library refuses.
    pub fn sign_host(&self, request: &Request, host: &HostId) -> Result<HostCertificate, PkiError> {
        let issuing = self.issuing.read().unwrap_or_else(PoisonError::into_inner);
        let expires_at = self.host_certificate_ends();
        let mut params = leaf_params(&self.clock, host.as_str(), self.host_secs)?;
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
    /// [`PkiError::Sign`] if the library refuses.
    pub fn sign_server(&self) -> Result<ServerCertificate, PkiError> {
        let issuing = self.issuing.read().unwrap_or_else(PoisonError::into_inner);
        let expires_at = self.clock.now().plus_secs(SERVER_SECS);
        let key = new_key()?;
        let mut params = leaf_params(&self.clock, CONTROLLER_NAME, SERVER_SECS)?;
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

impl Pair {
    fn key(&self) -> Result<KeyPair, PkiError> {
        sign("reading a key", KeyPair::from_pem(&self.key_pem))
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        sign("reading an authority", Issuer::from_ca_cert_der(&self.certificate, self.key()?))
    }
}

fn sign<T>(action: &'static str, result: Result<T, rcgen::Error>) -> Result<T, PkiError> {
    result.map_err(|source| PkiError::Sign { action, source })
}

fn load(dir: &Path, name: &str) -> Result<Option<Pair>, PkiError> {
    let (key_path, certificate_path) =
        (dir.join(format!("{name}.key")), dir.join(format!("{name}.crt")));
    let Some(certificate_pem) = files::read(&certificate_path)? else { return Ok(None) };
    let damaged = |path: &Path| PkiError::Damaged { path: path.display().to_string() };
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|_| damaged(&certificate_path))?;
    let key_pem = files::read(&key_path)?
        .ok_or_else(|| PkiError::KeyLost { path: key_path.display().to_string() })?;
    let key = KeyPair::from_pem(&key_pem).map_err(|_| damaged(&key_path))?;
    let of_key = hex::decode(key_sha256(&key.subject_public_key_info())).unwrap_or_default();
    if of_key != certificate_key_sha256(&certificate).map_err(|_| damaged(&certificate_path))? {
        return Err(damaged(&key_path));
    }
    Ok(Some(Pair { key_pem, certificate }))
}

/// The key is written first: a key without a certificate is simply used again.
fn store(dir: &Path, name: &str, key: &KeyPair, certificate_pem: &str) -> Result<(), PkiError> {
    files::write(&dir.join(format!("{name}.key")), &key.serialize_pem())?;
    files::write(&dir.join(format!("{name}.crt")), certificate_pem)
}

fn make_root(dir: &Path, clock: &Clock) -> Result<Pair, PkiError> {
    let left_behind = files::read(&dir.join("root.key"))?;
    let key = match left_behind.and_then(|pem| KeyPair::from_pem(&pem).ok()) {
        Some(key) => key,
        None => new_key()?,
    };
    let mut params = base_params(clock, "Hostler root", ROOT_SECS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = sign("signing the root", params.self_signed(&key))?;
    store(dir, "root", &key, &certificate.pem())?;
    Ok(Pair { key_pem: key.serialize_pem(), certificate: certificate.der().clone() })
}

fn make_issuing(dir: &Path, root: &Pair, clock: &Clock) -> Result<Pair, PkiError> {
    let key = new_key()?;
    let mut params = base_params(clock, "Hostler issuing authority", ISSUING_SECS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let signer = root.issuer()?;
    let certificate = sign("signing the issuing authority", params.signed_by(&key, &signer))?;
    // Certificate and key change together or the old pair stays readable: without its certificate
    // a new key counts as lost, and a lost issuing key is made anew.
    let certificate_path = dir.join("issuing.crt");
    if certificate_path.exists() {
        std::fs::remove_file(&certificate_path).map_err(|source| PkiError::File {
            action: "removing",
            path: certificate_path.display().to_string(),
            source,
        })?;
    }
    store(dir, "issuing", &key, &certificate.pem())?;
    Ok(Pair { key_pem: key.serialize_pem(), certificate: certificate.der().clone() })
}

fn leaf_params(clock: &Clock, name: &str, secs: u64) -> Result<CertificateParams, PkiError> {
    let mut params = base_params(clock, name, secs)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn base_params(clock: &Clock, name: &str, secs: u64) -> Result<CertificateParams, PkiError> {
    let now = clock.now();
    let mut serial: [u8; 16] = clock.random()?;
    // Positive, and never beginning with the zero byte DER would drop.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = date(Micros(now.0 - micros(CERTIFICATE_BACKDATE_SECS)));
    params.not_after = date(now.plus_secs(secs));
    Ok(params)
}

fn micros(secs: u64) -> i64 {
    Micros(0).plus_secs(secs).0
}

fn date(at: Micros) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.0 / 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// When a certificate begins and ends to hold.
fn validity(certificate: &CertificateDer<'_>) -> Result<(Micros, Micros), PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| PkiError::Damaged { path: "issuing.crt".to_owned() })?;
    let at = |time: x509_parser::time::ASN1Time| Micros(time.timestamp().saturating_mul(1_000_000));
    Ok((at(parsed.validity().not_before), at(parsed.validity().not_after)))
}
