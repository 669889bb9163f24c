//! Reading an event stream: bytes in, events out (the WHATWG's `text/event-stream`; sans-IO).

/// Longest line and longest event, in bytes; a stream that sends more is broken off.
pub(super) const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamEvent {
    /// `message` unless the stream says otherwise.
    pub(super) name: String,
    pub(super) data: String,
}

/// The stream sent an event longer than [`EVENT_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event longer than {EVENT_BYTES_MAX} bytes")]
pub(super) struct TooLong;

/// A reader of one stream. The last id outlives it: give it back when connecting again.
#[derive(Debug, Default)]
pub(super) struct StreamReader {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    name: String,
    data: String,
    has_data: bool,
    last_id: Option<String>,
}

impl StreamReader {
    /// The id of the last event, to resume from.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Takes bytes as they came; answers the events they complete.
    ///
    /// # Errors
    /// [`TooLong`]: the stream cannot be read on.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<StreamEvent>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            // CR, LF and CR LF each end a line.
            let second_half = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            if second_half {
                continue;
            }
            if byte == b'\r' || byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                events.extend(self.take_line(&String::from_utf8_lossy(&line)));
            } else {
                self.line.push(byte);
            }
            if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &str) -> Option<StreamEvent> {
        let line = if self.begun { line } else { line.trim_start_matches('\u{feff}') };
        self.begun = true;
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            // An empty field is a comment; `retry` is the controller's wish, our pauses are ours.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<StreamEvent> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(StreamEvent { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> StreamEvent {
        StreamEvent { name: name.to_owned(), data: data.to_owned() }
    }

    const STREAM: &str = "\u{feff}: keep-alive\r\n\r\nid: 7\r\nevent: job.started\r\ndata: {\"a\":1}\r\n\r\n\
        data: one\ndata: two\n\nevent: empty\n\nid: 9\ndata:x\n\nevent: end\ndata: cut";

    #[test]
    fn events_are_read_however_the_bytes_are_cut() {
        let expected = [
            event("job.started", "{\"a\":1}"),
            event("message", "one\ntwo"),
            event("message", "x"),
        ];
        for size in 1..STREAM.len() {
            let mut reader = StreamReader::default();
            let mut read = Vec::new();
            for piece in STREAM.as_bytes().chunks(size) {
                read.extend(reader.take(piece).unwrap());
            }
            assert_eq!(read, expected, "in pieces of {size} bytes");
            assert_eq!(reader.last_id(), Some("9"), "in pieces of {size} bytes");
        }
    }

    #[test]
    fn an_endless_line_is_broken_off() {
        let mut reader = StreamReader::default();
        assert_eq!(reader.take(&vec![b'x'; EVENT_BYTES_MAX + 1]), Err(TooLong));
    }
}
