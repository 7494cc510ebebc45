//! A small executor: state words, credits as messages, and a body given by each test.

use std::{
    any::Any,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use exuvia_scheduler::{Config, Handle, MakePoller, Next, Run, Scheduler};
use parking_lot::{Condvar, Mutex};

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
/// Woken while it runs: it must run again.
const RUNNING_WOKEN: u8 = 3;

/// A test that hangs must fail. No test measures with this.
const HANG: Duration = Duration::from_secs(120);

/// The code of a slice. It gets the credits that were sent to the process since its last slice.
pub(crate) type Body = dyn Fn(&Procs, Slice) -> Next + Send + Sync;

/// Returns the only worker that may run a process.
pub(crate) type Pins = fn(u32) -> Option<usize>;

#[derive(Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) worker: usize,
    pub(crate) index: u32,
    pub(crate) credits: u64,
}

struct Proc {
    state: AtomicU8,
    credits: AtomicU64,
}

pub(crate) struct Procs {
    handle: OnceLock<Handle>,
    procs: Vec<Proc>,
    body: Box<Body>,
    tick: Box<dyn Fn(usize) -> Option<Duration> + Send + Sync>,
    pins: Pins,
    /// Whether the scheduler has broken the contract.
    broken: AtomicBool,
    pub(crate) panicked: Mutex<Vec<u32>>,
}

impl Procs {
    /// Sends one message to a process, and wakes it if necessary.
    pub(crate) fn send(&self, index: u32) {
        let proc = &self.procs[index as usize];
        proc.credits.fetch_add(1, Ordering::SeqCst);
        let step = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(RUNNING_WOKEN),
            _ => None,
        };
        let order = Ordering::SeqCst;
        if proc.state.fetch_update(order, order, step) == Ok(IDLE) {
            match (self.pins)(index) {
                None => self.handle().wake(index),
                Some(worker) => self.handle().wake_on(worker, index),
            }
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.handle.get().expect("set before the first wake")
    }
}

impl Run for Procs {
    fn run(&self, worker: usize, index: u32) -> Next {
        let proc = &self.procs[index as usize];
        let was = proc.state.swap(RUNNING, Ordering::SeqCst);
        let pin = (self.pins)(index);
        if was != QUEUED
            || self.handle().current_worker() != Some(worker)
            || pin.is_some_and(|pin| pin != worker)
        {
            self.broken.store(true, Ordering::SeqCst);
        }
        let credits = proc.credits.swap(0, Ordering::SeqCst);
        let next = (self.body)(
            self,
            Slice {
                worker,
                index,
                credits,
            },
        );
        let order = Ordering::SeqCst;
        if matches!(next, Next::Idle)
            && proc
                .state
                .compare_exchange(RUNNING, IDLE, order, order)
                .is_ok()
        {
            return Next::Idle;
        }
        proc.state.store(QUEUED, Ordering::SeqCst);
        match pin {
            None => Next::Again,
            Some(_) => Next::AgainHere,
        }
    }

    fn tick(&self, worker: usize) -> Option<Duration> {
        (self.tick)(worker)
    }

    fn panicked(&self, _: usize, index: u32, _: Box<dyn Any + Send>) {
        self.procs[index as usize]
            .state
            .store(IDLE, Ordering::SeqCst);
        self.panicked.lock().push(index);
    }
}

/// A scheduler with its processes. Checks the contract when it is dropped.
pub(crate) struct Fixture {
    pub(crate) procs: Arc<Procs>,
    pub(crate) handle: Handle,
    pub(crate) scheduler: Option<Scheduler>,
}

impl Fixture {
    pub(crate) fn new(
        workers: usize,
        procs: usize,
        body: impl Fn(&Procs, Slice) -> Next + Send + Sync + 'static,
    ) -> Self {
        Self::with_tick(workers, procs, |_| None, body)
    }

    pub(crate) fn pinned(
        workers: usize,
        procs: usize,
        pins: Pins,
        body: impl Fn(&Procs, Slice) -> Next + Send + Sync + 'static,
    ) -> Self {
        Self::with_pins(config(workers), procs, |_| None, pins, body)
    }

    pub(crate) fn with_pollers(
        workers: usize,
        procs: usize,
        pollers: MakePoller,
        body: impl Fn(&Procs, Slice) -> Next + Send + Sync + 'static,
    ) -> Self {
        let config = Config {
            pollers: Some(pollers),
            ..config(workers)
        };
        Self::with_pins(config, procs, |_| None, |_| None, body)
    }

    pub(crate) fn with_tick(
        workers: usize,
        procs: usize,
        tick: impl Fn(usize) -> Option<Duration> + Send + Sync + 'static,
        body: impl Fn(&Procs, Slice) -> Next + Send + Sync + 'static,
    ) -> Self {
        Self::with_pins(config(workers), procs, tick, |_| None, body)
    }

    fn with_pins(
        config: Config,
        procs: usize,
        tick: impl Fn(usize) -> Option<Duration> + Send + Sync + 'static,
        pins: Pins,
        body: impl Fn(&Procs, Slice) -> Next + Send + Sync + 'static,
    ) -> Self {
        let procs = Arc::new(Procs {
            handle: OnceLock::new(),
            procs: (0..procs)
                .map(|_| Proc {
                    state: AtomicU8::new(IDLE),
                    credits: AtomicU64::new(0),
                })
                .collect(),
            body: Box::new(body),
            tick: Box::new(tick),
            pins,
            broken: AtomicBool::new(false),
            panicked: Mutex::new(Vec::new()),
        });
        let scheduler = Scheduler::start(config, Arc::clone(&procs)).expect("start");
        let handle = scheduler.handle();
        procs.handle.set(handle.clone()).expect("set once");
        Fixture {
            procs,
            handle,
            scheduler: Some(scheduler),
        }
    }
}

fn config(workers: usize) -> Config {
    Config {
        workers,
        ..Config::default()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.scheduler.take());
        if !std::thread::panicking() {
            assert!(
                !self.procs.broken.load(Ordering::SeqCst),
                "a slice overlapped another, came without a wake, or on the wrong thread"
            );
        }
    }
}

/// A value that one thread changes and another waits for.
#[derive(Default)]
pub(crate) struct Watch<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T: Default> Watch<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn update<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let answer = f(&mut self.value.lock());
        self.changed.notify_all();
        answer
    }

    /// Returns when `f` is true.
    pub(crate) fn wait(&self, mut f: impl FnMut(&T) -> bool) {
        let mut value = self.value.lock();
        while !f(&value) {
            let timed_out = self.changed.wait_for(&mut value, HANG).timed_out();
            assert!(!timed_out, "waited in vain");
        }
    }
}

/// Waits, by yielding, for a condition that has no notification.
pub(crate) fn until(mut f: impl FnMut() -> bool) {
    while !f() {
        std::thread::yield_now();
    }
}
