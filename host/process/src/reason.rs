//! Why a process ended.

use std::fmt;
use std::sync::Arc;

use exuvia_abi::{Reason, limits};

/// An exit reason: a code, and bytes that say more. For the host's own
/// reasons the bytes are text (a trap's message and backtrace); for a guest's
/// they are what it gave.
#[derive(Clone, PartialEq, Eq)]
pub struct ExitReason {
    code: i32,
    detail: Option<Arc<Detail>>,
}

#[derive(PartialEq, Eq)]
struct Detail {
    bytes: Box<[u8]>,
    /// New code caused it: see `code`'s threshold and a supervisor's intensity.
    by_release: bool,
}

impl ExitReason {
    /// A reason with nothing more to say.
    pub const fn new(reason: Reason) -> ExitReason {
        ExitReason {
            code: reason.0,
            detail: None,
        }
    }

    /// A reason with bytes; what is longer than the limit is cut.
    pub fn with(code: i32, bytes: &[u8]) -> ExitReason {
        if bytes.is_empty() {
            return ExitReason { code, detail: None };
        }
        let cut = bytes.len().min(limits::REASON as usize);
        ExitReason {
            code,
            detail: Some(Arc::new(Detail {
                bytes: bytes[..cut].into(),
                by_release: false,
            })),
        }
    }

    /// The same reason, marked as caused by a release.
    #[must_use]
    pub fn caused_by_release(self) -> ExitReason {
        ExitReason {
            code: self.code,
            detail: Some(Arc::new(Detail {
                bytes: self.bytes().into(),
                by_release: true,
            })),
        }
    }

    /// Whether a release caused it, so that it counts to the release's
    /// threshold and not to a supervisor's restart intensity.
    pub fn is_caused_by_release(&self) -> bool {
        self.detail.as_ref().is_some_and(|detail| detail.by_release)
    }

    /// The code: one of [`Reason`]'s, or a guest's own.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// What it says beside the code.
    pub fn bytes(&self) -> &[u8] {
        self.detail.as_ref().map_or(&[], |detail| &detail.bytes)
    }

    /// `normal`: what a linked process does not die of.
    pub fn is_normal(&self) -> bool {
        self.code == Reason::NORMAL.0
    }

    /// `normal` or `shutdown`: no failure.
    pub fn is_orderly(&self) -> bool {
        self.is_normal() || self.code == Reason::SHUTDOWN.0
    }
}

/// The name, and the first line of the text if the bytes are text; the second
/// too if the first ends in a colon.
impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code >= Reason::GUEST {
            write!(f, "exit {}", self.code)?;
        } else {
            f.write_str(Reason(self.code).name())?;
        }
        match std::str::from_utf8(self.bytes()) {
            Ok("") => Ok(()),
            Ok(text) => {
                let mut lines = text.lines();
                let first = lines.next().unwrap_or_default();
                write!(f, ": {first}")?;
                // A panic of Rust says where on the first line, and what on
                // the second.
                match lines.next() {
                    Some(what) if first.ends_with(':') => write!(f, " {what}"),
                    _ => Ok(()),
                }
            }
            Err(_) => write!(f, " ({} bytes)", self.bytes().len()),
        }
    }
}

impl fmt::Debug for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
