//! Another thread goes on as a worker while a slice waits.
//!
//! A slice ends by returning. One that must wait in the middle of code which cannot return yet has its
//! thread step aside: it makes a stand-in, gives it its worker and what is left to do of the slice,
//! and may then block as long as it likes. When the process is run again, the slice in which that
//! happens answers [`Next::Elsewhere`](crate::Next::Elsewhere): its thread gives its worker to the one
//! that stepped aside, and ends. So there are always as many threads that work as there are workers.
//!
//! A thread aside that is never asked back ends when its `run` returns.
//!
//! It costs a thread made for each time, some 20 us, so it is for what happens seldom. Tokio's
//! `block_in_place` does the same for a while; here the way back may lead to another worker.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
};

use parking_lot::{Condvar, Mutex};

use crate::{
    scheduler::{Next, Run},
    shared::Shared,
    worker::{self, Worker},
};

/// When so many threads are aside, [`Handle::may_step_aside`](crate::Handle::may_step_aside) says no.
/// Each has a stack. Slices that have asked before make it one more for each worker.
pub const MAX_ASIDE: usize = 64;

/// What is left to do of a slice whose thread has stepped aside.
type Then = Box<dyn FnOnce() -> Next + Send>;

/// What a stand-in is given.
struct Duty {
    worker: Box<Worker>,
    index: u32,
    then: Then,
}

/// Makes a thread that waits for its duty.
#[derive(Clone)]
pub(crate) struct Relay(Arc<dyn Fn() -> Option<mpsc::Sender<Duty>> + Send + Sync>);

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relay")
    }
}

impl Relay {
    /// For the workers that drive `run`; their threads are made by `builder`.
    pub(crate) fn new<R: Run + ?Sized>(
        run: Arc<R>,
        builder: impl Fn() -> thread::Builder + Send + Sync + 'static,
    ) -> Relay {
        Relay(Arc::new(move || {
            let (give, given) = mpsc::channel::<Duty>();
            let run = Arc::clone(&run);
            let made = builder().spawn(move || {
                // Nobody stepped aside after all, if there is none.
                if let Ok(duty) = given.recv() {
                    duty.begin(run);
                }
            });
            made.is_ok().then_some(give)
        }))
    }
}

impl Duty {
    fn begin<R: Run + ?Sized>(self, run: Arc<R>) {
        let Duty {
            worker,
            index,
            then,
        } = self;
        // The change has taken as long as many slices: enough for those outside to wait.
        worker.look_outside();
        worker::publish(worker);
        let outcome = catch_unwind(AssertUnwindSafe(then));
        let worker = worker::take_back().and_then(|w| w.after_slice(&*run, index, outcome));
        if let Some(worker) = worker {
            worker.work(run);
        }
    }
}

/// A thread that is ready to go on as a worker. Dropped, it ends.
pub struct StandIn {
    shared: Arc<Shared>,
    give: mpsc::Sender<Duty>,
    way_back: Arc<WayBack>,
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandIn")
    }
}

impl StandIn {
    /// Makes one for the worker of this thread.
    pub(crate) fn new(shared: &Arc<Shared>) -> Option<StandIn> {
        let relay = worker::with_current(shared, |worker| worker.relay.clone())?;
        Some(StandIn {
            shared: Arc::clone(shared),
            give: (relay.0)()?,
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
    /// If this thread has no worker any more: it has stepped aside since the stand-in was made.
    pub fn take_over(self, index: u32, then: impl FnOnce() -> Next + Send + 'static) {
        let worker = worker::take_back().filter(|worker| worker.is_of(&self.shared));
        let duty = Duty {
            worker: worker.expect("the thread of a slice has a worker"),
            index,
            then: Box::new(then),
        };
        // It waits for nothing else.
        assert!(
            self.give.send(duty).is_ok(),
            "a stand-in waits for its duty"
        );
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

    pub(crate) fn give(&self, worker: Box<Worker>) {
        *self.worker.lock() = Some(worker);
        self.given.notify_one();
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        self.shared.aside.fetch_sub(1, Ordering::Relaxed);
    }
}
