//! Another thread goes on as a worker while a slice waits.
//!
//! A slice ends by returning. One that must wait in the middle of code which cannot return yet has its
//! thread step aside: it takes a stand-in, gives it its worker and what is left to do of the slice,
//! and may then block as long as it likes. When the process is run again, the slice in which that
//! happens answers [`Next::Elsewhere`](crate::Next::Elsewhere): its thread gives its worker to the one
//! that stepped aside, and is a stand-in from then on. So there are always as many threads that work
//! as there are workers. A thread aside that is never asked back is a stand-in when its `run` returns.
//!
//! All threads are made at the start, so that nobody fails to wait for want of one: as many stand-ins
//! as workers, and [`SPARE`] more. A slice that may have to step aside asks before it begins whether
//! there is a stand-in for each worker ([`Handle::may_step_aside`](crate::Handle::may_step_aside)). Since
//! no worker is in two slices, and who comes back has brought one thread along, there is one when it is
//! needed.
//!
//! A thread that gives its worker to another is ready before it does, though it has yet to come back
//! here: a guest that was resumed may wait again at once, and needs it.
//!
//! To step aside takes some 20 us, and so does the way back: it is for what happens seldom. Tokio's
//! `block_in_place` does the same for a while; here the way back may lead to another worker.

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
    shared::Shared,
    worker::{self, Worker},
};

/// How many threads may be aside for long before nobody else may step aside. Each has a stack.
pub const SPARE: usize = 32;

/// What is left to do of a slice whose thread has stepped aside.
type Then = Box<dyn FnOnce() -> Next + Send>;

/// What a stand-in is given.
pub(crate) struct Duty {
    worker: Box<Worker>,
    index: u32,
    then: Then,
}

/// The way to a thread that is ready to go on as a worker.
pub(crate) type Ready = mpsc::Sender<Duty>;

thread_local! {
    /// What a thread that is listed as ready will go on with, until it is back in [`stand_by`].
    static DUTIES: Cell<Option<mpsc::Receiver<Duty>>> = const { Cell::new(None) };
}

/// The life of a thread that is ready, until the scheduler stops. One that is listed already brings
/// its end of the channel.
pub(crate) fn stand_by<R: Run + ?Sized>(
    shared: &Arc<Shared>,
    run: &Arc<R>,
    listed: Option<mpsc::Receiver<Duty>>,
) {
    if listed.is_some() {
        DUTIES.set(listed);
    }
    while let Some(duties) = DUTIES.take().or_else(|| shared.ready.join()) {
        // Else nobody stepped aside after all, or it stops.
        if let Ok(duty) = duties.recv() {
            duty.go_on(run);
        }
    }
}

impl Duty {
    fn go_on<R: Run + ?Sized>(self, run: &Arc<R>) {
        let Duty {
            worker,
            index,
            then,
        } = self;
        // The change has taken as long as many slices: enough for those outside to wait.
        worker.look_outside();
        worker::publish(worker);
        let outcome = catch_unwind(AssertUnwindSafe(then));
        let worker = worker::take_back().and_then(|w| w.after_slice(&**run, index, outcome));
        if let Some(worker) = worker {
            worker.work(run);
        }
    }
}

/// Those that are ready.
#[derive(Debug)]
pub(crate) struct StandIns(Mutex<Option<Vec<Ready>>>, AtomicUsize);

impl StandIns {
    /// Opens the list.
    pub(crate) fn new() -> StandIns {
        StandIns(Mutex::new(Some(Vec::new())), AtomicUsize::new(0))
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }

    /// This thread is ready. `None`: the scheduler stops.
    fn join(&self) -> Option<mpsc::Receiver<Duty>> {
        let (give, duties) = mpsc::channel();
        self.list(give).then_some(duties)
    }

    /// The thread at the other end is ready. False: the scheduler stops.
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

    /// Ends those that are ready, and all that would be later.
    pub(crate) fn close(&self) {
        self.1.store(0, Ordering::Relaxed);
        // Their ends of the channels go with it.
        drop(self.0.lock().take());
    }
}

/// How many threads a scheduler has: workers', stand-ins', and those aside.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    alive: Mutex<usize>,
    ended: Condvar,
}

impl Threads {
    pub(crate) fn begin(&self) {
        *self.alive.lock() += 1;
    }

    /// The last that a thread does here.
    pub(crate) fn end(&self) {
        *self.alive.lock() -= 1;
        self.ended.notify_all();
    }

    /// Waits until no more are left than so many.
    pub(crate) fn wait(&self, most: impl Fn() -> usize) {
        let mut alive = self.alive.lock();
        while *alive > most() {
            // What `most` looks at tells nobody when it changes.
            self.ended.wait_for(&mut alive, LOOK_EVERY);
        }
    }
}

/// Counts a thread until it is dropped.
pub(crate) struct Alive(pub(crate) Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.threads.end();
    }
}

/// How often the stop looks whether what it waits for has stepped aside.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A thread that is ready to go on as a worker.
pub struct StandIn {
    shared: Arc<Shared>,
    ready: Ready,
    way_back: Arc<WayBack>,
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandIn")
    }
}

impl StandIn {
    /// One for the worker of this thread.
    pub(crate) fn new(shared: &Arc<Shared>) -> Option<StandIn> {
        worker::with_current(shared, |_| ())?;
        let ready = shared.ready.take()?;
        Some(StandIn {
            shared: Arc::clone(shared),
            ready,
            way_back: Arc::new(WayBack::new(shared)),
        })
    }

    /// How this thread will be asked back.
    pub fn way_back(&self) -> Arc<WayBack> {
        Arc::clone(&self.way_back)
    }

    /// The stand-in goes on as this thread's worker; first it does `then`, which answers what becomes
    /// of the process `index`, whose slice this is. This thread must next wait for its way back, or
    /// leave the slice.
    ///
    /// # Panics
    ///
    /// If this thread has no worker any more: it has stepped aside since it took the stand-in.
    pub fn take_over(self, index: u32, then: impl FnOnce() -> Next + Send + 'static) {
        let worker = worker::take_back().filter(|worker| worker.is_of(&self.shared));
        let mut duty = Duty {
            worker: worker.expect("the thread of a slice has a worker"),
            index,
            then: Box::new(then),
        };
        let mut ready = Some(self.ready);
        loop {
            let Some(next) = ready else {
                // Whatever is in it may wait for this very thread.
                std::mem::forget(duty);
                unreachable!("a stand-in waits for its duty");
            };
            match next.send(duty) {
                Ok(()) => break,
                // That thread has failed when it began.
                Err(mpsc::SendError(unsent)) => duty = unsent,
            }
            ready = self.shared.ready.take();
        }
        self.shared.stepped_aside.fetch_add(1, Ordering::Relaxed);
    }
}

/// The place where a thread that has stepped aside gets a worker again.
pub struct WayBack {
    shared: Arc<Shared>,
    worker: Mutex<Option<Box<Worker>>>,
    given: Condvar,
}

impl fmt::Debug for WayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WayBack")
    }
}

impl WayBack {
    fn new(shared: &Arc<Shared>) -> WayBack {
        shared.aside.fetch_add(1, Ordering::Relaxed);
        WayBack {
            shared: Arc::clone(shared),
            worker: Mutex::new(None),
            given: Condvar::new(),
        }
    }

    /// Waits, on the thread that stepped aside, until the process is run again: see
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

    /// This thread gives its worker away, and is ready to be given another.
    pub(crate) fn give(&self, worker: Box<Worker>) {
        DUTIES.set(self.shared.ready.join());
        *self.worker.lock() = Some(worker);
        self.given.notify_one();
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        self.shared.aside.fetch_sub(1, Ordering::Relaxed);
    }
}
