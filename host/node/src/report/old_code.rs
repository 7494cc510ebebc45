//! The processes that do not run the current code, and why, so that no message claims that the
//! current code runs where it does not.

use serde::Serialize;

/// The processes on an old version of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outdated {
    /// `module@version`.
    pub module: String,
    /// The number of these processes.
    pub processes: u64,
    /// The number of those that were reverted to it because new code failed.
    pub reverted: u64,
    /// The number of those whose upgrade failed.
    pub failed: u64,
    /// The number of those that are exempt, or that loop there and never return. The others are
    /// upgraded when they become idle, or wake.
    pub exempt: u64,
}

/// An old version that processes stay on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lingering {
    /// `module@version`.
    pub module: String,
    /// The number of these processes.
    pub processes: u64,
}
