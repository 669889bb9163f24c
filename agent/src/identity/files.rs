//! The identity's files. Three directories may lie beside each other:
//!
//! * `identity`: the committed one.
//! * `identity.new`: an enrolment. It is complete, or holds only a key; complete, it becomes
//!   `identity` by a rename, at the latest at the next start.
//! * `identity.candidate`: a renewed certificate with its key. Complete, it waits to be proven and
//!   becomes `identity` when a session with it was welcomed; incomplete, it is nothing.
//!
//! A directory is complete when it has its `identity.json`, which is written last.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use zeroize::Zeroizing;

use super::{Card, Identity, IdentityError, key};
use crate::journal::JOURNAL_FILE;

/// Where in the state directory the actions keep what they remember.
pub const ACTIONS_DIR: &str = "actions";
/// Where in the state directory playbooks have their private directories. It may be there before
/// anything else is.
pub const RUNS_DIR: &str = "ansible";
const CURRENT: &str = "identity";
const NEXT: &str = "identity.new";
const CANDIDATE: &str = "identity.candidate";
const BEFORE: &str = "identity.old";
const KEY: &str = "key.pem";
const CHAIN: &str = "chain.pem";
const ROOT: &str = "root.der";
const CARD: &str = "identity.json";

type Done<T> = Result<T, IdentityError>;

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::File { doing, path, source }
}

/// Creates the state directory if it is missing, readable by nobody else. One that is there and
/// holds only what is not the agent's is left alone: closing `/srv` would close every site in it.
///
/// # Errors
/// [`IdentityError::File`], [`IdentityError::StateDirForeign`].
pub fn prepare_state_dir(state_dir: &Path) -> Done<()> {
    let foreign = match fs::read_dir(state_dir) {
        Ok(entries) => entries.flatten().any(|entry| entry.file_name() != RUNS_DIR),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed("look into", state_dir)(error)),
    };
    let ours = [CURRENT, NEXT, CANDIDATE, BEFORE, JOURNAL_FILE, ACTIONS_DIR];
    if foreign && !ours.iter().any(|name| state_dir.join(name).exists()) {
        return Err(IdentityError::StateDirForeign { path: state_dir.to_owned() });
    }
    private_dir(state_dir)
}

fn private_dir(path: &Path) -> Done<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(failed("create", path))?;
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(path, private).map_err(failed("make private", path))
}

/// Whether the host has an identity.
#[must_use]
pub fn is_enrolled(state_dir: &Path) -> bool {
    [CURRENT, NEXT, CANDIDATE].iter().any(|name| is_complete(state_dir, name))
}

fn is_complete(state_dir: &Path, name: &str) -> bool {
    state_dir.join(name).join(CARD).exists()
}

/// Reads the committed identity, finishing an enrolment or a change of certificates that was cut
/// off just before its last step.
///
/// # Errors
/// [`IdentityError::NotEnrolled`], or what is wrong with the files.
pub fn load(state_dir: &Path) -> Done<Identity> {
    if is_complete(state_dir, NEXT) {
        discard_candidate(state_dir)?;
        install(state_dir, NEXT)?;
    } else if is_complete(state_dir, CANDIDATE) && !state_dir.join(CURRENT).exists() {
        // Only a candidate that was proven takes the committed one's place.
        install(state_dir, CANDIDATE)?;
    }
    read(&state_dir.join(CURRENT))
}

/// Reads the candidate, if there is a complete one of this host.
pub(super) fn load_candidate(state_dir: &Path, committed: &Identity) -> Option<Identity> {
    if !is_complete(state_dir, CANDIDATE) {
        return None;
    }
    match read(&state_dir.join(CANDIDATE)) {
        Ok(candidate) => (candidate.card.host == committed.card.host).then_some(candidate),
        Err(error) => {
            tracing::warn!(%error, "a renewed certificate cannot be used; there will be another");
            None
        }
    }
}

fn read(dir: &Path) -> Done<Identity> {
    let card_path = dir.join(CARD);
    let card = match fs::read(&card_path) {
        Ok(card) => card,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(IdentityError::NotEnrolled { path: card_path });
        }
        Err(error) => return Err(failed("read", &card_path)(error)),
    };
    let card: Card = serde_json::from_slice(&card)
        .map_err(|error| IdentityError::Damaged { path: card_path, reason: error.to_string() })?;
    let chain_path = dir.join(CHAIN);
    let chain = CertificateDer::pem_file_iter(&chain_path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| damaged(&chain_path, &error))?;
    let key_path = dir.join(KEY);
    let key =
        PrivateKeyDer::from_pem_file(&key_path).map_err(|error| damaged(&key_path, &error))?;
    let root_path = dir.join(ROOT);
    let root = fs::read(&root_path).map_err(failed("read", &root_path))?.into();
    Ok(Identity { card, chain, root, key })
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Damaged { path: path.to_owned(), reason: error.to_string() }
}

/// The key to enrol with (PEM): made once, so that a repeated enrolment asks for the same key.
pub(super) fn enrolment_key(state_dir: &Path) -> Done<Zeroizing<String>> {
    prepare_state_dir(state_dir)?;
    let dir = state_dir.join(NEXT);
    private_dir(&dir)?;
    let path = dir.join(KEY);
    match fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(pem) if PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_ok() => return Ok(pem),
        // Cut off while it was written: nobody has seen its public half.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read", &path)(error)),
    }
    let pem = key::generate()?;
    write(&path, pem.as_bytes())?;
    Ok(pem)
}

/// Puts the answer beside the key and makes it the identity. A candidate of the identity before is
/// of no use any more.
pub(super) fn commit_enrolment(
    state_dir: &Path,
    card: &Card,
    chain: &[CertificateDer<'_>],
    root: &[u8],
) -> Done<()> {
    complete(&state_dir.join(NEXT), card, chain, root)?;
    discard_candidate(state_dir)?;
    install(state_dir, NEXT)
}

/// Stores a renewed certificate with its key, over an older candidate.
pub(super) fn store_candidate(state_dir: &Path, identity: &Identity, key_pem: &str) -> Done<()> {
    discard_candidate(state_dir)?;
    let dir = state_dir.join(CANDIDATE);
    private_dir(&dir)?;
    write(&dir.join(KEY), key_pem.as_bytes())?;
    complete(&dir, &identity.card, &identity.chain, &identity.root)?;
    sync_dir(state_dir)
}

/// Makes the candidate, which was proven, the committed identity.
pub(super) fn commit_candidate(state_dir: &Path) -> Done<()> {
    let (candidate, current) = (state_dir.join(CANDIDATE), state_dir.join(CURRENT));
    if current.exists() && read(&current)?.card.host != read(&candidate)?.card.host {
        return Err(IdentityError::Replaced { path: current });
    }
    install(state_dir, CANDIDATE)
}

/// Removes the candidate, if there is one; what makes it complete goes first.
pub(super) fn discard_candidate(state_dir: &Path) -> Done<()> {
    let dir = state_dir.join(CANDIDATE);
    let card = dir.join(CARD);
    match fs::remove_file(&card) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("remove", &card)(error)),
    }
    remove(&dir)
}

fn complete(dir: &Path, card: &Card, chain: &[CertificateDer<'_>], root: &[u8]) -> Done<()> {
    let pem: String = chain.iter().map(|certificate| pem(certificate)).collect();
    write(&dir.join(CHAIN), pem.as_bytes())?;
    write(&dir.join(ROOT), root)?;
    // The last one: its presence says that the directory is complete.
    write(&dir.join(CARD), &hostler_protocol::job::write(card))
}

fn install(state_dir: &Path, from: &str) -> Done<()> {
    let [current, next, before] = [CURRENT, from, BEFORE].map(|name| state_dir.join(name));
    remove(&before)?;
    match fs::rename(&current, &before) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("replace", &current)(error)),
    }
    fs::rename(&next, &current).map_err(failed("put in place", &next))?;
    sync_dir(state_dir)?;
    remove(&before)
}

fn remove(path: &PathBuf) -> Done<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// Writes a private file whole, or not at all.
fn write(path: &Path, bytes: &[u8]) -> Done<()> {
    let staged = path.with_extension("tmp");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&staged)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(failed("write", &staged))?;
    fs::rename(&staged, path).map_err(failed("write", path))?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn sync_dir(path: &Path) -> Done<()> {
    fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(failed("sync", path))
}

fn pem(certificate: &[u8]) -> String {
    let body = BASE64.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
