//! Files of keys: their form, and how private they are.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// What `age-keygen` wrote, and said.
const SECRET: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

#[test]
fn a_key_is_what_age_keygen_makes_of_it() {
    let text = format!("# created: 2026-01-01T00:00:00Z\n# public key: x\n{SECRET}\n\n");
    let keys = Keys::parse(&text).unwrap();
    assert_eq!(keys.recipients(), [RECIPIENT]);
    assert_eq!(format!("{keys:?}"), format!("Keys([{RECIPIENT:?}])"));
}

#[test]
fn what_is_no_key_is_named_by_its_line_alone() {
    for bad in [
        SECRET.to_lowercase(),
        SECRET.replace("GFPY", "GFPZ"),
        SECRET[..SECRET.len() - 1].to_owned(),
        RECIPIENT.to_owned(),
        "AGE-SECRET-KEY-PQ-1ABC".to_owned(),
        "AGE-PLUGIN-YUBIKEY-1ABC".to_owned(),
        "hunter2hunter2".to_owned(),
    ] {
        let told = Keys::parse(&format!("# a comment\n{bad}\n")).unwrap_err();
        assert!(told.starts_with("line 2 ") && !told.contains(&bad), "{told}");
    }
    assert!(Keys::parse("# only a comment\n").is_err());
    assert!(Keys::parse(&format!("{SECRET}\n").repeat(KEYS_MAX + 1)).is_err());
}

#[test]
fn a_key_is_made_once_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etc/age.key");
    let made = Keys::make(&path, Zeroizing::new([3; 32])).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(Keys::read(&path).unwrap().recipients(), made.recipients());
    let before = std::fs::read(&path).unwrap();
    let again = Keys::make(&path, Zeroizing::new([4; 32]));
    assert!(matches!(again, Err(KeyError::Exists { .. })), "{again:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let beside = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1, "something was left beside it");
}

#[test]
fn what_others_may_read_or_have_put_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("age.key");
    assert!(matches!(Keys::read(&path), Err(KeyError::Missing { .. })));
    Keys::make(&path, Zeroizing::new([3; 32])).unwrap();
    let told = |path: &Path| match Keys::read(path) {
        Err(KeyError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    for mode in [0o640, 0o604, 0o610] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(told(&path).contains("chmod 600"), "{mode:o}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    Keys::read(&path).unwrap();
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(told(&link).contains("symbolic link"));
    assert!(told(dir.path()).contains("no regular file"));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(1), None).unwrap();
        assert!(told(&path).contains("another user"));
    }
    let other = dir.path().join("other");
    for content in [&b"\xff\xfe"[..], &[b'#'; KEY_FILE_BYTES_MAX as usize + 1]] {
        std::fs::write(&other, content).unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
        told(&other);
    }
}
