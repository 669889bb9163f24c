//! Whether a commit is signed by a listed ssh key: asked of `ssh-keygen`, which knows how.

use std::path::Path;
use std::sync::Arc;

use gix::ObjectId;

use super::error::{Class, GitError, plain};
use super::process::{Call, argument};
use super::watch::Watch;

/// The header of a commit's signature.
const HEADER: &[u8] = b"gpgsig";
const SSH_BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
/// What git signs with ssh keys is meant for.
const NAMESPACE: &str = "git";

/// Refuses a commit without a signature of a key in the file, which is ssh's `allowed_signers`.
pub(super) fn verify(
    repository: &gix::Repository,
    commit: ObjectId,
    signers: &Path,
    watch: &Arc<Watch>,
) -> Result<(), GitError> {
    let object = repository
        .find_object(commit)
        .map_err(|error| GitError::corrupt("a commit cannot be read", error))?;
    let refused = |why: &str| {
        let message = format!(
            "the commit {commit} is not accepted: {why}; sign it with a key that is listed in the \
             git signers file"
        );
        GitError::new(Class::Signature, message)
    };
    let (signed, signature) = split(&object.data).ok_or_else(|| refused("it is not signed"))?;
    if !signature.starts_with(SSH_BEGIN) {
        return Err(refused("its signature is not one of an ssh key"));
    }
    let file = SignatureFile::write(repository, &signature)?;
    let principal =
        principal(signers, &file, watch)?.ok_or_else(|| refused("its key is not a listed one"))?;
    let call = keygen("verify", signers, &file, &["-I", &principal]);
    let (verified, said) = call.run(watch, &signed)?;
    if verified { Ok(()) } else { Err(refused(&plain(&said))) }
}

/// Whose key it is, by the signers file.
fn principal(
    signers: &Path,
    file: &SignatureFile,
    watch: &Arc<Watch>,
) -> Result<Option<String>, GitError> {
    let (found, said) = keygen("find-principals", signers, file, &[]).run(watch, &[])?;
    let name = said.split_whitespace().next().filter(|_| found);
    Ok(name.map(str::to_owned))
}

fn keygen(action: &str, signers: &Path, file: &SignatureFile, more: &[&str]) -> Call {
    let mut arguments: Vec<std::ffi::OsString> =
        ["-Y", action, "-n", NAMESPACE, "-f"].map(Into::into).to_vec();
    arguments.push(argument(signers));
    arguments.push("-s".into());
    arguments.push(argument(&file.0));
    arguments.extend(more.iter().map(Into::into));
    Call { program: "ssh-keygen", arguments, environment: Vec::new() }
}

/// The signature as a file, which is how `ssh-keygen` takes it; gone when dropped.
struct SignatureFile(std::path::PathBuf);

impl SignatureFile {
    fn write(repository: &gix::Repository, signature: &str) -> Result<Self, GitError> {
        let path = repository.git_dir().join("signature.new");
        std::fs::write(&path, signature)
            .map_err(|error| GitError::internal("writing a commit's signature", error))?;
        Ok(Self(path))
    }
}

impl Drop for SignatureFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap_or(());
    }
}

/// A commit without its signature, which is what was signed, and the signature.
fn split(commit: &[u8]) -> Option<(Vec<u8>, String)> {
    let (mut signed, mut signature) = (Vec::new(), Vec::new());
    let (mut in_headers, mut in_signature) = (true, false);
    for line in commit.split_inclusive(|byte| *byte == b'\n') {
        if in_headers && line == b"\n" {
            in_headers = false;
        }
        let continued = in_headers && line.first() == Some(&b' ');
        in_signature = match in_signature && continued {
            true => true,
            false => {
                in_headers
                    && line.strip_prefix(HEADER).is_some_and(|rest| rest.first() == Some(&b' '))
            }
        };
        if !in_signature {
            signed.extend_from_slice(line);
        } else if continued {
            signature.extend_from_slice(&line[1..]);
        } else {
            signature.extend_from_slice(&line[HEADER.len() + 1..]);
        }
    }
    (!signature.is_empty()).then(|| (signed, String::from_utf8_lossy(&signature).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_taken_out_of_the_commit() {
        let commit = b"tree 1\ngpgsig -----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----\nencoding x\n\ngpgsig no\n b\n";
        let (signed, signature) = split(commit).unwrap();
        assert_eq!(signed, b"tree 1\nencoding x\n\ngpgsig no\n b\n");
        assert_eq!(signature, "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n");
        assert_eq!(split(b"tree 1\n\ngpgsig no\n"), None);
    }
}
