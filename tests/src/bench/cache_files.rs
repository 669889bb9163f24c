//! Cache entries as nginx writes them (format 5, 64-bit little endian), by the hundred thousand:
//! nginx serves them as hits, `levels=1:2`.

use std::fs;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use super::Res;
use super::clock::wall_secs;
use super::process::run;
use crate::servers::{command, is_root};

const HEADER_BYTES: usize = 336;
const KEY_PREFIX: &[u8] = b"\nKEY: ";

/// The path part of page `number`.
#[must_use]
pub fn uri(number: usize) -> String {
    format!("/{}/{:02}/article-{number:06}/", 2015 + number % 10, 1 + number % 12)
}

/// The cache key of a page, in the key format used by default.
#[must_use]
pub fn key(domain: &str, uri: &str) -> String {
    format!("httpGET{domain}{uri}")
}

/// Where nginx keeps the entry of a key.
#[must_use]
pub fn path(cache: &Path, key: &str) -> PathBuf {
    let name = hex::encode(Md5::digest(key.as_bytes()));
    cache.join(&name[31..]).join(&name[29..31]).join(name)
}

/// CRC-32 (ISO-HDLC), as nginx stores it of the key.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
        crc
    })
}

/// One entry, fresh for a day: `body` as a PHP script would have answered it.
#[must_use]
pub fn entry(key: &str, body: &[u8], now_secs: i64) -> Vec<u8> {
    entry_with(key, "", body, now_secs)
}

/// The same with further header lines, each with its end.
#[must_use]
pub fn entry_with(key: &str, lines: &str, body: &[u8], now_secs: i64) -> Vec<u8> {
    let head = format!("Content-Type: text/html; charset=UTF-8\r\n{lines}\r\n");
    let head = head.as_bytes();
    let header_start = HEADER_BYTES + KEY_PREFIX.len() + key.len() + 1;
    let body_start = header_start + 8 + head.len();
    let mut bytes = vec![0u8; HEADER_BYTES];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &5u64.to_le_bytes());
    put(8, &(now_secs + 86_400).to_le_bytes());
    put(32, &(-1i64).to_le_bytes());
    put(40, &now_secs.to_le_bytes());
    put(48, &crc32(key.as_bytes()).to_le_bytes());
    put(54, &u16::try_from(header_start).unwrap_or(u16::MAX).to_le_bytes());
    put(56, &u16::try_from(body_start).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(KEY_PREFIX);
    bytes.extend_from_slice(key.as_bytes());
    bytes.push(b'\n');
    // FastCGI: one STDOUT record of request 1 with headers and body, then END_REQUEST.
    let content = u16::try_from(head.len() + body.len()).unwrap_or(u16::MAX).to_be_bytes();
    bytes.extend_from_slice(&[1, 6, 0, 1, content[0], content[1], 0, 0]);
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&[1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// Tags of page `number`: its own, and one that a hundredth of all pages carry.
#[must_use]
pub fn tags(number: usize) -> String {
    format!("article-{number} section-{}", number % 100)
}

/// Fills `cache` with `count` tagged pages of about `page_bytes` of HTML; what was there stays.
///
/// # Errors
/// If the directory cannot be written to.
pub fn fill(cache: &Path, domain: &str, count: usize, page_bytes: usize) -> Res<()> {
    for one in 0..16u8 {
        for two in 0..=255u8 {
            fs::create_dir_all(cache.join(format!("{one:x}")).join(format!("{two:02x}")))?;
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970 fit")]
    let now_secs = wall_secs() as i64;
    let paragraph = "<p>The quick brown fox jumps over the lazy dog, again and again.</p>\n";
    let filler = paragraph.repeat(page_bytes / paragraph.len());
    for number in 0..count {
        let key = key(domain, &uri(number));
        let body = format!("<html><h1>Article {number}</h1>\n{filler}</html>\n");
        let lines = format!("Surrogate-Key: {}\r\n", tags(number));
        fs::write(path(cache, &key), entry_with(&key, &lines, body.as_bytes(), now_secs))?;
    }
    Ok(())
}

/// The same for the cache of a running nginx: made in `aside` and moved in, so that nginx never
/// sees half of them.
///
/// # Errors
/// If the directories cannot be written to.
pub fn move_in(
    aside: &Path,
    cache: &Path,
    domain: &str,
    count: usize,
    page_bytes: usize,
) -> Res<()> {
    fill(aside, domain, count, page_bytes)?;
    if is_root() {
        run(command("chown").args(["-R", "www-data:"]).arg(aside))?;
    }
    for entry in fs::read_dir(aside)? {
        let entry = entry?;
        let target = cache.join(entry.file_name());
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        fs::rename(entry.path(), target)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_nginx_s_layout() {
        let bytes = entry("httpGETa.example/", b"hello", 1_700_000_000);
        assert_eq!(bytes[..8], 5u64.to_le_bytes());
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        let header_start = usize::from(u16::from_le_bytes([bytes[54], bytes[55]]));
        let body_start = usize::from(u16::from_le_bytes([bytes[56], bytes[57]]));
        assert_eq!(&bytes[336..header_start], b"\nKEY: httpGETa.example/\n");
        assert_eq!(&bytes[body_start..body_start + 5], b"hello");
    }

    #[test]
    fn an_entry_lies_where_levels_1_2_say() {
        let path = path(Path::new("/c"), "httpGETa.example/");
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = format!("/c/{}/{}/{name}", &name[31..], &name[29..31]);
        assert_eq!(path.to_str().unwrap(), expected);
    }
}
