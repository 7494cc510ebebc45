//! Versions of modules and releases of versions: which code is current, how
//! it becomes current, and how it stops being so. What compiled code is, is
//! not known here: `A` is the engine's artifact.
//!
//! A *release* is an immutable map from module name to version. The node
//! points at one; a commit is one store of that pointer. A process compares
//! one number on its way into a handler, and crosses over when the release
//! has another version of its module. Everything slow (reading, validating,
//! compiling, verifying) happens before the commit, beside the running code
//! (OTP's `CodeLoading.md` has the same order for the same reason).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod histogram;
mod progress;
mod release;
mod sync;
mod unload;
mod version;

pub use histogram::Histogram;
pub use progress::{Path, Progress};
pub use release::{Code, CommitError, Release, Verdict};
pub use version::{Digest, Tenancy, Version};
