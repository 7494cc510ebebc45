//! The engine's interface to the node that uses it: events that the engine reports, and services
//! that it asks for.

use std::sync::Arc;

use exuvia_code::{Release, UpgradePath, Version};
use exuvia_process::{Envelope, ExitReason, GrantRequest, Limits, Native, Pid};

use crate::guest::Guest;
use crate::module::info::Artifact;

/// Receives events about processes. Called on scheduler threads: implementations must be quick and
/// must not block.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// A guest logged a line (levels of `exuvia_abi::log`).
    fn log(&self, pid: Pid, version: &Arc<Version<Artifact>>, level: i32, text: &str) {
        let _ = (pid, version, level, text);
    }

    /// A process exited abnormally, or before the process that waits for its start had received an
    /// acknowledgement. `message` is the message that it was handling, truncated if it is long.
    fn failed(
        &self,
        pid: Pid,
        version: &Arc<Version<Artifact>>,
        reason: &ExitReason,
        message: Option<&Envelope>,
    ) {
        let _ = (pid, version, reason, message);
    }

    /// A process was upgraded to the release's code.
    fn upgraded(&self, pid: Pid, release: u64, path: UpgradePath) {
        let _ = (pid, release, path);
    }

    /// The upgrade of a process failed; it stays on its version.
    fn upgrade_failed(
        &self,
        pid: Pid,
        version: &Arc<Version<Artifact>>,
        release: u64,
        reason: &str,
    ) {
        let _ = (pid, version, release, reason);
    }

    /// New code (`version`) failed a process in probation, and the process was reverted.
    fn reverted(
        &self,
        pid: Pid,
        version: &Arc<Version<Artifact>>,
        release: u64,
        reason: &ExitReason,
    ) {
        let _ = (pid, version, release, reason);
    }

    /// The release `from` reached its threshold of failures and was rolled back; `release` is now
    /// current.
    fn rolled_back(&self, from: u64, release: &Arc<Release<Artifact>>, reason: &str) {
        let _ = (from, release, reason);
    }
}

/// Services for guests that need more than the engine.
pub trait Services: Send + Sync {
    /// Returns the native process of a supervisor, given its specification in MessagePack. Its
    /// children never get more than `limits`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the specification.
    fn supervisor(
        &self,
        specification: &[u8],
        limits: &Arc<Limits>,
    ) -> Result<Box<dyn Native<Guest>>, String>;

    /// Returns the grants that are requested for a child, given in MessagePack.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the request.
    fn grants(&self, text: &[u8]) -> Result<GrantRequest, String>;

    /// Returns the value of the app's configuration under a key (parts joined by dots; the empty
    /// key: all of it), in MessagePack, or `None` if there is no such key.
    fn config(&self, key: &str) -> Option<Vec<u8>>;
}
