//! The store in a bucket of an S3-compatible server: `blobs/ab/cdef…` and `manifests/ab/cdef…`
//! below a prefix, `damaged/…` for what was found damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use hostler_protocol::bundle::{BLOB_BYTES_MAX, is_digest};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::content::{Bytes, Content};
use super::{BundleError, Kind, Stored, sha256_hex};
use crate::domain::Micros;

/// Blobs that may be in memory at once on their way out: each is held against its name first.
const IN_MEMORY_MAX: usize = 4;
/// Seconds one request may take, and all its repetitions.
const REQUEST_SECS: u64 = 60;
const RETRIES_SECS: u64 = 90;
/// Times a request is repeated.
const RETRIES_MAX: usize = 3;
/// Largest file with a key or with certificates, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Where a bucket is, and the files with its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// `https://host:port`, or `http://…` where the network is trusted.
    pub endpoint: String,
    pub bucket: String,
    pub region: String,
    /// What names in the bucket begin with; may be empty.
    pub prefix: String,
    /// Files with the access key's id and with its secret, nothing else in them.
    pub access_key_file: PathBuf,
    pub secret_key_file: PathBuf,
    /// Certificates (PEM) of the server's own authority; none: the system's.
    pub ca_file: Option<PathBuf>,
}

/// A bucket. It shows no settings: they hold keys.
pub(super) struct S3 {
    client: Arc<AmazonS3>,
    prefix: String,
    in_memory: Arc<Semaphore>,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The HTTP client every request goes through: the one with our TLS.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl S3 {
    pub(super) fn open(settings: &S3Settings) -> Result<Self, BundleError> {
        let access = secret(&settings.access_key_file)?;
        let secret = secret(&settings.secret_key_file)?;
        let retry = RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: Duration::from_secs(RETRIES_SECS),
            ..RetryConfig::default()
        };
        let client = AmazonS3Builder::new()
            .with_endpoint(settings.endpoint.trim_end_matches('/'))
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(access.as_str())
            .with_secret_access_key(secret.as_str())
            .with_virtual_hosted_style_request(false)
            .with_allow_http(settings.endpoint.starts_with("http://"))
            .with_retry(retry)
            .with_http_connector(Connector(http(settings)?))
            .build()
            // Its text may repeat a setting, but none that is secret: keys are not looked at yet.
            .map_err(|error| BundleError::Settings(error.to_string()))?;
        let prefix = settings.prefix.trim_matches('/').to_owned();
        let in_memory = Arc::new(Semaphore::new(IN_MEMORY_MAX));
        Ok(Self { client: Arc::new(client), prefix, in_memory })
    }

    fn key(&self, folder: &str, name: &str) -> Key {
        let (shard, rest) = name.split_at(2);
        let parts = [folder, shard, rest];
        let prefix = self.prefix.split('/').filter(|part| !part.is_empty());
        Key::from_iter(prefix.chain(parts))
    }

    pub(super) async fn put(
        &self,
        kind: Kind,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<(), BundleError> {
        let key = self.key(kind.folder(), name);
        let stored = self.client.put(&key, PutPayload::from(bytes)).await;
        stored.map(drop).map_err(failed("store an object"))
    }

    pub(super) async fn stored(
        &self,
        kind: Kind,
        name: &str,
    ) -> Result<Option<Stored>, BundleError> {
        match self.client.head(&self.key(kind.folder(), name)).await {
            Ok(meta) => Ok(Some(Stored {
                name: name.to_owned(),
                bytes: meta.size,
                at: Micros(meta.last_modified.timestamp_micros()),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("look at an object")(error)),
        }
    }

    pub(super) async fn open_at(
        &self,
        kind: Kind,
        name: &str,
        offset: u64,
    ) -> Result<Content, BundleError> {
        let what = kind.named(name);
        let key = self.key(kind.folder(), name);
        let permit = Arc::clone(&self.in_memory).acquire_owned().await;
        let permit = permit.map_err(|_| BundleError::Broken)?;
        let found = match self.client.get(&key).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(BundleError::Missing { what });
            }
            Err(error) => return Err(failed("give an object")(error)),
        };
        if found.meta.size > BLOB_BYTES_MAX {
            let (what, bytes) = ("an object", found.meta.size);
            return Err(BundleError::TooLarge { what, bytes, bytes_max: BLOB_BYTES_MAX });
        }
        let bytes: Vec<u8> = found.bytes().await.map_err(failed("give an object"))?.into();
        let is = sha256_hex(&bytes);
        if is != name {
            let aside = self.key("damaged", name);
            let moved = self.client.rename(&key, &aside).await;
            moved.map_err(failed("set an object aside"))?;
            return Err(BundleError::Damaged {
                what,
                reason: format!("its bytes are those of {is}"),
            });
        }
        let bytes_total = bytes.len() as u64;
        let at = usize::try_from(offset).ok().filter(|at| *at <= bytes.len());
        let Some(at) = at else {
            return Err(BundleError::Offset { what, bytes: bytes_total, offset });
        };
        let bytes = Bytes::Memory { bytes, at, _permit: permit };
        Ok(Content { bytes_total, bytes_left: bytes_total - offset, what, bytes })
    }

    pub(super) async fn list(&self, kind: Kind) -> Result<Vec<Stored>, BundleError> {
        let prefix = self.prefix.split('/').filter(|part| !part.is_empty());
        let folder = Key::from_iter(prefix.chain([kind.folder()]));
        let metas = self.client.list(Some(&folder)).try_filter_map(|meta| async move {
            let parts: Vec<_> = meta.location.parts().collect();
            let name: String =
                parts.iter().rev().take(2).rev().map(|part| part.as_ref().to_owned()).collect();
            let at = Micros(meta.last_modified.timestamp_micros());
            Ok(is_digest(&name).then_some(Stored { name, bytes: meta.size, at }))
        });
        metas.try_collect().await.map_err(failed("list its objects"))
    }

    pub(super) async fn remove(
        &self,
        kind: Kind,
        name: &str,
        before: Micros,
    ) -> Result<bool, BundleError> {
        if self.stored(kind, name).await?.is_none_or(|stored| stored.at >= before) {
            return Ok(false);
        }
        let removed = self.client.delete(&self.key(kind.folder(), name)).await;
        removed.map(|()| true).map_err(failed("remove an object"))
    }
}

fn failed(action: &'static str) -> impl FnOnce(object_store::Error) -> BundleError {
    move |error| BundleError::Bucket { action, source: Box::new(error) }
}

fn http(settings: &S3Settings) -> Result<reqwest::Client, BundleError> {
    // An error means that a provider is installed already: then that one serves.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(REQUEST_SECS));
    if let Some(path) = &settings.ca_file {
        let pem = read(path)?;
        let found = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
            .ok()
            .filter(|found| !found.is_empty());
        let unusable =
            || BundleError::Settings(format!("{} holds no certificates", path.display()));
        builder = builder.tls_certs_only(found.ok_or_else(unusable)?);
    } else if settings.endpoint.starts_with("http://") {
        // Spares the reading of every certificate of the system.
        builder = builder.tls_certs_only([]);
    }
    builder
        .build()
        .map_err(|source| BundleError::Bucket { action: "be talked to", source: Box::new(source) })
}

fn secret(path: &Path) -> Result<Zeroizing<String>, BundleError> {
    let text = read(path)?;
    let line = text.trim();
    if line.is_empty() || line.contains(['\n', '\r']) {
        let message = format!("{} has to hold one key, on one line", path.display());
        return Err(BundleError::Settings(message));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn read(path: &Path) -> Result<Zeroizing<String>, BundleError> {
    use std::io::Read as _;
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(BundleError::file("read", path))?;
    Ok(text)
}
