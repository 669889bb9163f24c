//! Where the desired state comes from, and what was read of it last.
//!
//! Rows say which stacks there are; what is here, in memory, is the commit's own trees, from which
//! bundles are made. A controller that starts reads them from its own disk as far as that has them, and
//! looks then.

mod alone;
mod bundle;
mod found;
mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hostler_protocol::id::StackId;

use crate::bundles::{Bundles, sha256_hex};
use crate::domain::Micros;
use crate::domain::decide::refresh::RemovalLimits;
use crate::domain::desired::{StackProblem, StackSettings};
use crate::domain::label::Labels;
use crate::domain::stack::{Discovery, discover};
use crate::git::{DeployDir, RepoTree};
use crate::store::StacksMark;

pub use alone::{Alone, Stuck};
pub use found::facts;

use known::{Known, Settled};

/// Syncs open at once, over all hosts, unless told otherwise.
pub const SYNCS_MAX_DEFAULT: usize = 20;

/// Seconds between two times that it is said of a stack that its bundle cannot be made.
const SAY_AGAIN_SECS: u64 = 60;

/// Hosts for stacks whose compose file names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A stack's path, or what its path begins with and a `*`; `*` alone is every stack.
    pub stacks: String,
    pub hosts: Vec<String>,
    pub labels: Labels,
}

impl Rule {
    /// Whether it is about the stack at that path.
    #[must_use]
    pub fn is_about(&self, path: &str) -> bool {
        match self.stacks.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path == self.stacks,
        }
    }
}

/// The repository, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Without credentials: `URL#REFERENCE:DIRECTORY`.
    pub shown: String,
    pub deploy_dir: DeployDir,
    /// Branch, tag or commit, as configured.
    pub reference: String,
    /// The last part of the URL's path.
    pub repository: String,
}

/// How stacks are to be kept, as configured.
#[derive(Debug, Clone)]
pub struct Keeping {
    pub source: Option<Source>,
    pub rules: Vec<Rule>,
    pub removal: RemovalLimits,
    /// Most syncs open at once.
    pub syncs_max: usize,
    /// Any of them may have signed a webhook; empty: none is accepted.
    pub webhook_secrets: Vec<crate::git::Secret>,
}

impl Default for Keeping {
    /// Without a repository.
    fn default() -> Self {
        Self {
            source: None,
            rules: Vec::new(),
            removal: RemovalLimits::default(),
            syncs_max: SYNCS_MAX_DEFAULT,
            webhook_secrets: Vec::new(),
        }
    }
}

/// What was read last.
#[derive(Debug, Clone)]
pub struct Current {
    pub revision: String,
    pub tree: RepoTree,
    pub discovery: Arc<Discovery>,
}

/// The desired state's side of the controller; cheap to clone.
#[derive(Debug, Clone)]
pub struct Desired {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    keeping: Keeping,
    /// `None`: there is no repository to make bundles of.
    bundles: Option<Bundles>,
    current: Mutex<Option<Current>>,
    known: Mutex<Known>,
    /// The last look at stacks, if it found nothing to do.
    settled: Mutex<Option<Settled>>,
    /// One bundle is made at a time: what two stacks share is read and stored once.
    making: tokio::sync::Mutex<()>,
    /// Files of bundles are read here.
    reading: Alone,
    /// When it was last said that a stack's bundle cannot be made, by this process's own clock.
    said_ms: Mutex<BTreeMap<StackId, u64>>,
}

impl Desired {
    /// As configured, over a store of bundles.
    #[must_use]
    pub fn new(keeping: Keeping, bundles: Bundles) -> Self {
        Self::over(keeping, Some(bundles))
    }

    /// Without a repository and without bundles.
    #[must_use]
    pub fn none() -> Self {
        Self::over(Keeping::default(), None)
    }

    fn over(keeping: Keeping, bundles: Option<Bundles>) -> Self {
        let inner = Inner {
            keeping,
            bundles,
            current: Mutex::new(None),
            known: Mutex::default(),
            settled: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            reading: Alone::default(),
            said_ms: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The repository that is configured, if one is.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        self.inner.keeping.source.as_ref()
    }

    /// How stacks are to be kept.
    #[must_use]
    pub fn keeping(&self) -> &Keeping {
        &self.inner.keeping
    }

    /// The store of bundles, if there is one.
    #[must_use]
    pub fn bundles(&self) -> Option<&Bundles> {
        self.inner.bundles.as_ref()
    }

    /// What was read last.
    #[must_use]
    pub fn current(&self) -> Option<Current> {
        lock(&self.inner.current).clone()
    }

    /// Puts what was read in the place of what was read before. What is known of bundles of which it has
    /// no stack is forgotten, and stacks whose files were not at hand are looked at again.
    pub fn put_current(&self, current: Current) {
        let stacks = current.discovery.stacks.values();
        let bundles = stacks.filter_map(|found| found.bundle.as_ref());
        let digests: BTreeSet<&str> = bundles.map(|bundle| bundle.digest.as_str()).collect();
        self.known().keep(&digests);
        *lock(&self.inner.settled) = None;
        *lock(&self.inner.current) = Some(current);
    }

    /// A look at stacks, made on what has that mark, found nothing to do until then.
    pub fn settle(&self, mark: StacksMark, due: Option<Micros>) {
        *lock(&self.inner.settled) = Some(Settled { mark, due });
    }

    /// Whether the last look at stacks found nothing to do, and another would find the same.
    #[must_use]
    pub fn is_settled(&self, mark: &StacksMark, now: Micros) -> bool {
        lock(&self.inner.settled).as_ref().is_some_and(|settled| settled.holds(mark, now))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.inner.known)
    }

    /// Whether it is to be said now that a stack's bundle cannot be made: not every time it is tried.
    #[must_use]
    pub fn may_say(&self, stack: &StackId, now_ms: u64) -> bool {
        let mut said = self.inner.said_ms.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < SAY_AGAIN_SECS * 1000);
        let silent = !said.contains_key(stack);
        if silent {
            said.insert(stack.clone(), now_ms);
        }
        silent
    }

    /// The limits of one look.
    #[must_use]
    pub fn limits(&self) -> discover::Limits {
        discover::Limits::default()
    }

    /// Stands for the rules: controllers with the same rules have the same one. `None` without a
    /// repository.
    #[must_use]
    pub fn rules_digest(&self) -> Option<String> {
        self.source()?;
        let rules = self.inner.keeping.rules.iter();
        let rules: Vec<_> = rules.map(|one| (&one.stacks, &one.hosts, &one.labels)).collect();
        // Texts, lists of texts and maps of texts: nothing here can fail to be written.
        Some(sha256_hex(&serde_json::to_vec(&rules).unwrap_or_default()))
    }

    /// The hosts of a stack whose compose file names none, as the first rule about it says.
    fn by_rule(&self, path: &str, mut settings: StackSettings) -> StackSettings {
        if settings.hosts.is_empty()
            && settings.labels.is_empty()
            && let Some(rule) = self.inner.keeping.rules.iter().find(|rule| rule.is_about(path))
        {
            settings.hosts.clone_from(&rule.hosts);
            settings.labels.clone_from(&rule.labels);
        }
        settings
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a bundle cannot be made just now.
#[derive(Debug, thiserror::Error)]
pub enum MakingError {
    /// Nothing was read since the start, or the repository has moved on since.
    #[error("the files of {0} are not at hand: a refresh reads them again")]
    NotAtHand(StackId),
    /// Its files are such that none can be made; only a commit changes that.
    #[error("no bundle can be made of the stack: {}", .0.message)]
    Refused(StackProblem),
    #[error("the files of the stack cannot be read from the repository")]
    Tree(#[from] crate::domain::stack::TreeError),
    #[error(transparent)]
    Store(#[from] crate::bundles::BundleError),
    /// The disk did not give a file in time.
    #[error("a file of the stack was not read within {0} s: look at the controller's disk")]
    Overdue(u64),
    /// A file that was given up is still being read.
    #[error("reading the repository hangs: look at the controller's disk, or start it again")]
    Hangs,
    /// A task broke off.
    #[error("work on the bundle broke off")]
    Broken,
}
