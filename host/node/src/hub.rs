//! Where processes and schedulers meet: the scheduler runs numbers, the
//! executor runs processes, and neither knows the other.

use std::any::Any;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use exuvia_engine::{Executor, GuestSystem, Ran, StandIn, Threads, WayBack, prepare_thread};
use exuvia_process::{Priority, Schedule};
use exuvia_scheduler::{Handle, Next, Run};

/// What the scheduler drives.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) executor: Executor,
    pub(crate) system: Arc<GuestSystem>,
}

impl Run for Runner {
    fn run(&self, _worker: usize, index: u32) -> Next {
        next(&self.system, index, self.executor.run(index))
    }

    fn thread_starts(&self) {
        prepare_thread();
    }

    fn tick(&self, worker: usize) -> Option<Duration> {
        self.system.fire_timers(worker).map(Duration::from_nanos)
    }
}

fn next(system: &GuestSystem, index: u32, ran: Ran) -> Next {
    match ran {
        Ran::Idle => Next::Idle,
        Ran::Again => {
            match (system.table.slot(index)).map(|slot| (slot.pinned_to(), slot.priority())) {
                Some((Some(_), _)) => Next::AgainHere,
                Some((None, Priority::High)) => Next::AgainHigh,
                Some((None, Priority::Low)) => Next::AgainLow,
                Some((None, Priority::Normal)) | None => Next::Again,
            }
        }
        Ran::Elsewhere(way_back) => {
            let way_back: Arc<dyn Any + Send + Sync> = way_back;
            // Another's way back is none of a worker's: to go on without would lose one.
            let way = way_back.downcast::<Way>().expect("it came from `Stacks`");
            Next::Elsewhere(way.0.clone())
        }
        // This thread is no worker's any more, and nobody asks.
        Ran::Ended => Next::Idle,
    }
}

/// The schedulers' threads, as the engine sees them.
#[derive(Debug)]
pub(crate) struct Stacks {
    handle: Handle,
    system: Arc<GuestSystem>,
}

impl Stacks {
    pub(crate) fn new(handle: Handle, system: Arc<GuestSystem>) -> Stacks {
        Stacks { handle, system }
    }
}

impl Threads for Stacks {
    #[inline]
    fn may_step_aside(&self) -> bool {
        self.handle.may_step_aside()
    }

    fn turn_gets_long(&self) {
        self.handle.slice_gets_long();
    }

    fn stand_in(&self) -> Option<Box<dyn StandIn>> {
        let scheduler = self.handle.stand_in()?;
        let system = self.system.clone();
        Some(Box::new(Substitute { scheduler, system }))
    }
}

struct Substitute {
    scheduler: exuvia_scheduler::StandIn,
    system: Arc<GuestSystem>,
}

impl StandIn for Substitute {
    fn way_back(&self) -> Arc<dyn WayBack> {
        Arc::new(Way(self.scheduler.way_back()))
    }

    fn take_over(self: Box<Self>, index: u32, then: Box<dyn FnOnce() -> Ran + Send>) {
        let system = self.system;
        (self.scheduler).take_over(index, move || next(&system, index, then()));
    }
}

#[derive(Debug)]
struct Way(Arc<exuvia_scheduler::WayBack>);

impl WayBack for Way {
    fn wait(&self) {
        self.0.wait();
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

    fn schedule_as(&self, priority: Priority, slot: u32) {
        if let Some(handle) = self.0.get() {
            match priority {
                Priority::High => handle.wake_high(slot),
                Priority::Low => handle.wake_low(slot),
                Priority::Normal => handle.wake(slot),
            }
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
