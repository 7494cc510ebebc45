//! Reads server-sent events (`text/event-stream`, in HTML's standard).

use std::mem;
use std::time::Duration;

/// The maximum length of one line of a stream, and of one event.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// The state of a stream.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Bytes that were not read yet.
    waiting: Vec<u8>,
    /// How many of them have been searched for the end of a line.
    searched: usize,
    /// The data of the event that is being read.
    data: String,
    /// The ID of that event.
    id: Option<String>,
    /// The ID of the last event.
    last_id: Option<String>,
    retry: Option<Duration>,
}

impl Parser {
    /// Adds bytes as they arrive. Fails if a line or an event is too long.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.waiting.extend_from_slice(bytes);
        let line = self.waiting.iter().rev().position(|&byte| byte == b'\n');
        if line.unwrap_or(self.waiting.len()) + self.data.len() > MAX_EVENT_BYTES {
            return Err(format!("an event of more than {MAX_EVENT_BYTES} bytes"));
        }
        Ok(())
    }

    /// Returns the data of the next event, if all of it has arrived.
    pub(crate) fn next_event(&mut self) -> Option<String> {
        loop {
            let rest = &self.waiting[self.searched..];
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                self.searched = self.waiting.len();
                return None;
            };
            let end = self.searched + end;
            self.searched = 0;
            let line: Vec<u8> = self.waiting.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                // An event without data is none, but its ID counts.
                self.last_id = self.id.take().or(self.last_id.take());
                if self.data.is_empty() {
                    continue;
                }
                return Some(mem::take(&mut self.data));
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => {
                    if !self.data.is_empty() {
                        self.data.push('\n');
                    }
                    self.data.push_str(value);
                }
                "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
                "retry" => {
                    if let Ok(pause) = value.parse() {
                        self.retry = Some(Duration::from_millis(pause));
                    }
                }
                // A comment, or a field that is not known.
                _ => {}
            }
        }
    }

    /// Returns the ID of the last event. An empty one means none.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref().filter(|id| !id.is_empty())
    }

    /// Returns how long the server wants the client to wait before it connects again.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Forgets what has arrived of an event: its connection broke.
    pub(crate) fn reconnected(&mut self) {
        self.waiting.clear();
        self.searched = 0;
        self.data.clear();
        self.id = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MAX_EVENT_BYTES, Parser};

    fn events(parser: &mut Parser, bytes: &[u8]) -> Vec<String> {
        parser.push(bytes).unwrap();
        std::iter::from_fn(|| parser.next_event()).collect()
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = "retry: 250\n\nid: 7\ndata: one\n\n: a comment\n\nid: 8\r\ndata:two\r\ndata: lines\r\n\r\nodd: x\ndata: ä";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut all = Vec::new();
            for part in text.as_bytes().chunks(size) {
                all.extend(events(&mut parser, part));
            }
            assert_eq!(all, ["one", "two\nlines"], "in parts of {size}");
            assert_eq!(parser.last_id(), Some("8"));
            assert_eq!(parser.retry(), Some(Duration::from_millis(250)));
        }
    }

    #[test]
    fn half_an_event_is_not_one() {
        let mut parser = Parser::default();
        assert!(events(&mut parser, b"id: 1\ndata: x\n\nid: 2\ndata: y\n").len() == 1);
        assert_eq!(parser.last_id(), Some("1"));
        parser.reconnected();
        assert_eq!(events(&mut parser, b"data: z\n\n"), ["z"]);
        // An event without an ID leaves the last one.
        assert_eq!(parser.last_id(), Some("1"));
    }

    #[test]
    fn an_empty_id_means_none() {
        let mut parser = Parser::default();
        assert!(events(&mut parser, b"id: 1\n\n").is_empty());
        assert_eq!(parser.last_id(), Some("1"));
        assert!(events(&mut parser, b"id\n\n").is_empty());
        assert_eq!(parser.last_id(), None);
    }

    #[test]
    fn an_interval_that_is_no_number_is_ignored() {
        let mut parser = Parser::default();
        events(
            &mut parser,
            b"retry: 250\nretry: soon\nretry: -1\nretry\n\n",
        );
        assert_eq!(parser.retry(), Some(Duration::from_millis(250)));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let error = parser.push(&vec![b'x'; MAX_EVENT_BYTES + 1]).unwrap_err();
        assert!(error.contains("more than"), "{error}");
    }
}
