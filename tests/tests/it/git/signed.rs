//! Only commits signed by a listed key, where the settings ask for that.

use std::fs;
use std::path::{Path, PathBuf};

use hostler_controller::git::{Class, GitSettings};
use hostler_tests::servers::command;
use hostler_tests::servers::git::output;

use super::{Rig, class, fetch, read};

struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Makes a key; its public half.
    fn make(&self, name: &str) -> String {
        let mut keygen = command("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(self.path(name));
        output(&mut keygen).unwrap();
        let public = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        public.trim().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has the signers file say so.
    fn list(&self, lines: &str) -> PathBuf {
        fs::write(self.path("signers"), lines).unwrap();
        self.path("signers")
    }
}

fn sign_with(rig: &Rig, key: &Path) {
    let key = key.to_str().unwrap();
    for (name, value) in
        [("gpg.format", "ssh"), ("user.signingkey", key), ("commit.gpgsign", "true")]
    {
        rig.work.git(&["config", name, value]).unwrap();
    }
}

fn asking(rig: &Rig, signers: PathBuf) -> GitSettings {
    GitSettings { signers_file: Some(signers), ..rig.settings() }
}

#[test]
fn a_commit_signed_by_a_listed_key_is_accepted_and_no_other() {
    for mut rig in [Rig::file(), Rig::https()] {
        let keys = Keys::new();
        let ada = keys.make("ada");
        keys.make("eve");
        let mirror = rig.open(asking(&rig, keys.list(&format!("ada@example.test {ada}\n"))));
        let error = fetch(&mirror).unwrap_err();
        assert_eq!(class(&error), (Class::Signature, "GIT_SIGNATURE_REFUSED"), "{error}");
        assert!(error.to_string().contains("not signed"), "{error}");
        assert_eq!(mirror.revision(), None);

        sign_with(&rig, &keys.path("ada"));
        let signed = rig.work.publish(&[("a", "1")]).unwrap();
        assert_eq!(fetch(&mirror).unwrap().revision, signed);

        sign_with(&rig, &keys.path("eve"));
        rig.work.publish(&[("a", "2")]).unwrap();
        let error = fetch(&mirror).unwrap_err();
        assert_eq!(error.class(), Class::Signature, "{error}");
        assert!(error.to_string().contains("not a listed one"), "{error}");
        assert_eq!(mirror.revision().unwrap().revision, signed, "what was there stays");
        assert_eq!(read(&mirror, "a").unwrap(), b"1");
        drop(mirror);
        let mirror = rig.open(asking(&rig, keys.path("signers")));
        assert_eq!(mirror.revision().unwrap().revision, signed, "also over a restart");
        assert_eq!(fetch(&mirror).unwrap_err().class(), Class::Signature);
    }
}

#[test]
fn a_signature_is_of_this_very_commit() {
    let mut rig = Rig::file();
    let keys = Keys::new();
    let ada = keys.make("ada");
    sign_with(&rig, &keys.path("ada"));
    let signed = rig.work.publish(&[("a", "1")]).unwrap();
    let text = output(
        hostler_tests::servers::git::git(rig.work.dir()).args(["cat-file", "commit", &signed]),
    );
    let text = String::from_utf8(text.unwrap()).unwrap();
    let mirror = rig.open(asking(&rig, keys.list(&format!("ada@example.test {ada}\n"))));
    for other in [
        text.replace("Change files", "Change other files"),
        text.replace("author Ada", "author Eve"),
        text.replace("-----BEGIN SSH SIGNATURE-----", "-----BEGIN PGP SIGNATURE-----"),
    ] {
        assert_ne!(other, text);
        fs::write(keys.path("commit"), &other).unwrap();
        let file = keys.path("commit");
        let arguments = ["hash-object", "-t", "commit", "-w", file.to_str().unwrap()];
        let forged = rig.work.git(&arguments).unwrap();
        rig.work.push_as(&forged, "refs/heads/main").unwrap();
        let error = fetch(&mirror).unwrap_err();
        assert_eq!(error.class(), Class::Signature, "{error}");
    }
    rig.work.push_as(&signed, "refs/heads/main").unwrap();
    assert_eq!(fetch(&mirror).unwrap().revision, signed);
}

#[test]
fn the_list_is_read_as_ssh_reads_it() {
    let mut rig = Rig::file();
    let keys = Keys::new();
    let ada = keys.make("ada");
    sign_with(&rig, &keys.path("ada"));
    let signed = rig.work.publish(&[("a", "1")]).unwrap();
    let mirror = rig.open(asking(&rig, keys.list("# nobody\n")));
    for refused in [
        String::new(),
        format!("ada@example.test namespaces=\"file\" {ada}\n"),
        format!("ada@example.test valid-before=\"20200101\" {ada}\n"),
    ] {
        keys.list(&refused);
        let error = fetch(&mirror).unwrap_err();
        assert_eq!(error.class(), Class::Signature, "{refused}: {error}");
    }
    for accepted in [
        format!("* {ada}\n"),
        format!("ada@example.test,ada@home.test {ada}\n"),
        format!(
            "eve@example.test {}\nada@example.test namespaces=\"git\" {ada}\n",
            keys.make("eve")
        ),
    ] {
        keys.list(&accepted);
        assert_eq!(fetch(&mirror).unwrap().revision, signed, "{accepted}");
    }
}

#[test]
fn a_list_that_changes_is_asked_again() {
    let mut rig = Rig::file();
    // Accepted while nobody had to sign.
    let mirror = rig.mirror();
    fetch(&mirror).unwrap();
    drop(mirror);
    let keys = Keys::new();
    let (ada, eve) = (keys.make("ada"), keys.make("eve"));
    for reference in ["main", &rig.first] {
        let mut settings = asking(&rig, keys.list(&format!("ada@example.test {ada}\n")));
        settings.reference = hostler_controller::git::Reference::parse(reference).unwrap();
        let error = fetch(&rig.open(settings)).unwrap_err();
        assert_eq!(error.class(), Class::Signature, "{reference}: {error}");
    }
    sign_with(&rig, &keys.path("ada"));
    let signed = rig.work.publish(&[("a", "1")]).unwrap();
    let mirror = rig.open(asking(&rig, keys.path("signers")));
    assert_eq!(fetch(&mirror).unwrap().revision, signed);
    assert!(!fetch(&mirror).unwrap().changed);
    // Ada leaves.
    keys.list(&format!("eve@example.test {eve}\n"));
    assert_eq!(fetch(&mirror).unwrap_err().class(), Class::Signature);
    keys.list(&format!("eve@example.test {eve}\nada@example.test {ada}\n"));
    assert!(!fetch(&mirror).unwrap().changed);
    fs::remove_file(keys.path("signers")).unwrap();
    assert_eq!(fetch(&mirror).unwrap_err().class(), Class::Internal);
}

#[test]
fn what_is_refused_is_not_received_again_and_again() {
    let rig = Rig::https();
    let keys = Keys::new();
    let ada = keys.make("ada");
    let mirror = rig.open(asking(&rig, keys.list(&format!("ada@example.test {ada}\n"))));
    let first = fetch(&mirror).unwrap_err();
    let web = rig.server.web().unwrap();
    assert_eq!(web.asked_once_there_are(3).unwrap().len(), 3);
    assert_eq!(fetch(&mirror).unwrap_err(), first);
    let asked = web.asked_once_there_are(5).unwrap().split_off(3);
    assert_eq!(asked.len(), 2, "only the references: {asked:?}");
}
