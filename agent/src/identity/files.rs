//! The identity's files. `identity.new` is complete, or holds only a candidate key; it becomes
//! `identity` by a rename.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Card, Identity, IdentityError, key};
use crate::journal::JOURNAL_FILE;

/// Where in the state directory the actions keep what they remember.
pub const ACTIONS_DIR: &str = "actions";
const CURRENT: &str = "identity";
const NEXT: &str = "identity.new";
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
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed("look into", state_dir)(error)),
    };
    let ours = [CURRENT, NEXT, BEFORE, JOURNAL_FILE, ACTIONS_DIR];
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
    state_dir.join(CURRENT).join(CARD).exists() || state_dir.join(NEXT).join(CARD).exists()
}

/// Reads the identity, finishing an enrolment that was cut off just before its last step.
///
/// # Errors
/// [`IdentityError::NotEnrolled`], or what is wrong with the files.
pub fn load(state_dir: &Path) -> Done<Identity> {
    if state_dir.join(NEXT).join(CARD).exists() {
        install(state_dir)?;
    }
    let dir = state_dir.join(CURRENT);
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

/// The candidate key (PEM): made once, so that a repeated enrolment asks for the same key.
pub(super) fn candidate_key(state_dir: &Path) -> Done<String> {
    prepare_state_dir(state_dir)?;
    let dir = state_dir.join(NEXT);
    private_dir(&dir)?;
    let path = dir.join(KEY);
    match fs::read_to_string(&path) {
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

/// Puts the answer beside the candidate key and makes it the identity.
pub(super) fn commit(state_dir: &Path, card: &Card, chain: &[Vec<u8>], root: &[u8]) -> Done<()> {
    let dir = state_dir.join(NEXT);
    let pem: String = chain.iter().map(|certificate| pem(certificate)).collect();
    write(&dir.join(CHAIN), pem.as_bytes())?;
    write(&dir.join(ROOT), root)?;
    // The last one: its presence says that the directory is complete.
    write(&dir.join(CARD), &hostler_protocol::job::write(card))?;
    install(state_dir)
}

fn install(state_dir: &Path) -> Done<()> {
    let [current, next, before] = [CURRENT, NEXT, BEFORE].map(|name| state_dir.join(name));
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
mod tests {
    use super::*;

    fn card(name: &str) -> Card {
        let host = "host_00000000000000000000000001".parse().unwrap();
        Card { host, name: name.to_owned(), controllers: vec!["c.example:7443".to_owned()] }
    }

    #[test]
    fn the_candidate_key_stays_the_same_until_it_is_certified() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert!(matches!(load(&state), Err(IdentityError::NotEnrolled { .. })));
        let first = candidate_key(&state).unwrap();
        assert_eq!(candidate_key(&state).unwrap(), first);
        assert!(!is_enrolled(&state), "a candidate is not an identity");

        commit(&state, &card("web-1"), &[vec![1; 100], vec![2; 10]], &[3; 5]).unwrap();
        let identity = load(&state).unwrap();
        assert_eq!(identity.card, card("web-1"));
        assert_eq!(identity.chain[0].as_ref(), vec![1; 100]);
        assert_eq!((identity.chain.len(), identity.root.as_ref()), (2, &[3u8; 5][..]));
        let mode = |path: &str| fs::metadata(state.join(path)).unwrap().permissions().mode();
        assert_eq!(mode("identity/key.pem") & 0o777, 0o600);
        assert_eq!(mode("identity") & 0o777, 0o700);
        assert_ne!(candidate_key(&state).unwrap(), first, "a new enrolment has a new key");
    }

    #[test]
    fn a_directory_of_other_things_is_not_closed() {
        let dir = tempfile::tempdir().unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.path(), open.clone()).unwrap();
        fs::write(dir.path().join("index.php"), "").unwrap();
        for refused in [prepare_state_dir(dir.path()), candidate_key(dir.path()).map(drop)] {
            assert!(matches!(refused, Err(IdentityError::StateDirForeign { .. })), "{refused:?}");
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.path()), 0o755, "a directory of others was closed");
        fs::remove_file(dir.path().join("index.php")).unwrap();
        candidate_key(dir.path()).unwrap();
        fs::set_permissions(dir.path(), open).unwrap();
        prepare_state_dir(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o700, "the agent's own directory is not closed");
    }

    #[test]
    fn an_enrolment_cut_off_before_its_last_step_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        candidate_key(dir.path()).unwrap();
        commit(dir.path(), &card("old"), &[vec![1]], &[1]).unwrap();
        candidate_key(dir.path()).unwrap();
        let next = dir.path().join(NEXT);
        write(&next.join(CHAIN), pem(&[9]).as_bytes()).unwrap();
        write(&next.join(ROOT), &[9]).unwrap();
        assert_eq!(load(dir.path()).unwrap().card, card("old"), "incomplete: the old one counts");
        write(&next.join(CARD), &hostler_protocol::job::write(&card("new"))).unwrap();
        assert_eq!(load(dir.path()).unwrap().card, card("new"));
    }
}
