//! The other direction, for tests alone: files as any program of the format would write them.

use data_encoding::{BASE64, BASE64_NOPAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

use super::keys::Keys;
use super::{derive, stream};

/// A key that is the same in every run.
pub(crate) fn key(seed: u8) -> Keys {
    let dir = tempfile::tempdir().unwrap();
    Keys::make(&dir.path().join("age.key"), Zeroizing::new([seed; 32])).unwrap()
}

fn seal_piece(key: &[u8; 32], nonce: [u8; 12], plain: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
    let mut sealed = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).unwrap();
    sealed
}

/// A file with that content for those keys' recipients; another one with another seed.
pub(crate) fn seal(keys: &Keys, plain: &[u8], seed: u8) -> Vec<u8> {
    let file_key = Zeroizing::new([seed; 16]);
    let mut header = b"age-encryption.org/v1\n".to_vec();
    for key in keys.iter() {
        let ephemeral = [seed.wrapping_add(1); 32];
        let share = x25519(ephemeral, X25519_BASEPOINT_BYTES);
        let shared = x25519(ephemeral, *key.public());
        let salt = [share, *key.public()].concat();
        let wrap = derive(&shared, &salt, b"age-encryption.org/v1/X25519").unwrap();
        let body = seal_piece(&wrap, [0; 12], file_key.as_ref());
        let (share, body) = (BASE64_NOPAD.encode(&share), BASE64_NOPAD.encode(&body));
        header.extend(format!("-> X25519 {share}\n{body}\n").bytes());
    }
    header.extend(b"---");
    let key = derive(file_key.as_ref(), &[], b"header").unwrap();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), &header);
    let mut file = header;
    file.extend(format!(" {}\n", BASE64_NOPAD.encode(mac.as_ref())).bytes());
    file.extend([seed; 16]);
    let key = derive(file_key.as_ref(), &[seed; 16], b"payload").unwrap();
    let pieces: Vec<&[u8]> = match plain {
        [] => vec![&[]],
        plain => plain.chunks(64 * 1024).collect(),
    };
    for (number, piece) in pieces.iter().enumerate() {
        let nonce = stream::nonce_of(number as u64, number + 1 == pieces.len());
        file.extend(seal_piece(&key, nonce, piece));
    }
    file
}

/// The same file in armour.
pub(crate) fn armored(file: &[u8]) -> String {
    let body = BASE64.encode(file);
    let lines = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
    let begin = "-----BEGIN AGE ENCRYPTED FILE-----";
    let end = "-----END AGE ENCRYPTED FILE-----\n";
    [begin].into_iter().chain(lines).chain([end]).collect::<Vec<_>>().join("\n")
}
