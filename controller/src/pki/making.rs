//! Root and issuing authority as they stand in a directory: made, read, and issued for another
//! controller's directory.

use std::path::Path;

use hostler_protocol::CERTIFICATE_BACKDATE_SECS;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::extensions::ParsedExtension;

use super::{
    ISSUING_SECS, PkiError, ROOT_SECS, certificate_key_sha256, files, key_sha256, new_key,
};
use crate::clock::Clock;
use crate::domain::Micros;

/// The root: its key is where the installation began, its certificate everywhere.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key_pem: Option<String>,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key_pem: String,
    pub(super) certificate: CertificateDer<'static>,
}

/// The name of an issuing authority.
pub(super) const ISSUING_NAME: &str = "Hostler issuing authority";

impl Pair {
    pub(super) fn key(&self) -> Result<KeyPair, PkiError> {
        sign("reading a key", KeyPair::from_pem(&self.key_pem))
    }

    pub(super) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        sign("reading an authority", Issuer::from_ca_cert_der(&self.certificate, self.key()?))
    }
}

pub(super) fn sign<T>(
    action: &'static str,
    result: Result<T, rcgen::Error>,
) -> Result<T, PkiError> {
    result.map_err(|source| PkiError::Sign { action, source })
}

pub(super) fn damaged(path: &Path) -> PkiError {
    PkiError::Damaged { path: path.display().to_string() }
}

pub(super) fn certificate(path: &Path) -> Result<Option<CertificateDer<'static>>, PkiError> {
    let Some(pem) = files::read(path)? else { return Ok(None) };
    CertificateDer::from_pem_slice(pem.as_bytes()).map(Some).map_err(|_| damaged(path))
}

pub(super) fn load(dir: &Path, name: &str) -> Result<Option<Pair>, PkiError> {
    let (key_path, certificate_path) =
        (dir.join(format!("{name}.key")), dir.join(format!("{name}.crt")));
    let Some(certificate) = certificate(&certificate_path)? else { return Ok(None) };
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
pub(super) fn store(
    dir: &Path,
    name: &str,
    key: &KeyPair,
    certificate_pem: &str,
) -> Result<(), PkiError> {
    files::write(&dir.join(format!("{name}.key")), &key.serialize_pem())?;
    files::write(&dir.join(format!("{name}.crt")), certificate_pem)
}

pub(super) fn open_root(dir: &Path, clock: &Clock) -> Result<Root, PkiError> {
    let issued_here = dir.join("issuing.crt").exists();
    match load(dir, "root") {
        Ok(Some(pair)) => Ok(Root { certificate: pair.certificate, key_pem: Some(pair.key_pem) }),
        Ok(None) => make_root(dir, clock),
        // The authority of one more controller: its root's key is somewhere safer.
        Err(PkiError::KeyLost { .. }) if issued_here => {
            let certificate = certificate(&dir.join("root.crt"))?
                .ok_or_else(|| PkiError::Damaged { path: "root.crt".to_owned() })?;
            Ok(Root { certificate, key_pem: None })
        }
        Err(error) => Err(error),
    }
}

pub(super) fn make_root(dir: &Path, clock: &Clock) -> Result<Root, PkiError> {
    let left_behind = files::read(&dir.join("root.key"))?;
    let key = match left_behind.and_then(|pem| KeyPair::from_pem(&pem).ok()) {
        Some(key) => key,
        None => new_key()?,
    };
    let mut params = base_params(clock, "Hostler root", clock.now().plus_secs(ROOT_SECS))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = sign("signing the root", params.self_signed(&key))?;
    store(dir, "root", &key, &certificate.pem())?;
    Ok(Root { certificate: certificate.der().clone(), key_pem: Some(key.serialize_pem()) })
}

pub(super) fn make_issuing(
    dir: &Path,
    root: &Root,
    name: &str,
    clock: &Clock,
) -> Result<Pair, PkiError> {
    let key = new_key()?;
    let mut params = base_params(clock, name, clock.now().plus_secs(ISSUING_SECS))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let certificate =
        sign("signing the issuing authority", params.signed_by(&key, &root.issuer(dir)?))?;
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

/// Makes an issuing authority of another controller's own below the root in `dir`, good for
/// [`ISSUING_SECS`]: `out`, which must not be there yet or be empty, gets all of what that
/// controller's directory needs. The root's key stays where it is.
///
/// # Errors
/// [`PkiError::NoRootKey`] where the root's key is not, [`PkiError::NotEmpty`], [`PkiError`].
pub fn issue(dir: &Path, out: &Path, name: &str, clock: &Clock) -> Result<(), PkiError> {
    let no_root = || PkiError::NoRootKey { dir: dir.display().to_string() };
    let root = match load(dir, "root") {
        Ok(Some(pair)) => Root { certificate: pair.certificate, key_pem: Some(pair.key_pem) },
        Ok(None) | Err(PkiError::KeyLost { .. }) => return Err(no_root()),
        Err(error) => return Err(error),
    };
    files::make_dir(out)?;
    let failed = |source| PkiError::File {
        action: "reading the directory",
        path: out.display().to_string(),
        source,
    };
    if std::fs::read_dir(out).map_err(failed)?.next().is_some() {
        return Err(PkiError::NotEmpty { dir: out.display().to_string() });
    }
    let root_pem = files::read(&dir.join("root.crt"))?.ok_or_else(no_root)?;
    make_issuing(out, &root, &format!("{ISSUING_NAME} {name}"), clock)?;
    files::write(&out.join("root.crt"), &root_pem)
}

impl Root {
    pub(super) fn issuer(&self, dir: &Path) -> Result<Issuer<'static, KeyPair>, PkiError> {
        let no_root = || PkiError::NoRootKey { dir: dir.display().to_string() };
        let key_pem = self.key_pem.clone().ok_or_else(no_root)?;
        Pair { key_pem, certificate: self.certificate.clone() }.issuer()
    }
}

/// With the root's key: derived from it. Without: random, and kept beside the authority.
pub(super) fn reset_secret(dir: &Path, root: &Root, clock: &Clock) -> Result<[u8; 32], PkiError> {
    if let Some(key_pem) = &root.key_pem {
        let mut hash = Sha256::new();
        hash.update(b"hostler stateless reset 1\0");
        hash.update(key_pem.as_bytes());
        return Ok(hash.finalize().into());
    }
    let path = dir.join("reset.key");
    let known = files::read(&path)?.and_then(|text| hex::decode(text.trim()).ok());
    if let Some(known) = known.and_then(|bytes| bytes.try_into().ok()) {
        return Ok(known);
    }
    let fresh: [u8; 32] = clock.random()?;
    files::write(&path, &format!("{}\n", hex::encode(fresh)))?;
    Ok(fresh)
}

/// Whether an issuing authority names the root's key as its signer's. Who mixes up files learns so
/// here and not from every agent; a forged one would get no further than any agent's verifier.
pub(super) fn is_signed_by(
    issuing: &CertificateDer<'_>,
    root: &CertificateDer<'_>,
) -> Result<bool, PkiError> {
    let damaged = |name: &str| PkiError::Damaged { path: name.to_owned() };
    let (_, issuing) =
        x509_parser::parse_x509_certificate(issuing).map_err(|_| damaged("issuing.crt"))?;
    let (_, root) = x509_parser::parse_x509_certificate(root).map_err(|_| damaged("root.crt"))?;
    let signer = issuing.extensions().iter().find_map(|found| {
        if let ParsedExtension::AuthorityKeyIdentifier(named) = found.parsed_extension() {
            named.key_identifier.clone()
        } else {
            None
        }
    });
    let own = root.extensions().iter().find_map(|found| {
        if let ParsedExtension::SubjectKeyIdentifier(own) = found.parsed_extension() {
            Some(own.clone())
        } else {
            None
        }
    });
    Ok(signer.is_some() && signer == own)
}

pub(super) fn leaf_params(
    clock: &Clock,
    name: &str,
    until: Micros,
) -> Result<CertificateParams, PkiError> {
    let mut params = base_params(clock, name, until)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

pub(super) fn base_params(
    clock: &Clock,
    name: &str,
    until: Micros,
) -> Result<CertificateParams, PkiError> {
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
    params.not_after = date(until);
    Ok(params)
}

pub(super) fn micros(secs: u64) -> i64 {
    Micros(0).plus_secs(secs).0
}

pub(super) fn date(at: Micros) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.0 / 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// When a certificate begins and ends to hold.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<(Micros, Micros), PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| PkiError::Damaged { path: "issuing.crt".to_owned() })?;
    let at = |time: x509_parser::time::ASN1Time| Micros(time.timestamp().saturating_mul(1_000_000));
    Ok((at(parsed.validity().not_before), at(parsed.validity().not_after)))
}
