//! A live configuration that can be asked: every probe is a request of one of these kinds.

use std::time::Duration;

use hostler_protocol::job::{EnvironmentDoc, FastcgiDoc};

use super::keys::KeyFormat;
use super::render::{RENDERING, probe_key};
use super::run::{Failure, blocking};
use super::state::{Applied, AppliedNginx};
use super::tools::Tools;
use super::tracking;
use crate::host::fastcgi::{self, Entry};
use crate::host::probe::{self, Answer, Origin, Probe, ProbeError};

/// What a probe wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// The number of the configuration.
    Generation,
    /// What a visitor would get; stores nothing.
    Peek,
    /// What the application answers now, past the cache; stores nothing.
    Past,
    /// What the application answers now; stored in the visitors' entry.
    Refresh,
    /// A visitor's request with an entry of its own, told apart by a nonce.
    Effect { nonce: &'a str },
}

impl Kind<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Peek => "peek",
            Self::Past => "past",
            Self::Refresh => "refresh",
            Self::Effect { .. } => "effect",
        }
    }

    fn nonce(self) -> String {
        match self {
            Self::Effect { nonce } => nonce.to_owned(),
            Self::Generation | Self::Peek | Self::Past | Self::Refresh => String::new(),
        }
    }
}

/// A configuration that can be asked.
#[derive(Debug, Clone)]
pub struct Live {
    pub environment: EnvironmentDoc,
    pub origin: Origin,
    pub generation: u64,
    pub secret: String,
    /// Whether its cache is on.
    pub enabled: bool,
    /// Whether its files know every kind of probe, and entries' own stale windows.
    pub current: bool,
}

impl Live {
    /// The configuration that is applied.
    #[must_use]
    pub fn new(environment: &EnvironmentDoc, origin: Origin, nginx: &AppliedNginx) -> Self {
        Self {
            environment: environment.clone(),
            origin,
            generation: nginx.generation,
            secret: nginx.secret.clone(),
            enabled: nginx.enabled,
            current: nginx.rendering == RENDERING,
        }
    }

    /// The one of an environment as it was applied last, if nginx was ever set up for it.
    #[must_use]
    pub fn of(tools: &Tools, environment: &EnvironmentDoc, applied: &Applied) -> Option<Self> {
        let nginx = applied.nginx.as_ref()?;
        Some(Self::new(environment, tools.origin(environment).ok()?, nginx))
    }

    /// One that an attempt brings in.
    #[must_use]
    pub fn coming(
        environment: &EnvironmentDoc,
        origin: Origin,
        generation: u64,
        secret: String,
    ) -> Self {
        let environment = environment.clone();
        Self { environment, origin, generation, secret, enabled: false, current: true }
    }

    /// A site none of our files speaks for: it is asked as a visitor asks.
    #[must_use]
    pub fn plain(environment: &EnvironmentDoc, origin: Origin) -> Self {
        Self {
            environment: environment.clone(),
            origin,
            generation: 0,
            secret: String::new(),
            enabled: false,
            current: false,
        }
    }

    /// Whether a probe has no cache key of its own here.
    fn is_plain(&self) -> bool {
        self.secret.is_empty()
    }

    /// Sends one probe.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub async fn ask(
        &self,
        kind: Kind<'_>,
        path: &str,
        headers: &[(&'static str, String)],
        timeout: Duration,
    ) -> Result<Answer, ProbeError> {
        let mut all = headers.to_vec();
        if !self.is_plain() {
            all.push(("x-hostler-probe", format!("{}:{}", kind.name(), self.secret)));
            all.push(("x-hostler-nonce", kind.nonce()));
        }
        let probe = Probe {
            origin: &self.origin,
            domain: &self.environment.domain,
            path,
            headers: &all,
            timeout,
        };
        probe::get(&probe).await
    }

    /// The key a request of ours for that URI is stored under.
    ///
    /// # Errors
    /// `KEY_FORMAT_UNSUPPORTED`.
    pub fn key(&self, fastcgi: &FastcgiDoc, uri: &str) -> Result<String, Failure> {
        let format = KeyFormat::parse(&fastcgi.key_format)?;
        let uri = tracking::canonical(uri);
        Ok(format.expand(self.origin.scheme(), "GET", &self.environment.domain, &uri))
    }

    /// The entry an effect probe of that nonce left, if it left one.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub async fn probe_entry(
        &self,
        tools: &Tools,
        nonce: &str,
        path: &str,
    ) -> Result<Option<Entry>, Failure> {
        let Some(fastcgi) = self.environment.fastcgi.as_ref().filter(|_| !self.is_plain()) else {
            return Ok(None);
        };
        let key = probe_key(nonce, &self.key(fastcgi, path)?);
        let (roots, cache_dir) = (tools.roots.clone(), fastcgi.cache_dir.clone());
        blocking(move || {
            // No directory, no entry.
            let Ok(cache) = roots.dir(cache_dir.as_ref()) else { return Ok(None) };
            fastcgi::find(&cache, key.as_bytes())
        })
        .await
    }

    /// Removes the entry of an effect probe.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub async fn remove_probe_entry(
        &self,
        tools: &Tools,
        nonce: &str,
        path: &str,
    ) -> Result<(), Failure> {
        match self.probe_entry(tools, nonce, path).await? {
            Some(entry) => blocking(move || entry.remove().map(|_| ())).await,
            None => Ok(()),
        }
    }
}
