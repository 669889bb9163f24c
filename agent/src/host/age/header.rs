//! A file's header: who may open it, and the key of its content for each of them.

use data_encoding::BASE64_NOPAD;
use ring::hmac;
use zeroize::Zeroizing;

use super::keys::Keys;
use super::{AgeError, derive, unseal};

const VERSION: &[u8] = b"age-encryption.org/v1\n";
const PREFIX: &[u8] = b"age-encryption.org/";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";
/// Most bytes of a header: more than a thousand recipients.
const HEADER_BYTES_MAX: usize = 128 * 1024;
/// Characters of a full line of a stanza's body.
const LINE_CHARS: usize = 64;
const FILE_KEY_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

pub(super) type FileKey = Zeroizing<[u8; FILE_KEY_BYTES]>;

/// What a header says, not yet proven.
pub(super) struct Header<'a> {
    /// One for each X25519 recipient.
    shares: Vec<Share>,
    /// Kinds of the other recipients.
    others: Vec<&'static str>,
    /// What the last line is the proof of, and the proof.
    proven: &'a [u8],
    mac: Vec<u8>,
}

/// The file's key, sealed for whoever has the other half of an exchange.
struct Share {
    public: [u8; 32],
    sealed: [u8; FILE_KEY_BYTES + TAG_BYTES],
}

/// What is left to be read, line by line.
struct Lines<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line; it has to end, and within the bounds of a header.
    fn next(&mut self) -> Result<&'a [u8], AgeError> {
        let rest = &self.all[self.at..];
        let window = &rest[..rest.len().min(HEADER_BYTES_MAX.saturating_sub(self.at))];
        let end = window.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or(AgeError::Format("its header does not end"))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }
}

impl<'a> Header<'a> {
    /// Reads a header; answers what stands behind it, too.
    pub(super) fn parse(file: &'a [u8]) -> Result<(Self, &'a [u8]), AgeError> {
        if !file.starts_with(PREFIX) {
            return Err(AgeError::NotAge);
        }
        if !file.starts_with(VERSION) {
            return Err(AgeError::Format("it is of another version than 1"));
        }
        let mut lines = Lines { all: file, at: VERSION.len() };
        let (mut shares, mut others) = (Vec::new(), Vec::new());
        loop {
            let began = lines.at;
            let line = lines.next()?;
            if let Some(mac) = line.strip_prefix(b"---") {
                let mac = mac.strip_prefix(b" ").and_then(|mac| BASE64_NOPAD.decode(mac).ok());
                let mac = mac.filter(|mac| mac.len() == 32);
                let mac = mac.ok_or(AgeError::Format("its header's last line is wrong"))?;
                if shares.is_empty() && others.is_empty() {
                    return Err(AgeError::Format("it has no recipients"));
                }
                let header = Self { shares, others, proven: &file[..began + 3], mac };
                return Ok((header, &file[lines.at..]));
            }
            let stanza = Stanza::read(line, &mut lines)?;
            match stanza.kind() {
                b"X25519" => shares.push(stanza.share()?),
                b"scrypt" => return Err(AgeError::Passphrase),
                kind => {
                    let kind = described(kind);
                    if !others.contains(&kind) {
                        others.push(kind);
                    }
                }
            }
        }
    }

    /// The key of the content, by the first of the keys it was sealed for.
    pub(super) fn file_key(&self, keys: &Keys) -> Result<FileKey, AgeError> {
        for share in &self.shares {
            for key in keys.iter() {
                // A share of low order gives everybody the same secret.
                let secret = key.exchange(share.public);
                let secret = secret.ok_or(AgeError::Format("a recipient's share is wrong"))?;
                let salt = [share.public, *key.public()].concat();
                let wrap = derive(secret.as_ref(), &salt, INFO)?;
                let mut sealed = Zeroizing::new(share.sealed);
                if let Some(opened) = unseal(&wrap, [0; 12], sealed.as_mut()) {
                    let mut file_key = FileKey::default();
                    file_key.copy_from_slice(opened);
                    return Ok(file_key);
                }
            }
        }
        let others = if self.shares.is_empty() { self.others.clone() } else { Vec::new() };
        Err(AgeError::NotForUs { others })
    }

    /// Whether the header is as whoever knew the file's key wrote it.
    pub(super) fn verify(&self, file_key: &FileKey) -> Result<(), AgeError> {
        let key = derive(file_key.as_ref(), &[], b"header")?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
        hmac::verify(&key, self.proven, &self.mac).map_err(|_| AgeError::Header)
    }
}

/// One recipient as it stands in the header.
struct Stanza<'a> {
    arguments: Vec<&'a [u8]>,
    body: Vec<u8>,
}

impl<'a> Stanza<'a> {
    fn read(first: &'a [u8], lines: &mut Lines<'a>) -> Result<Self, AgeError> {
        let wrong = || AgeError::Format("a recipient in its header cannot be read");
        let arguments = first.strip_prefix(b"-> ").ok_or_else(wrong)?;
        let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == b' ').collect();
        let is_word = |word: &&[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
        if !arguments.iter().all(is_word) {
            return Err(wrong());
        }
        let mut body = Vec::new();
        loop {
            let line = lines.next()?;
            if line.len() > LINE_CHARS {
                return Err(wrong());
            }
            body.extend(BASE64_NOPAD.decode(line).map_err(|_| wrong())?);
            if line.len() < LINE_CHARS {
                return Ok(Self { arguments, body });
            }
        }
    }

    fn kind(&self) -> &'a [u8] {
        self.arguments[0]
    }

    fn share(&self) -> Result<Share, AgeError> {
        let wrong = AgeError::Format("an X25519 recipient in its header is wrong");
        let [_, public] = self.arguments.as_slice() else { return Err(wrong) };
        let public = BASE64_NOPAD.decode(public).ok().and_then(|bytes| bytes.try_into().ok());
        match (public, self.body.as_slice().try_into()) {
            (Some(public), Ok(sealed)) => Ok(Share { public, sealed }),
            (_, _) => Err(wrong),
        }
    }
}

/// A kind of recipient as people are told of it.
fn described(kind: &[u8]) -> &'static str {
    match kind {
        b"ssh-ed25519" | b"ssh-rsa" => "ssh keys, which hosts do not use for this",
        b"mlkem768x25519" => "post-quantum recipients, which hosts do not know",
        _ => "recipients of another kind",
    }
}
