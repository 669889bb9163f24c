//! Smart HTTP's client, over reqwest and rustls.
//!
//! It lives as long as the mirror, so that a warm connection serves the next poll. Every wait ends
//! when the fetch is given up. The credentials are a header of each request to the repository's own
//! origin; redirects that lead to another are not followed.

use std::future::Future;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use reqwest::header::HeaderValue;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, Proxy};
use tokio::runtime::{Builder, Runtime};

use super::error::{Class, GitError, chain};
use super::settings::{GitSettings, HttpAuth};
use super::watch::{LOOK, Watch};

/// Redirects followed on the repository's own origin.
const REDIRECTS_MAX: usize = 5;
/// Bytes of a CA file.
const CA_FILE_BYTES_MAX: u64 = 4 << 20;

/// The client of one repository's server.
#[derive(Debug)]
pub(super) struct Caller {
    /// Taken when dropped, which may happen where blocking is not allowed.
    runtime: Option<Runtime>,
    pub(super) client: Client,
    pub(super) authorization: Option<HeaderValue>,
}

impl Caller {
    /// Reads the CA file and sets up TLS.
    pub(super) fn new(settings: &GitSettings) -> Result<Arc<Self>, GitError> {
        // An error means that a provider is installed already: then that one serves.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut builder = Client::builder()
            // The environment's proxies have no say either.
            .no_proxy()
            .connect_timeout(Duration::from_secs(settings.limits.connect_secs))
            .redirect(Policy::custom(same_origin));
        if let Some(proxy) = &settings.proxy {
            let proxy = Proxy::https(proxy.url().clone())
                .map_err(|error| GitError::internal("setting up the git proxy", chain(&error)))?;
            builder = builder.proxy(proxy);
        }
        if let Some(path) = &settings.ca_file {
            builder = builder.tls_certs_only(certificates(path)?);
        } else if settings.url.is_plain_http() {
            // Spares the reading of every certificate of the system.
            builder = builder.tls_certs_only([]);
        }
        let client = builder
            .build()
            .map_err(|error| GitError::internal("setting up the git client", chain(&error)))?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| GitError::internal("setting up the git client", error))?;
        let authorization = settings.auth.as_ref().map(header).transpose()?;
        Ok(Arc::new(Self { runtime: Some(runtime), client, authorization }))
    }

    /// Waits for an answer or for the fetch to be given up.
    pub(super) fn wait<T>(&self, watch: &Watch, answer: impl Future<Output = T>) -> io::Result<T> {
        let runtime = self.runtime.as_ref().ok_or_else(given_up)?;
        runtime.block_on(async {
            tokio::select! {
                biased;
                answer = answer => Ok(answer),
                () = stopped(watch) => Err(given_up()),
            }
        })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn stopped(watch: &Watch) {
    while !watch.is_stopped() {
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) fn given_up() -> io::Error {
    io::Error::other("given up")
}

fn same_origin(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let same = attempt.previous().first().is_some_and(|first| {
        first.scheme() == attempt.url().scheme()
            && first.host_str() == attempt.url().host_str()
            && first.port_or_known_default() == attempt.url().port_or_known_default()
    });
    if same && attempt.previous().len() <= REDIRECTS_MAX {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

fn header(auth: &HttpAuth) -> Result<HeaderValue, GitError> {
    let pair = zeroize::Zeroizing::new(format!("{}:{}", auth.user, auth.password.expose()));
    let text = zeroize::Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| GitError::new(Class::Internal, "the git credentials fit no HTTP header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, GitError> {
    let failed = |why: String| {
        let message = format!("the git CA file {}: {why}", path.display());
        GitError::new(Class::Tls, message)
    };
    let mut pem = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CA_FILE_BYTES_MAX).read_to_end(&mut pem))
        .map_err(|error| failed(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| failed(chain(&error)))?;
    if found.is_empty() {
        return Err(failed("there is no PEM certificate in it".to_owned()));
    }
    Ok(found)
}
