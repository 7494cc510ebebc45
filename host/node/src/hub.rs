//! Where processes and schedulers meet: the scheduler runs numbers, the
//! executor runs processes, and neither knows the other.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use exuvia_engine::{Executor, GuestSystem};
use exuvia_process::{Schedule, Slot};
use exuvia_scheduler::{Handle, Next, Run};

/// What the scheduler drives.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) executor: Executor,
    pub(crate) system: Arc<GuestSystem>,
}

impl Run for Runner {
    fn run(&self, _worker: usize, index: u32) -> Next {
        if !self.executor.run(index) {
            return Next::Idle;
        }
        match self.system.table.slot(index).and_then(Slot::pinned_to) {
            None => Next::Again,
            Some(_) => Next::AgainHere,
        }
    }

    fn tick(&self, worker: usize) -> Option<Duration> {
        self.system.fire_timers(worker).map(Duration::from_nanos)
    }
}

/// The way from a process that has something to do to a run queue. It knows
/// the scheduler's handle only, so that it keeps nothing alive.
#[derive(Debug, Default)]
pub(crate) struct Wakes(OnceLock<Handle>);

impl Wakes {
    pub(crate) fn connect(&self, handle: Handle) {
        let _ = self.0.set(handle);
    }
}

impl Schedule for Wakes {
    #[inline]
    fn schedule(&self, slot: u32) {
        if let Some(handle) = self.0.get() {
            handle.wake(slot);
        }
    }

    fn schedule_on(&self, scheduler: u8, slot: u32) {
        if let Some(handle) = self.0.get() {
            handle.wake_on(scheduler.into(), slot);
        }
    }

    fn shard(&self) -> usize {
        self.0.get().and_then(Handle::current_worker).unwrap_or(0)
    }

    fn timer_moved(&self, shard: usize) {
        if let Some(handle) = self.0.get() {
            handle.unpark_worker(shard);
        }
    }
}
