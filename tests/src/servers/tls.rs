//! Certificates for servers that speak TLS: of one nobody trusts, or of an authority of the tests'
//! own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_agent::host::probe::{self, Origin, Probe};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::{SERVER_SECS_MAX, ServerError, free_port, write};

/// What a server needs to speak TLS, and where it shall.
#[derive(Debug, Clone)]
pub struct Tls {
    pub port: u16,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// Makes a self-signed certificate for `domain`; its files go into `dir`.
    ///
    /// # Errors
    /// When it cannot be made or written, or loopback has no port to give.
    pub fn self_signed(dir: &Path, domain: &str) -> Result<Self, ServerError> {
        let made = rcgen::generate_simple_self_signed(vec![domain.to_owned()])
            .map_err(|error| ServerError::new("making a certificate", error))?;
        let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        write(&certificate, &made.cert.pem())?;
        write(&key, &made.signing_key.serialize_pem())?;
        Ok(Self { port: free_port()?, certificate, key })
    }

    /// Makes a certificate for `names` and the authority that signs it; the authority's own
    /// certificate is the second. All files go into `dir`.
    ///
    /// # Errors
    /// When they cannot be made or written, or loopback has no port to give.
    pub fn signed(dir: &Path, names: &[&str]) -> Result<(Self, PathBuf), ServerError> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let made = sign(names).map_err(|error| ServerError::new("making a certificate", error))?;
        let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        let ca = dir.join("ca.pem");
        write(&ca, &made.ca)?;
        write(&certificate, &made.certificate)?;
        write(&key, &made.key)?;
        Ok((Self { port: free_port()?, certificate, key }, ca))
    }

    /// One GET as a visitor who trusts any certificate sends it.
    ///
    /// # Errors
    /// When nobody answers in TLS and HTTP.
    pub async fn get(&self, domain: &str, path: &str) -> Result<probe::Answer, ServerError> {
        let origin = Origin { tls: true, host: "127.0.0.1".to_owned(), port: self.port };
        let timeout = Duration::from_secs(SERVER_SECS_MAX);
        let asked = Probe { origin: &origin, domain, path, headers: &[], timeout };
        let answer = probe::get(&asked).await;
        answer.map_err(|error| ServerError::new(&format!("GET https://{domain}{path}"), error))
    }

    /// The lines that make an nginx server listen here.
    #[must_use]
    pub fn lines(&self) -> String {
        format!(
            "listen 127.0.0.1:{} ssl; ssl_certificate {}; ssl_certificate_key {};",
            self.port,
            self.certificate.display(),
            self.key.display()
        )
    }
}

/// A certificate, its key and its authority's certificate, in PEM.
struct Signed {
    certificate: String,
    key: String,
    ca: String,
}

fn sign(names: Vec<String>) -> Result<Signed, rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "The tests' own authority");
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?.pem();
    let mut leaf = CertificateParams::new(names)?;
    // An issuer and its subject must not share their name.
    leaf.distinguished_name.push(DnType::CommonName, "A server of the tests");
    let key = KeyPair::generate()?;
    let signed = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok(Signed { certificate: signed.pem(), key: key.serialize_pem(), ca })
}
