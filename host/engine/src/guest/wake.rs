//! How a function of the host that has waited finds its process again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use exuvia_process::Pid;

use super::GuestSystem;

/// Schedules a process that waits in a function of the host.
#[derive(Debug)]
pub(crate) struct Wake {
    system: Weak<GuestSystem>,
    pid: Pid,
    /// The function may have completed since the process was last run.
    ready: AtomicBool,
}

impl Wake {
    pub(crate) fn new(system: Weak<GuestSystem>, pid: Pid) -> Arc<Wake> {
        Arc::new(Wake {
            system,
            pid,
            ready: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// To be called before the process is run: what is ready by then will be seen.
    pub(crate) fn reset(&self) {
        self.ready.store(false, Ordering::Release);
    }
}

impl std::task::Wake for Wake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.store(true, Ordering::Release);
        if let Some(system) = self.system.upgrade() {
            system.wake(self.pid);
        }
    }
}
