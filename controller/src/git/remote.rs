//! One conversation with the server: which commit the reference names, and its objects.
//!
//! What is asked for is always one commit without its history; what is there already is offered,
//! so that only the difference travels.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::ChildStdin;
use std::sync::Arc;

use gix::ObjectId;
use gix::bstr::BString;
use gix::odb::pack;
use gix::progress::Discard;
use gix::protocol::fetch::{self, negotiate};
use gix::protocol::handshake::Ref;
use gix::protocol::ls_refs::RefPrefixes;
use gix::protocol::transport::client::TransportWithoutIO;
use gix::protocol::transport::client::blocking_io::{Transport, http};
use gix::protocol::transport::client::git::{ConnectMode, blocking_io::Connection};
use gix::protocol::transport::{Protocol, Service};
use gix::protocol::{Handshake, LsRefsCommand};

use super::error::{Class, GitError, plain};
use super::exchange::Exchange;
use super::http::Caller;
use super::process::{Counted, Talker};
use super::settings::{GitLimits, GitSettings, RefKind, Reference};
use super::ssh;
use super::watch::Watch;

/// How we call ourselves.
const AGENT: &str = concat!("hostler/", env!("CARGO_PKG_VERSION"));

/// A server that has answered.
pub(super) struct Conversation {
    line: Box<dyn Transport + Send>,
    handshake: Handshake,
    talker: Option<Talker>,
    watch: Arc<Watch>,
}

impl Conversation {
    /// Connects and greets.
    pub(super) fn open(
        settings: &GitSettings,
        caller: Option<&Arc<Caller>>,
        watch: &Arc<Watch>,
    ) -> Result<Self, GitError> {
        let (mut line, mut talker) = connect(settings, caller, watch)?;
        let greeted = gix::protocol::handshake(
            &mut line,
            Service::UploadPack,
            // The credentials are the transport's; there is nobody to ask for others.
            |_| Ok(None),
            Vec::new(),
            &mut Discard,
        );
        let handshake = greeted.map_err(|error| {
            explain(
                watch,
                talker.as_mut(),
                &error,
                Class::Network,
                "the server does not answer as a git server does: look at the URL",
            )
        })?;
        let format = handshake.capabilities.capability("object-format");
        if format.and_then(|format| format.value()).is_some_and(|value| value != "sha1") {
            let message = "the repository names its objects with SHA-256, which is not supported: \
                           use one with SHA-1";
            return Err(GitError::new(Class::Internal, message));
        }
        Ok(Self { line, handshake, talker, watch: Arc::clone(watch) })
    }

    /// What the reference points to: a commit, or a tag of one.
    pub(super) fn find(&mut self, reference: &Reference) -> Result<ObjectId, GitError> {
        if reference.kind() == RefKind::Commit {
            return ObjectId::from_hex(reference.as_str().as_bytes())
                .map_err(|error| GitError::internal("reading the commit's id", error));
        }
        let names = reference.full_names();
        let refs = match self.handshake.refs.take() {
            Some(refs) => refs,
            None => self.list(&names)?,
        };
        let found =
            names.iter().find_map(|name| refs.iter().find_map(|found| points_to(found, name)));
        found.ok_or_else(|| {
            let message = format!(
                "the repository has no branch and no tag `{}`: look whether it was renamed or \
                 deleted",
                reference.as_str()
            );
            GitError::new(Class::Ref, message)
        })
    }

    fn list(&mut self, names: &[String]) -> Result<Vec<Ref>, GitError> {
        let mut prefixes = RefPrefixes::new();
        prefixes.extend(names.iter().map(|name| BString::from(name.as_str())));
        LsRefsCommand::new(Some(prefixes), &self.handshake.capabilities, agent())
            .invoke_blocking(&mut self.line, &mut Discard, false)
            .map_err(|error| {
                let what = "the git server does not list its branches";
                explain(&self.watch, self.talker.as_mut(), &error, Class::Network, what)
            })
    }

    /// Receives a commit with all its files into a repository that may have an older one.
    pub(super) fn receive(
        &mut self,
        repository: &gix::Repository,
        want: ObjectId,
        have: Option<ObjectId>,
        limits: &GitLimits,
    ) -> Result<(), GitError> {
        let directory = repository.objects.store_ref().path().join("pack");
        let mut negotiation = Negotiation { want, have };
        let watch = Arc::clone(&self.watch);
        let received = gix::protocol::fetch(
            &mut negotiation,
            |reader, progress, stop| {
                let kept = pack::Bundle::write_to_directory(
                    reader,
                    Some(&directory),
                    progress,
                    stop,
                    Some(repository.objects.clone()),
                    gix::hash::Kind::Sha1,
                    write_options(limits),
                )?;
                kept.keep_path.as_deref().map(discard);
                Ok(true)
            },
            Discard,
            watch.stop(),
            fetch::Context {
                handshake: &mut self.handshake,
                transport: &mut self.line,
                user_agent: agent(),
                trace_packetlines: false,
            },
            fetch::Options {
                shallow_file: repository.git_dir().join("shallow"),
                shallow: &fetch::Shallow::DepthAtRemote(NonZeroU32::MIN),
                tags: fetch::Tags::None,
                reject_shallow_remote: false,
            },
        );
        received.map(drop).map_err(|error| {
            explain(
                &self.watch,
                self.talker.as_mut(),
                &error,
                Class::Corrupt,
                "what the git server sent is damaged",
            )
        })
    }

    /// Says goodbye, so that the server does not log a broken connection.
    pub(super) fn end(mut self) {
        if self.line.connection_persists_across_multiple_requests() {
            gix::protocol::indicate_end_of_interaction(&mut self.line, false).unwrap_or(());
        }
    }
}

/// The pack is complete: nothing else collects this repository's packs.
fn discard(keep: &Path) {
    std::fs::remove_file(keep).unwrap_or(());
}

fn agent() -> (&'static str, Option<String>) {
    ("agent", Some(gix::protocol::agent(AGENT)))
}

fn write_options(limits: &GitLimits) -> pack::bundle::write::Options {
    pack::bundle::write::Options {
        alloc_limit_bytes: usize::try_from(limits.pack_bytes_max).ok(),
        ..Default::default()
    }
}

fn connect(
    settings: &GitSettings,
    caller: Option<&Arc<Caller>>,
    watch: &Arc<Watch>,
) -> Result<(Box<dyn Transport + Send>, Option<Talker>), GitError> {
    let url = settings.url.as_str();
    if let Some(caller) = caller {
        let parsed = gix::url::parse(url)
            .map_err(|error| GitError::internal("reading the repository's URL", error))?;
        let exchange = Exchange::new(caller, watch);
        let line = http::Transport::new_http(exchange, parsed, Protocol::V2, false);
        return Ok((Box::new(line), None));
    }
    let call = ssh::call(settings)
        .ok_or_else(|| GitError::internal("connecting", "there is no HTTP client"))?;
    let (talker, stdout, stdin) = call.talk(watch)?;
    let line: Connection<Counted, ChildStdin> = Connection::new(
        stdout,
        stdin,
        Protocol::V2,
        url,
        None::<(&str, Option<u16>)>,
        ConnectMode::Process,
        false,
    );
    Ok((Box::new(line), Some(talker)))
}

/// Why a step failed: what was noticed at the source, what the child complained about, what the
/// server said, or else the step's own class.
fn explain(
    watch: &Watch,
    talker: Option<&mut Talker>,
    error: &gix::Error,
    class: Class,
    what: &str,
) -> GitError {
    if let Some(cause) = watch.cause() {
        return cause;
    }
    let causes: Vec<String> = error.iter_errors().map(ToString::to_string).collect();
    let said = causes.join(": ");
    let complaint = talker.map(Talker::complaint).unwrap_or_default();
    if let Some(known) = ssh::meaning(&complaint).or_else(|| ssh::meaning(&said)) {
        return known;
    }
    if disk_is_full(error) {
        return GitError::internal("writing the git mirror", "the disk is full");
    }
    let last = complaint.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let detail = plain(&format!("{last} {said}"));
    GitError::new(class, format!("{what} ({detail})"))
}

fn disk_is_full(error: &gix::Error) -> bool {
    error.iter_errors().any(|error| {
        error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
    })
}

/// What a reference of that very name points to.
fn points_to(found: &Ref, wanted: &str) -> Option<ObjectId> {
    let (name, target) = match found {
        Ref::Peeled { full_ref_name, tag, .. } => (full_ref_name, *tag),
        Ref::Direct { full_ref_name, object } => (full_ref_name, *object),
        Ref::Symbolic { full_ref_name, tag, object, .. } => (full_ref_name, tag.unwrap_or(*object)),
        Ref::Unborn { .. } => return None,
    };
    (name == wanted).then_some(target)
}

/// One round: this is wanted, that is there.
struct Negotiation {
    want: ObjectId,
    have: Option<ObjectId>,
}

impl fetch::Negotiate for Negotiation {
    fn mark_complete_and_common_ref(&mut self) -> gix::Result<negotiate::Action> {
        Ok(negotiate::Action::MustNegotiate { remote_ref_target_known: vec![false] })
    }

    fn add_wants(&mut self, arguments: &mut fetch::Arguments, _known: &[bool]) -> bool {
        arguments.want(self.want);
        true
    }

    fn one_round(
        &mut self,
        _state: &mut negotiate::one_round::State,
        arguments: &mut fetch::Arguments,
        _previous_response: Option<&fetch::Response>,
    ) -> gix::Result<(negotiate::Round, bool)> {
        if let Some(have) = self.have {
            arguments.have(have);
        }
        let haves_sent = usize::from(self.have.is_some());
        let round = negotiate::Round {
            haves_sent,
            in_vain: 0,
            haves_to_send: haves_sent,
            previous_response_had_at_least_one_in_common: false,
        };
        Ok((round, true))
    }
}
