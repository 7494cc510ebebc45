//! Starts and stops the worker threads.
//!
//! # Stopping
//!
//! 1. Each worker gets the STOP order and then a token, so a worker that is about to park returns
//!    from it and reads the order.
//! 2. A worker finishes its slice, reads the order, and stops. It drains nothing: what is queued is
//!    dropped, since the processes belong to the implementor of [`Run`].
//! 3. The stop waits until all threads have exited. A scheduler that is dropped on one of its own
//!    workers cannot wait for that one, which exits by itself after its slice. Nor does it wait for
//!    threads that are blocked in place (see `handoff`): they belong to the implementor of [`Run`].

use std::{
    any::Any,
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use crossbeam_deque::Worker as Queue;

use crate::{
    config::{Config, MAX_WORKERS},
    error::Error,
    gate,
    handle::Handle,
    handoff::{Alive, ResumeHandle, SPARE, stand_by},
    idle::Idle,
    metrics::SleepRecord,
    parker::Parker,
    shared::{Remote, SchedulerState},
    worker::Worker,
};

/// What becomes of a process after its slice.
#[derive(Debug)]
pub enum Next {
    /// It waits, or it has terminated. It runs again after the next wake.
    Idle,
    /// It is still runnable: it goes to the back of the queue.
    Again,
    /// It is still runnable, with high priority: see [`Handle::wake_high`].
    AgainHigh,
    /// It is still runnable, with low priority: see [`Handle::wake_low`].
    AgainLow,
    /// It is still runnable, and only this worker may run it: see [`Handle::wake_on`].
    AgainHere,
    /// Its slice continues on the thread that has blocked in place in it. That thread gets this
    /// worker.
    Elsewhere(Arc<ResumeHandle>),
}

/// The processes that the scheduler runs. `worker` is the number of the worker whose thread calls.
pub trait Run: Send + Sync + 'static {
    /// Runs one slice of a process. Never called concurrently for one index, as long as the
    /// contract of `wake` is kept. It must not block the thread, since the worker's other processes
    /// would wait; see [`Handle::spare_thread`].
    fn run(&self, worker: usize, index: u32) -> Next;

    /// Fires this worker's timers that are due and returns the time until the next one; `None` if
    /// there is none. Called between slices and before and after each sleep.
    fn tick(&self, worker: usize) -> Option<Duration>;

    /// Called once on each thread that will call `run`, before it does. The default does nothing.
    fn thread_starts(&self) {}

    /// Called after `run` has panicked for this index. The process counts as [`Next::Idle`]; the
    /// implementor must repair the process's state word. The default does nothing.
    fn panicked(&self, worker: usize, index: u32, payload: Box<dyn Any + Send>) {
        let _ = (worker, index, payload);
    }
}

/// The running worker threads. Dropping it stops them.
#[derive(Debug)]
pub struct Scheduler {
    handle: Handle,
}

impl Scheduler {
    /// Starts the workers. They share `run` and drop it when they stop. Returns an [`Error`] if the
    /// number of workers is invalid or the system refuses one of their threads.
    pub fn start<R: Run + ?Sized>(config: Config, run: Arc<R>) -> Result<Scheduler, Error> {
        if config.workers == 0 || config.workers > MAX_WORKERS {
            return Err(Error::Workers(config.workers));
        }
        let queues: Vec<Queue<u32>> = (0..config.workers).map(|_| Queue::new_fifo()).collect();
        let remotes: Box<[Arc<Remote>]> = queues
            .iter()
            .map(|queue| Arc::new(Remote::new(queue.stealer())))
            .collect();
        let poller = |(worker, remote): (usize, &Arc<Remote>)| {
            let make = config.pollers.as_ref()?;
            Some(make(worker, SleepRecord(Arc::clone(remote))))
        };
        let pollers: Vec<_> = remotes.iter().enumerate().map(poller).collect();
        let parkers: Vec<Parker> = pollers
            .iter()
            .map(|poller| Parker::new(poller.as_ref().map(|poller| poller.interrupt())))
            .collect();
        let shared = Arc::new(SchedulerState::new(
            remotes,
            Idle::new(parkers.iter()),
            config.others_share,
        ));
        let scheduler = Scheduler {
            handle: Handle {
                shared: Arc::clone(&shared),
            },
        };
        let name = &config.name;
        let spawn = |name: String, life: Box<dyn FnOnce() + Send>| {
            let builder = thread::Builder::new().name(name);
            let builder = match config.stack_size {
                Some(bytes) => builder.stack_size(bytes),
                None => builder,
            };
            shared.threads.begin();
            let made = builder.spawn(life);
            if made.is_err() {
                shared.threads.end();
            }
            made.map(drop)
        };
        let live = |first: Option<Box<Worker>>, listed| {
            let (shared, run) = (Arc::clone(&shared), Arc::clone(&run));
            let on_start = config.on_start.clone();
            Box::new(move || {
                // Also counts down after a panic of the loop itself, which the panic hook has
                // reported.
                let _alive = Alive(Arc::clone(&shared));
                run.thread_starts();
                if let Some(worker) = first {
                    worker.enter(&run, on_start);
                }
                stand_by(&shared, &run, listed);
                // Dropped before the count, so that nothing uses `run` once the stop has finished
                // waiting.
                drop(run);
            })
        };
        // Dropping the scheduler stops what did start.
        let failed = |worker| move |source| Error::Thread { worker, source };
        let waits = parkers.into_iter().zip(pollers);
        for (number, (queue, waits)) in queues.into_iter().zip(waits).enumerate() {
            let worker = Box::new(Worker::new(Arc::clone(&shared), number, queue, waits));
            spawn(format!("{name}-{number}"), live(Some(worker), None)).map_err(failed(number))?;
        }
        for _ in 0..config.workers + SPARE {
            let (give, duties) = mpsc::channel();
            if spawn(format!("{name}-by"), live(None, Some(duties))).is_err() {
                // Without these, slices cannot block in place.
                break;
            }
            shared.ready.list(give);
        }
        Ok(scheduler)
    }

    /// Returns a handle to wake processes with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops after the current slices and waits for the threads. What is still queued is dropped.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        shared.ready.close();
        gate::stop_all(shared);
        let own = usize::from(self.handle.current_worker().is_some());
        shared
            .threads
            .wait(|| shared.blocked_threads.load(Ordering::Relaxed) + own);
    }
}
