//! The mirror: fetches one reference, keeps what it last accepted, hands out its trees.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use gix::ObjectId;

use super::commit::CommitMeta;
use super::error::{Class, GitError};
use super::generation::{Generation, Place, Shelf};
use super::http::Caller;
use super::remote::Conversation;
use super::settings::{DeployDir, GitSettings, RefKind};
use super::signature;
use super::tree::RepoTree;
use super::watch::{Watch, lock};
use crate::clock::Clock;

/// After this many fetches that brought something, the next goes into a fresh repository: packs
/// and shallow boundaries only ever pile up.
const PACKS_MAX: usize = 50;

/// A commit that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit's id, 40 lower-case hexadecimal digits.
    pub revision: String,
    pub commit: CommitMeta,
}

/// What a fetch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit's id, 40 lower-case hexadecimal digits.
    pub revision: String,
    /// Whether it is another commit than after the fetch before.
    pub changed: bool,
    pub commit: CommitMeta,
    /// Bytes that came from the server: answers' bodies, or ssh's standard output.
    pub bytes_received: u64,
    /// Whether the commit before is no ancestor of this one. Without history that is known only of
    /// a child (no) and of a root (yes).
    pub rewritten: Option<bool>,
}

/// A bare copy of one reference of one repository.
#[derive(Debug)]
pub struct Mirror {
    settings: GitSettings,
    clock: Clock,
    caller: Option<Arc<Caller>>,
    shelf: Shelf,
    current: Mutex<Option<Generation>>,
    /// Held during a fetch.
    fetching: Mutex<()>,
    judged: Mutex<Option<Judged>>,
}

/// Whether what a reference pointed to was signed by a listed key. Asked again only for something
/// else, or when the list has changed: what is refused is not received at every look.
#[derive(Debug)]
struct Judged {
    target: ObjectId,
    signers: Vec<u8>,
    verdict: Result<(), GitError>,
}

impl Mirror {
    /// Takes the directory and whatever usable copy is in it; asks nobody.
    ///
    /// # Errors
    /// Settings that [`GitSettings::validate`] refuses, a directory that cannot be used or that
    /// another process uses, a CA file without certificates.
    pub fn open(dir: &Path, settings: GitSettings, clock: Clock) -> Result<Self, GitError> {
        let wrong = settings.validate();
        if !wrong.is_empty() {
            return Err(GitError::internal("the git settings are wrong", wrong.join("; ")));
        }
        let caller = settings.url.is_http().then(|| Caller::new(&settings)).transpose()?;
        let (shelf, current) = Shelf::open(dir, settings.limits)?;
        let (current, fetching) = (Mutex::new(current), Mutex::new(()));
        let judged = Mutex::new(None);
        Ok(Self { settings, clock, caller, shelf, current, fetching, judged })
    }

    /// What was last accepted, also before this start; it may be of another reference or
    /// repository, if the settings have changed since.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        let current = lock(&self.current);
        current.as_ref().map(|generation| Revision {
            revision: generation.tip.commit.to_string(),
            commit: generation.tip.meta.clone(),
        })
    }

    /// Asks the server what the reference points to, and receives that commit if it is not there.
    /// A commit named by its id is asked for once. Blocks until one of the deadlines in the
    /// settings at the latest; fetches of one mirror go one after the other.
    ///
    /// # Errors
    /// By class, see [`Class`]; what was accepted before stays readable.
    pub fn fetch(&self, cancel: &AtomicBool) -> Result<Fetched, GitError> {
        let _alone = lock(&self.fetching);
        let watch = Watch::new(&self.clock, self.settings.limits);
        watch.guard(cancel, || self.update(&watch))
    }

    fn update(&self, watch: &Arc<Watch>) -> Result<Fetched, GitError> {
        let old = lock(&self.current).clone();
        let usable = old.as_ref().filter(|old| !old.place.is_suspect());
        if let Some(old) = usable
            && self.settings.reference.kind() == RefKind::Commit
            && ObjectId::from_hex(self.settings.reference.as_str().as_bytes())
                .is_ok_and(|wanted| wanted == old.tip.commit)
        {
            self.judge(old, watch)?;
            return Ok(unchanged(old, watch));
        }
        let mut talk = self.converse(watch)?;
        let target = talk.find(&self.settings.reference)?;
        if let Some(old) = usable.filter(|old| old.tip.target == target) {
            talk.end();
            // It may have been accepted when nobody had to sign, or others might.
            self.judge(old, watch)?;
            return Ok(unchanged(old, watch));
        }
        if let Some(verdict) = self.verdict(target, &self.signers()?) {
            verdict?;
        }
        let base = usable.filter(|old| old.place.packs() < PACKS_MAX);
        let new = match self.receive(talk, target, base, watch) {
            // Perhaps it is the old objects that are damaged.
            Err(error) if base.is_some() && error.class() == Class::Corrupt => {
                tracing::warn!(code = error.code(), %error, "fetching into a fresh git mirror");
                self.receive(self.converse(watch)?, target, None, watch)?
            }
            received => received?,
        };
        let fetched = Fetched {
            revision: new.tip.commit.to_string(),
            changed: old.as_ref().is_none_or(|old| old.tip.commit != new.tip.commit),
            commit: new.tip.meta.clone(),
            bytes_received: watch.bytes(),
            rewritten: old.as_ref().and_then(|old| rewritten(old, &new)),
        };
        self.switch(new, old);
        Ok(fetched)
    }

    fn converse(&self, watch: &Arc<Watch>) -> Result<Conversation, GitError> {
        Conversation::open(&self.settings, self.caller.as_ref(), watch)
    }

    /// Receives a commit on top of what is there, or into a fresh repository.
    fn receive(
        &self,
        mut talk: Conversation,
        target: ObjectId,
        base: Option<&Generation>,
        watch: &Arc<Watch>,
    ) -> Result<Generation, GitError> {
        let limits = &self.settings.limits;
        let place = base.map_or_else(|| self.shelf.fresh(), |base| Ok(Arc::clone(&base.place)))?;
        let repository = place.repository(limits)?.to_thread_local();
        talk.receive(&repository, target, base.map(|base| base.tip.commit), limits)?;
        talk.end();
        let new = Generation::load(Arc::clone(&place), target, limits)?;
        self.judge(&new, watch)?;
        self.accept(&place, target, base.is_none())?;
        Ok(new)
    }

    /// Refuses a commit that is not signed as the settings ask for.
    fn judge(&self, new: &Generation, watch: &Arc<Watch>) -> Result<(), GitError> {
        let Some(path) = &self.settings.signers_file else { return Ok(()) };
        let signers = self.signers()?;
        let target = new.tip.target;
        if let Some(verdict) = self.verdict(target, &signers) {
            return verdict;
        }
        let repository = new.repository.to_thread_local();
        let verdict = signature::verify(&repository, new.tip.commit, path, watch);
        // What kept us from finding out says nothing of the commit.
        if verdict.as_ref().err().is_none_or(|error| error.class() == Class::Signature) {
            *lock(&self.judged) = Some(Judged { target, signers, verdict: verdict.clone() });
        }
        verdict
    }

    /// What is known of it under this list of signers.
    fn verdict(&self, target: ObjectId, signers: &[u8]) -> Option<Result<(), GitError>> {
        let judged = lock(&self.judged);
        let known = judged.as_ref()?;
        let same = known.target == target && known.signers == signers;
        same.then(|| known.verdict.clone())
    }

    /// The list of signers; empty where nobody has to sign.
    fn signers(&self) -> Result<Vec<u8>, GitError> {
        let Some(path) = &self.settings.signers_file else { return Ok(Vec::new()) };
        std::fs::read(path).map_err(|error| {
            GitError::internal(&format!("reading the git signers file {}", path.display()), error)
        })
    }

    fn accept(&self, place: &Place, target: ObjectId, fresh: bool) -> Result<(), GitError> {
        place.accept(target)?;
        if fresh { self.shelf.publish(place) } else { Ok(()) }
    }

    /// From here on readers get the new one; the old one's files go with its last reader.
    fn switch(&self, new: Generation, old: Option<Generation>) {
        if let Some(old) = &old
            && old.place.path() != new.place.path()
        {
            old.place.retire();
        }
        let before = lock(&self.current).replace(new);
        // Removing files may take a while: not under the lock.
        drop(before);
    }

    /// The files of a commit that was accepted before, maybe before this start; asks no server. Signers
    /// that were named since count.
    ///
    /// # Errors
    /// As [`Mirror::tree`]; [`Class::Signature`].
    pub fn accepted_tree(
        &self,
        revision: &str,
        deploy_dir: &DeployDir,
        cancel: &AtomicBool,
    ) -> Result<RepoTree, GitError> {
        let _alone = lock(&self.fetching);
        let current = lock(&self.current).clone();
        let wanted = gix::ObjectId::from_hex(revision.as_bytes()).ok();
        let is_it = |one: &Generation| Some(one.tip.commit) == wanted;
        // Only what was accepted last can be held against the signers there are now.
        if let Some(current) = current.filter(is_it) {
            let watch = Watch::new(&self.clock, self.settings.limits);
            watch.guard(cancel, || self.judge(&current, &watch))?;
        } else if self.settings.signers_file.is_some() {
            return Err(gone(revision));
        }
        self.tree(revision, deploy_dir)
    }

    /// A commit's files, and where in them the stacks are looked for.
    ///
    /// # Errors
    /// [`Class::Path`] if the commit has no such directory, [`Class::Ref`] if the mirror does not
    /// have the commit (any more).
    pub fn tree(&self, revision: &str, deploy_dir: &DeployDir) -> Result<RepoTree, GitError> {
        let gone = || gone(revision);
        let current = lock(&self.current).clone().ok_or_else(gone)?;
        let commit = ObjectId::from_hex(revision.as_bytes()).map_err(|_| gone())?;
        let root = if commit == current.tip.commit {
            current.tip.tree
        } else {
            let repository = current.repository.to_thread_local();
            let object = repository.try_find_object(commit).ok().flatten().ok_or_else(gone)?;
            let commit = object.try_into_commit().map_err(|_| gone())?;
            commit.tree_id().map_err(|_| gone())?.detach()
        };
        RepoTree::new(&current, root, deploy_dir, self.settings.limits, &self.clock)
    }
}

fn gone(revision: &str) -> GitError {
    GitError::new(Class::Ref, format!("the mirror does not have the commit {revision}: refresh"))
}

fn unchanged(current: &Generation, watch: &Watch) -> Fetched {
    Fetched {
        revision: current.tip.commit.to_string(),
        changed: false,
        commit: current.tip.meta.clone(),
        bytes_received: watch.bytes(),
        rewritten: None,
    }
}

fn rewritten(old: &Generation, new: &Generation) -> Option<bool> {
    if old.tip.commit == new.tip.commit {
        return None;
    }
    if new.tip.parents.contains(&old.tip.commit) {
        return Some(false);
    }
    new.tip.parents.is_empty().then_some(true)
}
