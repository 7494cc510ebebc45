//! Captures processes of the node and restores them. Where snapshots are kept, and when they are
//! made, is not decided here.

use exuvia_abi::Pid;
use exuvia_process::{ProcessSnapshot, RestoreError, WhyNot};

use crate::node::Node;

impl Node {
    /// Captures a process at rest, which goes on afterwards.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be captured, or not now.
    pub fn capture(&self, pid: Pid) -> Result<ProcessSnapshot, WhyNot> {
        self.core().executor.capture(pid)
    }

    /// Restores a process under the pid that it had. If another version of its module is current by
    /// now, it is upgraded like any process.
    ///
    /// # Errors
    ///
    /// Returns why it could not be restored; nothing of it remains then.
    pub fn restore(&self, snapshot: &ProcessSnapshot) -> Result<Pid, RestoreError> {
        self.core().executor.restore(snapshot)
    }

    /// Restores several processes, which may have relations to one another. Returns a result for
    /// each, in their order.
    pub fn restore_all(&self, snapshots: Vec<ProcessSnapshot>) -> Vec<Result<Pid, RestoreError>> {
        self.core().executor.restore_all(snapshots)
    }
}
