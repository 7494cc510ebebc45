//! Versions of modules and releases of versions: which code is current, how it
//! becomes current, and how it is rolled back and unloaded. This crate does not know
//! compiled code: `A` is the engine's artifact.
//!
//! A *release* is an immutable map from module name to version. The node has one
//! current release; a commit is one store of that pointer. Before each handler a
//! process compares one number, and upgrades if the release has another version of
//! its module. All slow work (reading, validating, compiling, verifying) happens
//! before the commit, while the old code runs (OTP's `CodeLoading.md` has the same
//! order for the same reason).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod histogram;
mod progress;
mod release;
mod sync;
mod unload;
mod version;

pub use histogram::Histogram;
pub use progress::{Progress, UpgradePath};
pub use release::{CodeServer, CommitError, HowToCommit, Release, Verdict, check_base};
pub use version::{Digest, Version, VersionRef};
