//! Connects processes and schedulers: the scheduler runs numbers, the executor runs processes, and
//! neither knows the other.

use std::any::Any;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use exuvia_engine::{
    Executor, GuestSystem, ResumeHandle, SpareThread, Threads, TurnResult, prepare_thread,
};
use exuvia_io::Pollers;
use exuvia_process::{Priority, Schedule};
use exuvia_scheduler::{Handle, Interrupt, MakePoller, Next, Run, SleepRecord};

/// What the scheduler runs.
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

fn next(system: &GuestSystem, index: u32, ran: TurnResult) -> Next {
    match ran {
        TurnResult::Idle => Next::Idle,
        TurnResult::Ready => {
            match (system.table.slot(index)).map(|slot| (slot.pinned_to(), slot.priority())) {
                Some((Some(_), _)) => Next::AgainHere,
                Some((None, Priority::High)) => Next::AgainHigh,
                Some((None, Priority::Low)) => Next::AgainLow,
                Some((None, Priority::Normal)) | None => Next::Again,
            }
        }
        TurnResult::Elsewhere(resume_handle) => {
            let resume_handle: Arc<dyn Any + Send + Sync> = resume_handle;
            // A resume handle of another implementation refers to no worker: continuing without it
            // would lose a thread.
            let way = resume_handle
                .downcast::<SchedulerResumeHandle>()
                .expect("it came from `Stacks`");
            Next::Elsewhere(way.0.clone())
        }
        // This thread is no longer a worker, so the result is not used.
        TurnResult::Ended => Next::Idle,
    }
}

/// The threads of the schedulers, as the engine sees them.
#[derive(Debug)]
pub(crate) struct SchedulerThreads {
    handle: Handle,
    system: Arc<GuestSystem>,
}

impl SchedulerThreads {
    pub(crate) fn new(handle: Handle, system: Arc<GuestSystem>) -> SchedulerThreads {
        SchedulerThreads { handle, system }
    }
}

impl Threads for SchedulerThreads {
    #[inline]
    fn may_block_in_place(&self) -> bool {
        self.handle.may_block_in_place()
    }

    fn turn_gets_long(&self) {
        self.handle.slice_gets_long();
    }

    fn spare_thread(&self) -> Option<Box<dyn SpareThread>> {
        let scheduler = self.handle.spare_thread()?;
        let system = self.system.clone();
        Some(Box::new(SchedulerSpareThread { scheduler, system }))
    }
}

struct SchedulerSpareThread {
    scheduler: exuvia_scheduler::SpareThread,
    system: Arc<GuestSystem>,
}

impl SpareThread for SchedulerSpareThread {
    fn resume_handle(&self) -> Arc<dyn ResumeHandle> {
        Arc::new(SchedulerResumeHandle(self.scheduler.resume_handle()))
    }

    fn take_over(self: Box<Self>, index: u32, then: Box<dyn FnOnce() -> TurnResult + Send>) {
        let system = self.system;
        (self.scheduler).take_over(index, move || next(&system, index, then()));
    }
}

#[derive(Debug)]
struct SchedulerResumeHandle(Arc<exuvia_scheduler::ResumeHandle>);

impl ResumeHandle for SchedulerResumeHandle {
    fn wait(&self) {
        self.0.wait();
    }
}

/// The sockets of a scheduler, as the scheduler sees them.
struct Sockets(exuvia_io::Poller);

struct SocketsSignal(Arc<exuvia_io::Signal>);

/// Makes the pollers of so many schedulers, for those who start tasks and for the schedulers.
pub(crate) fn pollers(workers: usize) -> (Arc<Pollers>, MakePoller) {
    let pollers = Arc::new(Pollers::new(workers));
    let shared = pollers.clone();
    let make = move |worker, sleep: SleepRecord| -> Box<dyn exuvia_scheduler::Poller> {
        Box::new(Sockets(
            pollers.poller(worker, move |asleep| sleep.sleeps(asleep)),
        ))
    };
    (shared, Arc::new(make))
}

impl exuvia_scheduler::Poller for Sockets {
    fn is_in_use(&self) -> bool {
        self.0.is_in_use()
    }

    fn poll(&mut self) {
        self.0.poll();
    }

    fn wait(&mut self, time: Option<Duration>) {
        self.0.wait(time);
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::new(SocketsSignal(self.0.signal()))
    }
}

impl Interrupt for SocketsSignal {
    fn interrupt(&self) {
        self.0.set();
    }
}

/// Puts processes that are ready into run queues. Holds the scheduler's handle only, so that it
/// keeps nothing alive.
#[derive(Debug, Default)]
pub(crate) struct RunQueues(OnceLock<Handle>);

impl RunQueues {
    pub(crate) fn connect(&self, handle: Handle) {
        let _ = self.0.set(handle);
    }
}

impl Schedule for RunQueues {
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
