//! Fetching one bundle: over as many connections as it takes, within bounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use hostler_protocol::bulk::{Ask, STREAMS_MAX};
use hostler_protocol::bundle::{MANIFEST_BYTES_MAX, Manifest};
use sha2::{Digest as _, Sha256};

use super::line::{Line, Trouble};
use super::partial::{Partial, blob};
use super::{Inner, blocking};
use crate::net::{self, Way};
use crate::steps::bundle::BundleError;

/// Times every controller is asked in vain, one after the other, before it is given up.
const ROUNDS_MAX: u32 = 6;
/// The first wait between two of these, in milliseconds; it doubles up to the longest.
const WAIT_MS: u64 = 250;
const WAIT_MS_MAX: u64 = 8_000;
/// Seconds the agent may take for its first session: who the controllers are is known then.
const WAY_SECS: u64 = 30;

/// What is fetched, as far as it has come.
pub(super) struct Fetch<'a> {
    inner: &'a Arc<Inner>,
    bundle: &'a str,
    manifest: Option<Arc<Manifest>>,
    missing: Vec<Partial>,
    finished: u64,
    /// What was found damaged last; a controller that set it aside only says that it has it no more.
    damaged: Option<String>,
}

/// What the controllers said in one round.
#[derive(Default)]
struct Said {
    not_found: bool,
    damaged: Option<String>,
    cut: Option<String>,
}

impl Said {
    fn note(&mut self, address: SocketAddr, trouble: Trouble) -> Result<(), BundleError> {
        match trouble {
            Trouble::NotFound => self.not_found = true,
            Trouble::Damaged(what) => self.damaged = Some(what),
            Trouble::Cut(reason) => self.cut = Some(format!("{address}: {reason}")),
            Trouble::Unwanted(reason) => return Err(BundleError::Unreachable { reason }),
            Trouble::Local(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether everybody has answered, and asking again would bring the same.
    fn is_final(&self) -> bool {
        self.not_found && self.damaged.is_none() && self.cut.is_none()
    }
}

impl<'a> Fetch<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>, bundle: &'a str) -> Self {
        Self { inner, bundle, manifest: None, missing: Vec::new(), finished: 0, damaged: None }
    }

    /// Fetches what is missing; the manifest.
    ///
    /// # Errors
    /// [`BundleError`]; what has arrived whole stays.
    pub(super) async fn run(mut self) -> Result<Arc<Manifest>, BundleError> {
        let (mut furthest, mut in_vain, mut wait_ms) = ((0, 0), 0, WAIT_MS);
        loop {
            let mut said = Said::default();
            let way = self.way().await?;
            for address in addresses(&way, &mut said).await {
                match self.from(&way, address).await {
                    Ok(manifest) => return Ok(manifest),
                    Err(trouble) => said.note(address, trouble)?,
                }
            }
            if said.damaged.is_some() {
                self.damaged.clone_from(&said.damaged);
            }
            if said.is_final() {
                return Err(self.failed(said));
            }
            if self.progress() > furthest {
                (furthest, in_vain, wait_ms) = (self.progress(), 0, WAIT_MS);
            }
            in_vain += 1;
            if in_vain >= ROUNDS_MAX {
                return Err(self.failed(said));
            }
            let reason = self.failed(said);
            tracing::info!(bundle = self.bundle, %reason, "a bundle has not come; it is asked for again");
            let random = u64::from_le_bytes(self.inner.clock.random());
            tokio::time::sleep(Duration::from_millis(wait_ms / 2 + random % wait_ms)).await;
            wait_ms = (wait_ms * 2).min(WAIT_MS_MAX);
        }
    }

    fn failed(&self, said: Said) -> BundleError {
        let what = format!("bundle {}", self.bundle);
        match (self.damaged.clone(), said.cut) {
            (Some(reason), _) => BundleError::Damaged { what, reason },
            (None, None) if said.not_found => BundleError::Missing { what },
            (None, cut) => BundleError::Unreachable {
                reason: cut.unwrap_or_else(|| "no controller's address is known".to_owned()),
            },
        }
    }

    /// How far it has come: files, then bytes of those that are coming.
    fn progress(&self) -> (u64, u64) {
        let files = self.finished + u64::from(self.manifest.is_some());
        (files, self.missing.iter().map(|partial| partial.got()).sum())
    }

    /// How controllers are reached now: known from the first session on.
    async fn way(&self) -> Result<Way, BundleError> {
        let unknown = || BundleError::Unreachable {
            reason: "the agent has had no session with a controller yet".to_owned(),
        };
        let mut ways = self.inner.ways.clone();
        let way = ways.wait_for(Option::is_some);
        let way = tokio::time::timeout(Duration::from_secs(WAY_SECS), way).await;
        let way = way.map_err(|_| unknown())?.map_err(|_| unknown())?;
        way.clone().ok_or_else(unknown)
    }

    /// Fetches what that controller has of it.
    async fn from(&mut self, way: &Way, address: SocketAddr) -> Result<Arc<Manifest>, Trouble> {
        let line = Line::dial(way, address).await?;
        let fetched = self.over(&line).await;
        line.close().await;
        fetched
    }

    async fn over(&mut self, line: &Line) -> Result<Arc<Manifest>, Trouble> {
        let manifest = match &self.manifest {
            Some(manifest) => Arc::clone(manifest),
            None => self.begin(line).await?,
        };
        let wanted = std::mem::take(&mut self.missing);
        let (cache, bundle) = (&self.inner.cache, self.bundle);
        let fetched: Vec<(Partial, Result<(), Trouble>)> = futures_util::stream::iter(wanted)
            .map(|partial| blob(cache, line, bundle, partial))
            .buffer_unordered(STREAMS_MAX as usize)
            .collect()
            .await;
        let mut trouble = None;
        for (partial, result) in fetched {
            match result {
                Ok(()) => self.finished += 1,
                Err(one) => {
                    self.missing.push(partial);
                    trouble = Some(worse(trouble, one));
                }
            }
        }
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        let cache = Arc::clone(self.inner);
        blocking(move || cache.cache.sync_blobs()).await.map_err(Trouble::Local)?;
        Ok(manifest)
    }

    /// Finds out what is missing, by the manifest that is here or that the controller has.
    async fn begin(&mut self, line: &Line) -> Result<Arc<Manifest>, Trouble> {
        let (inner, bundle) = (Arc::clone(self.inner), self.bundle.to_owned());
        let known = blocking(move || inner.cache.manifest(&bundle)).await;
        let manifest = match known.map_err(Trouble::Local)? {
            Some(manifest) => manifest,
            None => self.fetch_manifest(line).await?,
        };
        let (inner, manifest) = (Arc::clone(self.inner), Arc::new(manifest));
        let looked = Arc::clone(&manifest);
        let missing: BTreeMap<String, u64> =
            blocking(move || inner.cache.missing(&looked)).await.map_err(Trouble::Local)?;
        self.make_room(missing.values().sum()).await.map_err(Trouble::Local)?;
        let cache = &self.inner.cache;
        let partial = |(sha256, bytes)| Partial::new(cache, sha256, bytes);
        self.missing = missing.into_iter().map(partial).collect();
        self.manifest = Some(Arc::clone(&manifest));
        Ok(manifest)
    }

    async fn make_room(&self, bytes: u64) -> Result<(), BundleError> {
        let inner = Arc::clone(self.inner);
        blocking(move || match inner.cache.has_room(bytes)? {
            true => Ok(()),
            false => Err(inner.cache.no_room()),
        })
        .await
    }

    async fn fetch_manifest(&self, line: &Line) -> Result<Manifest, Trouble> {
        let bundle = self.bundle.to_owned();
        let mut body = line.open(&Ask::Manifest { bundle, offset: 0 }).await?;
        if body.bytes > MANIFEST_BYTES_MAX as u64 {
            let what = format!("the manifest has {} bytes, more than it may", body.bytes);
            return Err(Trouble::Damaged(what));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await? {
            bytes.extend_from_slice(&chunk.bytes);
        }
        if hex::encode(Sha256::digest(&bytes)) != self.bundle {
            return Err(Trouble::Damaged("its manifest is not what its name says".to_owned()));
        }
        let manifest =
            Manifest::parse(&bytes).map_err(|error| Trouble::Damaged(error.to_string()))?;
        let (inner, bundle) = (Arc::clone(self.inner), self.bundle.to_owned());
        let stored = blocking(move || inner.cache.store_manifest(&bundle, &bytes)).await;
        stored.map_err(Trouble::Local)?;
        Ok(manifest)
    }
}

/// Of two troubles the one that says more about what to do next.
fn worse(one: Option<Trouble>, other: Trouble) -> Trouble {
    let weight = |trouble: &Trouble| match trouble {
        Trouble::Local(_) => 4,
        Trouble::Unwanted(_) => 3,
        Trouble::Damaged(_) => 2,
        Trouble::NotFound => 1,
        Trouble::Cut(_) => 0,
    };
    match one {
        Some(one) if weight(&one) >= weight(&other) => one,
        Some(_) | None => other,
    }
}

/// Who may have it: the controller of the session first, then all the others.
async fn addresses(way: &Way, said: &mut Said) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = way.first.into_iter().collect();
    for name in &way.controllers {
        match net::resolve(name).await {
            Ok(addresses) => {
                for address in addresses {
                    if !found.contains(&address) && found.len() < net::ADDRESSES_MAX {
                        found.push(address);
                    }
                }
            }
            Err(error) => said.cut = Some(error.to_string()),
        }
    }
    found
}
