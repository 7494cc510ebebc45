//! What a command came to.

use exuvia_node::Pid;
use exuvia_node::abi::{Code, Kind};

/// What a command came to.
#[derive(Clone)]
pub(crate) struct Done {
    pub(crate) result: i64,
    pub(crate) size: u32,
    pub(crate) kind: u32,
    pub(crate) sender: Pid,
    /// Of the header.
    pub(crate) message: u64,
    pub(crate) tag: u32,
    pub(crate) length: u32,
    pub(crate) reason: i32,
    /// Written to [`PID`].
    pub(crate) pid: Pid,
    /// Written to [`REFERENCE`].
    pub(crate) reference: u64,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.buffer.len().min(self.length as usize).min(80);
        f.debug_struct("Done")
            .field("result", &self.result)
            .field("kind", &self.kind)
            .field("sender", &self.sender)
            .field("message", &self.message)
            .field("tag", &self.tag)
            .field("length", &self.length)
            .field("reason", &self.reason)
            .field("pid", &self.pid)
            .field("reference", &self.reference)
            .field("buffer", &String::from_utf8_lossy(&self.buffer[..shown]))
            .finish()
    }
}

impl Done {
    pub(super) fn new(reply: &[u8]) -> Done {
        let word = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(reply[at..at + 8].try_into().unwrap());
        let pid = |at: usize| Pid::from_bytes(reply[at..at + 16].try_into().unwrap());
        Done {
            result: long(0).cast_signed(),
            size: word(8),
            kind: word(12),
            sender: pid(16),
            message: long(32),
            tag: word(40),
            length: word(44),
            reason: word(48).cast_signed(),
            pid: pid(56),
            reference: long(72),
            buffer: reply[80..].to_vec(),
        }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.buffer[..self.length as usize]
    }

    /// Returns the whole buffer, whatever the header says.
    pub(crate) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Done {
        assert_eq!(self.result, 0, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn is(self, code: Code) -> Done {
        assert_eq!(self.result, i64::from(code as i32), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn message(self, kind: Kind, payload: &[u8]) -> Done {
        assert_eq!(self.result, 0, "{self:?}");
        assert_eq!(self.kind, kind as u32, "{self:?}");
        assert_eq!(self.payload(), payload, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn notifications(self, kind: Kind, of: Pid, reason: i32) -> Done {
        assert_eq!(self.result, 0, "{self:?}");
        let notification = (self.kind, self.sender, self.reason);
        assert_eq!(notification, (kind as u32, of, reason), "{self:?}");
        self
    }
}
