//! What stands at the beginning of a cache file.
//!
//! Format 5 (nginx since 1.11.10; the same struct on every 64-bit little-endian system):
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | version |
//! | 8 | 8 | until when it is fresh, seconds since 1970 |
//! | 16 | 8 | for how long after that it may be served while it is made anew, seconds |
//! | 40 | 8 | when it was stored |
//! | 48 | 4 | CRC-32 of the key |
//! | 54 | 2 | where the stored response begins |
//! | 56 | 2 | where its body begins |
//! | 187 | 1 + 128 | length and text of the names in its `Vary` header |
//! | 316 | 16 | MD5 of what it varies by |
//! | 336 | 6 + n + 1 | `\nKEY: `, the key, a newline |
//!
//! The response is stored as the application sent it: FastCGI records, the first of which hold the
//! response headers. The CRC covers only the key, so the times may be changed in place.

use std::os::fd::AsFd;

use rustix::io::Errno;

/// Version of the header this code knows.
pub const FORMAT: u64 = 5;
/// Version of an entry that was voided: nginx takes it for a miss.
pub(super) const VOID: u64 = 0;
/// A larger number is no version but something else altogether.
const VERSION_MAX: u64 = 255;
/// Bytes read of every file: enough for a key of 170 bytes.
pub(super) const HEAD_BYTES: usize = 512;

pub(super) const VALID_AT: u64 = 8;
const UPDATING_AT: usize = 16;
const DATE_AT: usize = 40;
const CRC_AT: usize = 48;
const HEADER_START_AT: usize = 54;
const BODY_START_AT: usize = 56;
const VARY_AT: usize = 187;
const VARY_BYTES_MAX: usize = 128;
const VARIANT_AT: usize = 316;
const KEY_MARK_AT: usize = 336;
const KEY_MARK: &[u8] = b"\nKEY: ";
const KEY_AT: usize = KEY_MARK_AT + KEY_MARK.len();

const RECORD_BYTES: usize = 8;
const RECORD_STDOUT: u8 = 6;

/// The header of an entry: its key has been checked against its CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// Until when it is fresh, seconds since 1970.
    pub valid_sec: i64,
    /// For how long after that it is served while it is made anew, in seconds.
    pub updating_sec: i64,
    /// When it was stored, seconds since 1970.
    pub date: i64,
    /// Names of the request headers it varies by, as the application sent them.
    pub vary: &'a [u8],
    /// What tells it from the other variants.
    pub variant: [u8; 16],
    /// Where the stored response begins, and where its body does.
    pub response: (u16, u16),
    pub key: &'a [u8],
}

/// What the beginning of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start<'a> {
    Entry(Head<'a>),
    /// An entry that was voided and not removed any more.
    Void,
    /// A cache file of a version this code does not know.
    Foreign,
    /// No cache file.
    Nothing,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// Where the response of an entry begins; the bytes before it are what [`parse`] needs.
fn header_start(bytes: &[u8]) -> Option<usize> {
    number(bytes, HEADER_START_AT).map(|two| usize::from(u16::from_le_bytes(two)))
}

/// Reads the beginning of a file.
#[must_use]
pub(super) fn parse(bytes: &[u8]) -> Start<'_> {
    match number(bytes, 0).map(u64::from_le_bytes) {
        None => Start::Nothing,
        Some(VOID) => Start::Void,
        Some(FORMAT) => entry(bytes).map_or(Start::Nothing, Start::Entry),
        Some(version) if version <= VERSION_MAX => Start::Foreign,
        Some(_) => Start::Nothing,
    }
}

fn entry(bytes: &[u8]) -> Option<Head<'_>> {
    let start = header_start(bytes)?;
    let key = bytes.get(KEY_AT..start.checked_sub(1)?)?;
    let framed =
        bytes.get(KEY_MARK_AT..)?.starts_with(KEY_MARK) && bytes.get(start - 1) == Some(&b'\n');
    let crc = u32::from_le_bytes(number(bytes, CRC_AT)?);
    let vary_length = usize::from(*bytes.get(VARY_AT)?).min(VARY_BYTES_MAX);
    let whole = framed && crc == crc32fast::hash(key);
    whole.then_some(Head {
        valid_sec: i64::from_le_bytes(number(bytes, VALID_AT as usize)?),
        updating_sec: i64::from_le_bytes(number(bytes, UPDATING_AT)?),
        date: i64::from_le_bytes(number(bytes, DATE_AT)?),
        vary: bytes.get(VARY_AT + 1..VARY_AT + 1 + vary_length)?,
        variant: number(bytes, VARIANT_AT)?,
        response: (
            u16::from_le_bytes(number(bytes, HEADER_START_AT)?),
            u16::from_le_bytes(number(bytes, BODY_START_AT)?),
        ),
        key,
    })
}

/// Reads the beginning of an open file into `buffer`, which is reused: one read, a second one only
/// for a long key.
///
/// # Errors
/// What the system says.
pub(super) fn read(fd: impl AsFd, buffer: &mut Vec<u8>) -> Result<Start<'_>, Errno> {
    fill(&fd, buffer, HEAD_BYTES)?;
    let known = number(buffer, 0).map(u64::from_le_bytes) == Some(FORMAT);
    if known
        && buffer.len() == HEAD_BYTES
        && let Some(start) = header_start(buffer)
        && start > HEAD_BYTES
    {
        fill(&fd, buffer, start)?;
    }
    Ok(parse(buffer))
}

/// Reads on until `buffer` has that many bytes or the file ends.
fn fill(fd: impl AsFd, buffer: &mut Vec<u8>, length: usize) -> Result<(), Errno> {
    let have = if length == HEAD_BYTES { 0 } else { buffer.len() };
    buffer.resize(length, 0);
    let more = rustix::io::pread(fd, &mut buffer[have..], have as u64)?;
    buffer.truncate(have + more);
    Ok(())
}

/// The response headers of an entry, as the application sent them.
///
/// # Errors
/// What the system says.
pub(super) fn response_headers(fd: impl AsFd, head: &Head<'_>) -> Result<Vec<u8>, Errno> {
    let (start, end) = (usize::from(head.response.0), usize::from(head.response.1));
    let mut records = vec![0; end.saturating_sub(start)];
    let length = rustix::io::pread(fd, records.as_mut_slice(), start as u64)?;
    records.truncate(length);
    Ok(output(&records))
}

/// What FastCGI records carry as output; what goes to the log is left out.
fn output(mut records: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(records.len());
    while let Some((record, rest)) = records.split_at_checked(RECORD_BYTES) {
        let length = usize::from(u16::from_be_bytes([record[4], record[5]]));
        let content = &rest[..length.min(rest.len())];
        if record[1] == RECORD_STDOUT {
            output.extend_from_slice(content);
        }
        records = rest.get(length + usize::from(record[6])..).unwrap_or_default();
    }
    output
}

/// The values of a response header, by its name in any case.
pub fn values<'a>(headers: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.split(|byte| *byte == b'\n').filter_map(move |line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
    })
}

/// The tags of a stored response: the words of its `Surrogate-Key` headers.
pub fn tags(headers: &[u8]) -> impl Iterator<Item = &[u8]> {
    values(headers, "surrogate-key")
        .flat_map(|value| value.split(u8::is_ascii_whitespace))
        .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_put_together_from_its_records() {
        let mut records = vec![1, 7, 0, 1, 0, 3, 1, 0, b'l', b'o', b'g', 0];
        records.extend([1, 6, 0, 1, 0, 4, 2, 0, b'A', b':', b' ', b'b', 0, 0]);
        records.extend([1, 6, 0, 1, 0, 9, 0, 0, b'\r', b'\n', b'c']);
        assert_eq!(output(&records), b"A: b\r\nc");
        assert_eq!(output(&records[..5]), b"");
    }

    #[test]
    fn tags_are_the_words_of_every_surrogate_key() {
        let headers = b"Status: 200\r\nsurrogate-Key: a  post-1\r\nX: y\r\nSurrogate-Key:b\r\n\r\n";
        let tags: Vec<_> = tags(headers).collect();
        assert_eq!(tags, [b"a".as_slice(), b"post-1", b"b"]);
    }
}
