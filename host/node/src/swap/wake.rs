//! Wakes idle processes, so that they are upgraded, and unloads versions that none needs any more.

use std::thread;
use std::time::Duration;

use exuvia_engine::{Artifact, GuestProcess};

use crate::core::Core;

/// The number of processes woken between two pauses.
const BATCH: u32 = 512;
/// The pause between two batches: at most 50,000 processes per second.
const PAUSE: Duration = Duration::from_millis(10);
/// The number of earlier releases that stay available for a rollback, so that their versions stay
/// loaded.
const KEEP: usize = 2;

impl Core {
    /// If the current release is a rollback, wakes the loop processes that take `UPGRADE`.
    pub(crate) fn wake_loops_after_rollback(&self) {
        let release = self.code.current();
        if release.origin == release.id {
            return;
        }
        for index in self.system.table.indices() {
            self.wake_if(index, |process| {
                let loops = process.guest().and_then(|guest| guest.loops());
                loops == Some(true) && self.executor.is_upgrade_pending(process)
            });
        }
    }

    /// Wakes every process that is not yet upgraded.
    pub(crate) fn wake_pending(&self) {
        let release = self.code.current_id();
        let mut batch = 0;
        for index in self.system.table.indices() {
            if self.code.current_id() != release {
                return;
            }
            if self.wake_if(index, |process| self.executor.is_upgrade_pending(process)) {
                batch += 1;
                if batch == BATCH {
                    batch = 0;
                    thread::park_timeout(PAUSE);
                }
            }
        }
    }

    /// Wakes a process that is parked and for which `what` holds, and any process that cannot be
    /// inspected: it may be about to park and have checked for new code before the commit, or it is
    /// being inspected. Returns whether it was woken.
    fn wake_if(&self, index: u32, what: impl FnOnce(&mut GuestProcess) -> bool) -> bool {
        let wanted = self.executor.examine(index, what).unwrap_or(true);
        let pid = wanted.then(|| self.system.pid(index)).flatten();
        if let Some(pid) = pid {
            self.system.wake(pid);
        }
        pid.is_some()
    }

    /// Unloads versions that are no longer needed.
    pub(crate) fn unload(&self) {
        for version in self.code.unload(KEEP, Artifact::schema) {
            self.executor.forget(&version.artifact);
            tracing::debug!(version = %version, "unloaded");
        }
    }
}
