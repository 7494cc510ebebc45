//! What the engine tells and asks whoever composes the node.

use std::sync::Arc;

use exuvia_code::{Path, Release, Version};
use exuvia_process::{Envelope, ExitReason, Limits, Native, Pid, Wanted};

use crate::artifact::Artifact;
use crate::guest::Guest;

/// Hears of what happens to processes. Called on scheduler threads: it must
/// be quick and must not block.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// A guest logged a line (levels of `exuvia_abi::log`).
    fn log(&self, pid: Pid, version: &Arc<Version<Artifact>>, level: i32, text: &str) {
        let _ = (pid, version, level, text);
    }

    /// A process ended, for a reason that is not orderly, or before somebody who
    /// waits for its start had heard that it has started. `message` is what it was
    /// handling, cut if it is long.
    fn failed(
        &self,
        pid: Pid,
        version: &Arc<Version<Artifact>>,
        reason: &ExitReason,
        message: Option<&Envelope>,
    ) {
        let _ = (pid, version, reason, message);
    }

    /// A process crossed into the release's code.
    fn crossed(&self, pid: Pid, release: u64, path: Path) {
        let _ = (pid, release, path);
    }

    /// A process could not cross and stays on its version.
    fn stuck(&self, pid: Pid, version: &Arc<Version<Artifact>>, release: u64, reason: &str) {
        let _ = (pid, version, release, reason);
    }

    /// New code, this version, failed a process in probation, and it went back.
    fn returned(
        &self,
        pid: Pid,
        version: &Arc<Version<Artifact>>,
        release: u64,
        reason: &ExitReason,
    ) {
        let _ = (pid, version, release, reason);
    }

    /// A release passed its threshold of failures; this one is current now.
    fn went_back(&self, from: u64, release: &Arc<Release<Artifact>>, reason: &str) {
        let _ = (from, release, reason);
    }
}

/// Does for guests what needs more than the engine.
pub trait Services: Send + Sync {
    /// The native process of a supervisor, from its specification in
    /// MessagePack. Its children never get more than `limits`.
    ///
    /// # Errors
    ///
    /// What is wrong with the specification.
    fn supervisor(
        &self,
        specification: &[u8],
        limits: &Arc<Limits>,
    ) -> Result<Box<dyn Native<Guest>>, String>;

    /// What a child is to be granted, from MessagePack.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn grants(&self, text: &[u8]) -> Result<Wanted, String>;

    /// What the app is configured with under a key (parts joined by dots; the
    /// empty key: all of it), in MessagePack. `None`: nothing.
    fn config(&self, key: &str) -> Option<Vec<u8>>;
}
