//! Exit reasons: why a process terminated.

use std::fmt;
use std::sync::Arc;

use exuvia_abi::{Reason, limits};

/// An exit reason: a code, and bytes with details. For the host's own reasons the bytes are text (a
/// trap's message and backtrace); for a guest's reason they are the bytes that the guest passed.
#[derive(Clone, PartialEq, Eq)]
pub struct ExitReason {
    code: i32,
    detail: Option<Arc<Detail>>,
}

#[derive(PartialEq, Eq)]
struct Detail {
    bytes: Box<[u8]>,
    /// Whether new code caused it: such an exit counts toward the release's failure threshold, not
    /// toward a supervisor's restart intensity.
    by_release: bool,
}

impl ExitReason {
    /// Returns a reason without details.
    pub const fn new(reason: Reason) -> ExitReason {
        ExitReason {
            code: reason.0,
            detail: None,
        }
    }

    /// Returns a reason with details, truncated to the limit [`limits::REASON`].
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

    /// Returns the same reason, marked as caused by a release.
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

    /// Returns whether a release caused it, so that it counts toward the release's failure
    /// threshold and not toward a supervisor's restart intensity.
    pub fn is_caused_by_release(&self) -> bool {
        self.detail.as_ref().is_some_and(|detail| detail.by_release)
    }

    /// Returns the code: one of [`Reason`]'s, or a guest's own.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// Returns the details that accompany the code.
    pub fn bytes(&self) -> &[u8] {
        self.detail.as_ref().map_or(&[], |detail| &detail.bytes)
    }

    /// Returns whether it is `normal`, which does not terminate a linked process.
    pub fn is_normal(&self) -> bool {
        self.code == Reason::NORMAL.0
    }

    /// Returns whether it is `normal` or `shutdown`: not a failure.
    pub fn is_orderly(&self) -> bool {
        self.is_normal() || self.code == Reason::SHUTDOWN.0
    }
}

/// Writes the name, and the first line of the details if they are text; also the second line if the
/// first ends in a colon.
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
                // A Rust panic has its location on the first line and its message on the second.
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
