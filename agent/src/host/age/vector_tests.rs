//! The format's own test vectors, and what they have no file for.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::sealing::{armored, key, seal};
use super::*;

/// A vector's header, by key, and the file that follows it.
struct Vector {
    name: String,
    fields: Vec<(String, String)>,
    file: Vec<u8>,
}

impl Vector {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

fn vectors() -> Vec<Vector> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/age-vectors");
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_name() != "README.md");
    let read = |entry: std::fs::DirEntry| {
        let bytes = std::fs::read(entry.path()).unwrap();
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        Vector {
            name: entry.file_name().into_string().unwrap(),
            fields: head.lines().map(field).collect(),
            file: bytes[end + 2..].to_vec(),
        }
    };
    files.map(read).collect()
}

/// What a vector may come to, by what it says it expects.
fn is_expected(expected: &str, told: &AgeError) -> bool {
    match told {
        AgeError::NotForUs { .. } => expected == "no match",
        AgeError::Header => expected == "HMAC failure",
        AgeError::Content => expected == "payload failure",
        AgeError::NotAge | AgeError::Format(_) => {
            ["header failure", "armor failure"].contains(&expected)
        }
        AgeError::TooLarge { .. } | AgeError::Passphrase => false,
    }
}

#[test]
fn the_format_s_own_vectors_hold() {
    let (mut opened, mut refused) = (0, 0);
    for vector in vectors() {
        let Vector { name, file, .. } = &vector;
        let expected = vector.field("expect").unwrap();
        if vector.field("passphrase").is_some() {
            let told = open(&key(1), file).unwrap_err();
            let unread = matches!(told, AgeError::Passphrase | AgeError::Format(_));
            assert!(unread || is_expected(expected, &told), "{name}: {told}");
            refused += 1;
            continue;
        }
        let keys = vector.field("identity").map_or_else(|| key(1), |key| Keys::parse(key).unwrap());
        match open(&keys, file) {
            Ok(content) => {
                assert_eq!(expected, "success", "{name}");
                let sum = hex::encode(Sha256::digest(&*content));
                assert_eq!(Some(sum.as_str()), vector.field("payload"), "{name}");
                opened += 1;
            }
            Err(told) => {
                assert!(is_expected(expected, &told), "{name}: {told}, expected {expected}");
                refused += 1;
            }
        }
    }
    assert!(opened >= 10 && refused >= 80, "{opened} and {refused}: vectors are missing");
}

#[test]
fn content_of_any_size_comes_back_and_nothing_that_was_cut_or_changed() {
    const PIECE: usize = 64 * 1024;
    let keys = key(7);
    for bytes in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 9, PLAIN_BYTES_MAX] {
        let plain: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        let file = seal(&keys, &plain, 3);
        assert!(open(&keys, &file).unwrap().as_slice() == plain, "{bytes}");
        assert!(open(&keys, armored(&file).as_bytes()).unwrap().as_slice() == plain, "{bytes}");
        let sealed = bytes + bytes.div_ceil(PIECE).max(1) * 16;
        // At a border between pieces, and in the middle of the last one.
        for cut in [1, 16, 17, PIECE + 16].into_iter().filter(|cut| *cut <= sealed) {
            let told = open(&keys, &file[..file.len() - cut]).unwrap_err();
            assert_eq!(told, AgeError::Content, "{bytes} without {cut}");
        }
        for at in [file.len() - 1, file.len() - sealed] {
            let mut file = file.clone();
            file[at] ^= 1;
            assert_eq!(open(&keys, &file), Err(AgeError::Content), "{bytes} with byte {at}");
        }
        let longer = [file.as_slice(), b"x"].concat();
        assert!(open(&keys, &longer).is_err(), "{bytes} and one more");
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_opened() {
    let keys = key(7);
    let large = seal(&keys, &vec![0; PLAIN_BYTES_MAX + 1], 3);
    assert_eq!(open(&keys, &large), Err(AgeError::TooLarge { bytes_max: PLAIN_BYTES_MAX }));
    let larger = vec![0; FILE_BYTES_MAX + 1];
    assert_eq!(open(&keys, &larger), Err(AgeError::TooLarge { bytes_max: FILE_BYTES_MAX }));
    let mut endless = b"age-encryption.org/v1\n".to_vec();
    while endless.len() < FILE_BYTES_MAX - 4 {
        endless.extend(b"-> x\n\n");
    }
    assert_eq!(open(&keys, &endless), Err(AgeError::Format("its header does not end")));
}

#[test]
fn any_of_several_keys_opens_and_another_is_told_what_the_file_is_for() {
    let both = Keys::parse(&format!("{}\n{}", text(5), text(6))).unwrap();
    let file = seal(&both, b"for both", 9);
    for keys in [&both, &key(5), &key(6)] {
        assert_eq!(open(keys, &file).unwrap().as_slice(), b"for both");
    }
    let rotated = seal(&key(6), b"for the new one", 9);
    assert_eq!(open(&both, &rotated).unwrap().as_slice(), b"for the new one");
    assert_eq!(open(&key(4), &file), Err(AgeError::NotForUs { others: Vec::new() }));
    let ssh = "age-encryption.org/v1\n-> ssh-ed25519 abcd efgh\nAAAA\n--- ".to_owned();
    let ssh = ssh + &"A".repeat(43) + "\n";
    let told = open(&key(4), ssh.as_bytes()).unwrap_err().to_string();
    assert!(told.contains("not encrypted for this host but for ssh keys"), "{told}");
}

/// A key as its file has it.
fn text(seed: u8) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("age.key");
    Keys::make(&path, Zeroizing::new([seed; 32])).unwrap();
    std::fs::read_to_string(path).unwrap()
}

proptest::proptest! {
    #[test]
    fn nothing_that_is_read_makes_it_stumble(bytes in proptest::collection::vec(0u8.., 0..400)) {
        let keys = key(7);
        for start in [&b""[..], b"age-encryption.org/v1\n", b"age-encryption.org/v1\n-> X25519 "] {
            proptest::prop_assert!(open(&keys, &[start, &bytes].concat()).is_err());
        }
    }

    #[test]
    fn no_changed_byte_goes_unnoticed(at in 0_usize..10_000, bit in 0..8) {
        let keys = key(7);
        let mut file = seal(&keys, b"a short secret", 3);
        let at = at % file.len();
        file[at] ^= 1_u8 << bit;
        proptest::prop_assert!(open(&keys, &file).is_err(), "byte {at}");
    }
}
