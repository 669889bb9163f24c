//! What a commit says about itself.

use gix::bstr::ByteSlice;

use super::error::{GitError, beginning};

/// Longest name, address and summary that are kept, in bytes.
const TEXT_BYTES_MAX: usize = 500;
/// Tags of tags that are followed.
const PEEL_MAX: usize = 8;

/// Who committed what and when; texts are as readable as their bytes permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMeta {
    pub author: String,
    pub email: Option<String>,
    /// The message's first line.
    pub summary: String,
    /// Microseconds UTC, as the committer's machine told them.
    pub committed_at_us: i64,
}

/// A commit that is all there: itself and its root tree.
#[derive(Debug, Clone)]
pub(super) struct Tip {
    /// What the reference points to: the commit, or a tag of it.
    pub(super) target: gix::ObjectId,
    pub(super) commit: gix::ObjectId,
    pub(super) tree: gix::ObjectId,
    pub(super) parents: Vec<gix::ObjectId>,
    pub(super) meta: CommitMeta,
}

impl Tip {
    /// Follows a tag to its commit and looks whether its tree is there.
    pub(super) fn read(repo: &gix::Repository, target: gix::ObjectId) -> Result<Self, GitError> {
        let damaged = |error: gix::Error| GitError::corrupt("a commit cannot be read", error);
        let mut object = repo.find_object(target).map_err(damaged)?;
        for _ in 0..PEEL_MAX {
            if object.kind != gix::object::Kind::Tag {
                break;
            }
            let next = object
                .try_to_tag_ref()
                .map_err(|error| GitError::corrupt("a tag cannot be read", error))?
                .target();
            object = repo.find_object(next).map_err(damaged)?;
        }
        let commit = object.try_into_commit().map_err(|error| {
            GitError::new(
                super::error::Class::Ref,
                format!(
                    "the git reference names no commit ({error}): name a branch or the tag of one"
                ),
            )
        })?;
        let tree = commit.tree_id().map_err(damaged)?.detach();
        repo.find_header(tree).map_err(damaged)?;
        let meta = meta(&commit).map_err(damaged)?;
        let parents = commit.parent_ids().map(gix::Id::detach).collect();
        Ok(Self { target, commit: commit.id, tree, parents, meta })
    }
}

fn meta(commit: &gix::Commit<'_>) -> Result<CommitMeta, gix::Error> {
    let author = commit.author()?;
    let summary = commit.message_raw()?.lines().next().unwrap_or_default();
    let email = text(author.email);
    Ok(CommitMeta {
        author: text(author.name),
        email: (!email.is_empty()).then_some(email),
        summary: text(summary),
        committed_at_us: commit.time()?.seconds.saturating_mul(1_000_000),
    })
}

fn text(bytes: &[u8]) -> String {
    let text: String = bytes.to_str_lossy().chars().filter(|c| !c.is_control()).collect();
    beginning(&text, TEXT_BYTES_MAX).trim().to_owned()
}
