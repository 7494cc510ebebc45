//! Which children the boot of an app waits for: those that have started and have not acknowledged
//! it. Afterwards it is empty and costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exuvia_abi::Pid;
use parking_lot::Mutex;

/// The children that have not acknowledged their start, in the order in which they started.
#[derive(Debug, Default)]
pub(crate) struct BootProgress {
    /// Whether the tree has started, or will not.
    over: AtomicBool,
    waits: Mutex<Vec<(Pid, Arc<str>)>>,
}

impl BootProgress {
    /// Notes that a child has started.
    pub(crate) fn begins(&self, pid: Pid, id: &Arc<str>) {
        if !self.is_over() {
            self.waits.lock().push((pid, id.clone()));
        }
    }

    /// Notes that a child has acknowledged its start, or has ended.
    pub(crate) fn ends(&self, pid: Pid) {
        if !self.is_over() {
            self.waits.lock().retain(|(waiting, _)| *waiting != pid);
        }
    }

    /// Returns the child that started last: the supervisors above it wait for it as well.
    pub(crate) fn waits_for(&self) -> Option<(Pid, Arc<str>)> {
        self.waits.lock().last().cloned()
    }

    /// Notes that the boot is over.
    pub(crate) fn finish(&self) {
        // Relaxed: a child that starts meanwhile may be noted in vain.
        self.over.store(true, Ordering::Relaxed);
        self.waits.lock().clear();
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}
