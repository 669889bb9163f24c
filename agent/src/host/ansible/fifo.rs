//! The channel our callback writes its events to: apart from whatever a playbook prints.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe::{OpenOptions, Receiver};

use super::AnsibleError;

/// Longest line that is an event, in bytes: the result of a purge of ten thousand URLs is one.
pub(super) const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;

/// The reading end.
#[derive(Debug)]
pub(super) struct Fifo {
    receiver: Receiver,
    lines: Lines,
}

impl Fifo {
    /// Makes the channel. It is held open for writing too, so that it does not end before somebody
    /// else has begun to write.
    pub(super) fn make(path: &Path) -> Result<Self, AnsibleError> {
        let failed = |action| {
            move |source: std::io::Error| AnsibleError::Private {
                action,
                path: path.to_owned(),
                source,
            }
        };
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|errno| failed("create")(errno.into()))?;
        let receiver =
            OpenOptions::new().read_write(true).open_receiver(path).map_err(failed("open"))?;
        Ok(Self { receiver, lines: Lines::default() })
    }

    /// Waits for the next lines. May be dropped and asked again without losing any.
    pub(super) async fn next(&mut self) -> Vec<Line> {
        loop {
            if self.receiver.readable().await.is_err() {
                return std::future::pending().await;
            }
            let lines = self.ready();
            if !lines.is_empty() {
                return lines;
            }
        }
    }

    /// The lines that have been written already.
    pub(super) fn ready(&mut self) -> Vec<Line> {
        let mut found = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = self.receiver.try_read(&mut chunk) {
            self.lines.add(&chunk[..length], &mut found);
        }
        found
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// Longer than any event; what it said is lost.
    TooLong,
}

/// Bytes becoming lines, holding no more than one line's worth.
#[derive(Debug, Default)]
struct Lines {
    open: Vec<u8>,
    too_long: bool,
}

impl Lines {
    fn add(&mut self, bytes: &[u8], found: &mut Vec<Line>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.grow(&rest[..end]);
            let line = std::mem::take(&mut self.open);
            let cut = std::mem::take(&mut self.too_long);
            found.push(if cut { Line::TooLong } else { Line::Whole(line) });
            rest = &rest[end + 1..];
        }
        self.grow(rest);
    }

    fn grow(&mut self, bytes: &[u8]) {
        if self.open.len() + bytes.len() > LINE_BYTES_MAX {
            self.too_long = true;
            self.open = Vec::new();
        } else if !self.too_long {
            self.open.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_however_they_were_cut() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in ["a", "b\nc", "\n", "\nd"] {
            lines.add(piece.as_bytes(), &mut found);
        }
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(found, [whole("ab"), whole("c"), whole("")]);
    }

    #[test]
    fn a_line_without_end_costs_no_more_than_its_limit() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for _ in 0..200 {
            lines.add(&vec![b'x'; CHUNK_BYTES], &mut found);
            assert!(lines.open.len() <= LINE_BYTES_MAX);
        }
        lines.add(b"\n{}\n", &mut found);
        assert_eq!(found, [Line::TooLong, Line::Whole(b"{}".to_vec())]);
    }

    #[tokio::test]
    async fn what_was_written_before_the_writer_went_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let mut fifo = Fifo::make(&path).unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"one\ntwo\n"))
            .unwrap();
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(fifo.next().await, [whole("one"), whole("two")]);
        assert!(fifo.ready().is_empty());
    }
}
