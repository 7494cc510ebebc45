//! Block in place: another thread continues as a worker while a slice waits.
//!
//! A slice normally ends by returning. If it must wait in the middle of code that cannot return
//! yet, its thread blocks in place: it takes a spare thread, hands over its worker and a
//! continuation for the rest of the slice, and may then block as long as necessary. When the
//! process is run again, the slice that does so returns
//! [`Next::Elsewhere`](crate::Next::Elsewhere): its thread gives its worker to the thread that
//! blocked, and becomes a spare thread. So there are always as many running threads as there are
//! workers. A blocked thread that is never resumed becomes a spare thread when its `run` returns.
//!
//! All threads are created at the start, so that a slice never fails to block for lack of a thread:
//! as many spare threads as workers, and [`SPARE`] more. A slice that may have to block checks
//! before it begins whether there is a spare thread for each worker
//! ([`Handle::may_block_in_place`](crate::Handle::may_block_in_place)). Since no worker is in two
//! slices, and each resumed thread has freed another one, a spare thread is available when it is
//! needed.
//!
//! A thread that gives its worker away is listed as ready before it does so, although it has not
//! returned to `stand_by` yet: a guest that was resumed may block again at once, and needs it.
//!
//! Blocking in place takes some 20 us, and so does resuming, so it is meant for rare cases. Tokio's
//! `block_in_place` does the same temporarily; here a thread may resume with another worker.

use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::{
    scheduler::{Next, Run},
    shared::SchedulerState,
    worker::{self, Worker},
};

/// How many threads may be blocked for long before further slices may not block. Each has a stack.
pub const SPARE: usize = 32;

/// The rest of a slice whose thread has blocked in place.
type Continuation = Box<dyn FnOnce() -> Next + Send>;

/// What a spare thread receives.
pub(crate) struct Handoff {
    worker: Box<Worker>,
    index: u32,
    then: Continuation,
}

/// The sender to a thread that is ready to continue as a worker.
pub(crate) type Ready = mpsc::Sender<Handoff>;

thread_local! {
    /// The receiver of a thread that is listed as ready but has not returned to [`stand_by`] yet.
    static HANDOFFS: Cell<Option<mpsc::Receiver<Handoff>>> = const { Cell::new(None) };
}

/// The loop of a spare thread, until the scheduler stops. A thread that is already listed passes
/// its receiver.
pub(crate) fn stand_by<R: Run + ?Sized>(
    shared: &Arc<SchedulerState>,
    run: &Arc<R>,
    listed: Option<mpsc::Receiver<Handoff>>,
) {
    if listed.is_some() {
        HANDOFFS.set(listed);
    }
    while let Some(handoffs) = HANDOFFS.take().or_else(|| shared.ready.join()) {
        // Otherwise no slice has blocked after all, or the scheduler stops.
        if let Ok(handoff) = handoffs.recv() {
            handoff.run(run);
        }
    }
}

impl Handoff {
    fn run<R: Run + ?Sized>(self, run: &Arc<R>) {
        let Handoff {
            worker,
            index,
            then,
        } = self;
        // The handoff has taken as long as many slices, so processes in the injector have waited
        // enough.
        worker.look_outside();
        worker::publish(worker);
        let outcome = catch_unwind(AssertUnwindSafe(then));
        let worker = worker::take_back().and_then(|w| w.after_slice(&**run, index, outcome));
        if let Some(worker) = worker {
            worker.work(run);
        }
    }
}

/// The list of spare threads, and its length.
#[derive(Debug)]
pub(crate) struct SpareThreads(Mutex<Option<Vec<Ready>>>, AtomicUsize);

impl SpareThreads {
    /// Creates an open list.
    pub(crate) fn new() -> SpareThreads {
        SpareThreads(Mutex::new(Some(Vec::new())), AtomicUsize::new(0))
    }

    /// Returns the number of spare threads.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }

    /// Lists this thread as ready. `None`: the scheduler stops.
    fn join(&self) -> Option<mpsc::Receiver<Handoff>> {
        let (give, handoffs) = mpsc::channel();
        self.list(give).then_some(handoffs)
    }

    /// Lists the thread that has the receiver. Returns false if the scheduler stops.
    pub(crate) fn list(&self, give: Ready) -> bool {
        let mut list = self.0.lock();
        if let Some(ready) = list.as_mut() {
            ready.push(give);
            self.1.store(ready.len(), Ordering::Relaxed);
        }
        list.is_some()
    }

    fn take(&self) -> Option<Ready> {
        let mut list = self.0.lock();
        let ready = list.as_mut()?;
        let taken = ready.pop();
        self.1.store(ready.len(), Ordering::Relaxed);
        taken
    }

    /// Ends the spare threads, and every thread that would become one.
    pub(crate) fn close(&self) {
        self.1.store(0, Ordering::Relaxed);
        // This drops their senders.
        drop(self.0.lock().take());
    }
}

/// The number of threads of a scheduler: workers', spare and blocked ones.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    alive: Mutex<usize>,
    ended: Condvar,
}

impl Threads {
    pub(crate) fn begin(&self) {
        *self.alive.lock() += 1;
    }

    /// Counts one less. The last action of a thread here.
    pub(crate) fn end(&self) {
        *self.alive.lock() -= 1;
        self.ended.notify_all();
    }

    /// Waits until at most so many threads are left.
    pub(crate) fn wait(&self, most: impl Fn() -> usize) {
        let mut alive = self.alive.lock();
        while *alive > most() {
            // A change of what `most` reads does not notify this condition.
            self.ended.wait_for(&mut alive, LOOK_EVERY);
        }
    }
}

/// Counts a thread until it is dropped.
pub(crate) struct Alive(pub(crate) Arc<SchedulerState>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.threads.end();
    }
}

/// How often the stop checks whether a thread that it waits for has blocked in place.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A thread that is ready to continue as a worker.
pub struct SpareThread {
    shared: Arc<SchedulerState>,
    ready: Ready,
    resume_handle: Arc<ResumeHandle>,
}

impl fmt::Debug for SpareThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandIn")
    }
}

impl SpareThread {
    /// Takes a spare thread for the worker of this thread.
    pub(crate) fn new(shared: &Arc<SchedulerState>) -> Option<SpareThread> {
        worker::with_current(shared, |_| ())?;
        let ready = shared.ready.take()?;
        Some(SpareThread {
            shared: Arc::clone(shared),
            ready,
            resume_handle: Arc::new(ResumeHandle::new(shared)),
        })
    }

    /// Returns the handle with which this thread will be resumed.
    pub fn resume_handle(&self) -> Arc<ResumeHandle> {
        Arc::clone(&self.resume_handle)
    }

    /// Lets the spare thread continue as this thread's worker. First it calls `then`, which returns
    /// what becomes of the process `index`, whose slice this is. This thread must next wait on its
    /// resume handle or return from the slice.
    ///
    /// # Panics
    ///
    /// Panics if this thread has no worker any more: it has blocked in place since it took the
    /// spare thread.
    pub fn take_over(self, index: u32, then: impl FnOnce() -> Next + Send + 'static) {
        let worker = worker::take_back().filter(|worker| worker.is_of(&self.shared));
        let mut handoff = Handoff {
            worker: worker.expect("the thread of a slice has a worker"),
            index,
            then: Box::new(then),
        };
        let mut ready = Some(self.ready);
        loop {
            let Some(next) = ready else {
                // Dropping the handoff might wait for this very thread.
                std::mem::forget(handoff);
                unreachable!("a spare thread waits for its handoff");
            };
            match next.send(handoff) {
                Ok(()) => break,
                // That thread failed when it started.
                Err(mpsc::SendError(unsent)) => handoff = unsent,
            }
            ready = self.shared.ready.take();
        }
        self.shared.blocked_in_place.fetch_add(1, Ordering::Relaxed);
    }
}

/// The handle through which a thread that has blocked in place gets a worker again.
pub struct ResumeHandle {
    shared: Arc<SchedulerState>,
    worker: Mutex<Option<Box<Worker>>>,
    given: Condvar,
}

impl fmt::Debug for ResumeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WayBack")
    }
}

impl ResumeHandle {
    fn new(shared: &Arc<SchedulerState>) -> ResumeHandle {
        shared.blocked_threads.fetch_add(1, Ordering::Relaxed);
        ResumeHandle {
            shared: Arc::clone(shared),
            worker: Mutex::new(None),
            given: Condvar::new(),
        }
    }

    /// Waits, on the blocked thread, until the process is run again: see
    /// [`Next::Elsewhere`](crate::Next::Elsewhere).
    pub fn wait(&self) {
        let mut given = self.worker.lock();
        loop {
            if let Some(worker) = given.take() {
                return worker::publish(worker);
            }
            self.given.wait(&mut given);
        }
    }

    /// Gives this thread's worker away, and lists this thread as ready for another.
    pub(crate) fn give(&self, worker: Box<Worker>) {
        HANDOFFS.set(self.shared.ready.join());
        *self.worker.lock() = Some(worker);
        self.given.notify_one();
    }
}

impl Drop for ResumeHandle {
    fn drop(&mut self) {
        self.shared.blocked_threads.fetch_sub(1, Ordering::Relaxed);
    }
}
