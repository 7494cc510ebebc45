//! The processes that do not run the current code, and why, so that no message claims that the
//! current code runs where it does not.

use std::fmt;

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

/// Writes "2 processes on counter@1: 1 reverted, 1 failed".
impl fmt::Display for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outdated {
            module,
            processes,
            reverted,
            failed,
            exempt,
        } = self;
        let plural = if *processes == 1 { "" } else { "es" };
        write!(f, "{processes} process{plural} on {module}")?;
        let waiting = processes.saturating_sub(reverted + failed + exempt);
        let parts = [
            (*reverted, "reverted"),
            (*failed, "failed"),
            (*exempt, "exempt"),
            (waiting, "pending"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        for (index, (count, what)) in parts.enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(f, "{before}{count} {what}")?;
        }
        Ok(())
    }
}

/// An old version that processes stay on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lingering {
    /// `module@version`.
    pub module: String,
    /// The number of these processes.
    pub processes: u64,
}

/// Returns "2 processes were exempt on counter@1, 1 on counter@2", as the end of a line; `one` and
/// `many` are the verbs.
pub(super) fn lingering_clause(exempt_on: &[Lingering], one: &str, many: &str) -> String {
    let mut text = String::new();
    for (index, left) in exempt_on.iter().enumerate() {
        let Lingering { module, processes } = left;
        text += &match (index, processes) {
            (0, 1) => format!("1 process {one} on {module}"),
            (0, _) => format!("{processes} processes {many} on {module}"),
            _ => format!(", {processes} on {module}"),
        };
    }
    text
}
