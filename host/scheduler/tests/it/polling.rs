//! Workers that wait at a poller: what is ready there is handled, and nothing that wakes a worker is lost.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use exuvia_scheduler::{Interrupt, MakePoller, Next, Poller};
use parking_lot::{Condvar, Mutex};

use crate::harness::{Fixture, Procs, Watch, until};

/// What a poller says about its sleep.
const ASLEEP: u64 = 1 << 40;

/// What is ready: a process to which a message is sent.
#[derive(Default)]
struct Outside {
    ready: Mutex<VecDeque<u32>>,
    changed: Condvar,
    in_use: AtomicBool,
    procs: OnceLock<Weak<Procs>>,
    /// Number of waits and of looks between slices.
    waits: AtomicU64,
    polls: AtomicU64,
}

impl Outside {
    fn new(in_use: bool) -> Arc<Outside> {
        let outside = Outside::default();
        outside.in_use.store(in_use, Ordering::SeqCst);
        Arc::new(outside)
    }

    /// Makes pollers that share this.
    fn pollers(self: &Arc<Self>) -> MakePoller {
        let outside = Arc::clone(self);
        Arc::new(move |_| Ok(Box::new(Fake::new(Arc::clone(&outside)))))
    }

    fn connect(&self, fixture: &Fixture) {
        let procs = Arc::downgrade(&fixture.procs);
        assert!(self.procs.set(procs).is_ok());
    }

    fn happens(&self, index: u32) {
        self.ready.lock().push_back(index);
        self.changed.notify_all();
    }

    fn handle(&self, ready: VecDeque<u32>) {
        let procs = self.procs.get().and_then(Weak::upgrade);
        let procs = procs.expect("connected before anything happens");
        ready.into_iter().for_each(|index| procs.send(index));
    }
}

#[derive(Clone)]
struct Fake(Arc<Outside>, Arc<AtomicBool>);

impl Fake {
    fn new(outside: Arc<Outside>) -> Fake {
        Fake(outside, Arc::default())
    }
}

impl Interrupt for Fake {
    fn interrupt(&self) {
        let _ready = self.0.ready.lock();
        self.1.store(true, Ordering::SeqCst);
        self.0.changed.notify_all();
    }

    fn asleep_ns(&self) -> u64 {
        ASLEEP
    }
}

impl Poller for Fake {
    fn is_in_use(&self) -> bool {
        self.0.in_use.load(Ordering::SeqCst)
    }

    fn poll(&mut self) {
        self.0.polls.fetch_add(1, Ordering::SeqCst);
        let ready = std::mem::take(&mut *self.0.ready.lock());
        if !ready.is_empty() {
            self.0.handle(ready);
        }
    }

    fn wait(&mut self, time: Option<Duration>) {
        self.0.waits.fetch_add(1, Ordering::SeqCst);
        let mut waiting = self.0.ready.lock();
        loop {
            let ready = std::mem::take(&mut *waiting);
            if !ready.is_empty() {
                drop(waiting);
                self.0.handle(ready);
                waiting = self.0.ready.lock();
            } else if self.1.swap(false, Ordering::SeqCst) {
                return;
            } else if let Some(time) = time {
                if (self.0.changed.wait_for(&mut waiting, time)).timed_out() {
                    return;
                }
            } else {
                self.0.changed.wait(&mut waiting);
            }
        }
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::new(self.clone())
    }
}

/// Both sides at random speeds: messages from other threads and from what is ready, for one worker and for several.
#[test]
fn what_is_ready_and_what_comes_from_outside_is_all_handled() {
    const MESSAGES: u64 = 20_000;
    for workers in [1, 3] {
        let outside = Outside::new(true);
        let credits = Watch::<u64>::new();
        let fixture = {
            let credits = Arc::clone(&credits);
            Fixture::with_pollers(workers, 8, outside.pollers(), move |_, slice| {
                credits.update(|credits| *credits += slice.credits);
                Next::Idle
            })
        };
        outside.connect(&fixture);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for message in 0..MESSAGES {
                    outside.happens((message % 8) as u32);
                    if message % 64 == 0 {
                        credits.wait(|credits| *credits > message / 2);
                    }
                }
            });
            for message in 0..MESSAGES {
                fixture.procs.send((message % 8) as u32);
                if message % 32 == 0 {
                    credits.wait(|credits| *credits > message / 2);
                }
            }
        });
        credits.wait(|credits| *credits == 2 * MESSAGES);
        until(|| fixture.handle.metrics().parked == workers);
        assert!(outside.waits.load(Ordering::SeqCst) > 0);
    }
}

/// What is woken at the poller runs on the worker that was there, and not through the injector.
#[test]
fn what_is_woken_there_stays_with_the_worker() {
    let outside = Outside::new(true);
    let ran = Watch::<u64>::new();
    let fixture = {
        let ran = Arc::clone(&ran);
        Fixture::with_pollers(1, 1, outside.pollers(), move |_, slice| {
            ran.update(|ran| *ran += slice.credits);
            Next::Idle
        })
    };
    outside.connect(&fixture);
    for round in 1..=1_000 {
        outside.happens(0);
        ran.wait(|ran| *ran == round);
    }
    let metrics = fixture.handle.metrics();
    // The time at the poller is no sleep but for what the poller says.
    assert_eq!(metrics.total().parked_ns, ASLEEP);
    assert_eq!(metrics.total().injector_pops, 0);
    assert_eq!(metrics.outside_unparks, 0);
}

/// A worker that is never out of work looks at its poller.
#[test]
fn a_busy_worker_looks_at_its_poller() {
    let outside = Outside::new(true);
    let seen = Arc::new(AtomicBool::new(false));
    let fixture = {
        let seen = Arc::clone(&seen);
        Fixture::with_pollers(1, 2, outside.pollers(), move |_, slice| {
            if slice.index == 1 {
                seen.store(true, Ordering::SeqCst);
            }
            match seen.load(Ordering::SeqCst) {
                true => Next::Idle,
                false => Next::Again,
            }
        })
    };
    outside.connect(&fixture);
    fixture.procs.send(0);
    until(|| fixture.handle.metrics().total().slices > 10);
    outside.happens(1);
    until(|| seen.load(Ordering::SeqCst));
    assert!(outside.polls.load(Ordering::SeqCst) > 0);
}

/// A poller without anything to wait for costs nothing, and is waited at once that has changed.
#[test]
fn a_poller_is_used_from_when_it_has_something() {
    let outside = Outside::new(false);
    let ran = Watch::<u64>::new();
    let fixture = {
        let ran = Arc::clone(&ran);
        Fixture::with_pollers(1, 1, outside.pollers(), move |_, slice| {
            ran.update(|ran| *ran += slice.credits);
            Next::Idle
        })
    };
    outside.connect(&fixture);
    fixture.procs.send(0);
    ran.wait(|ran| *ran == 1);
    until(|| fixture.handle.metrics().parked == 1);
    assert_eq!(outside.waits.load(Ordering::SeqCst), 0);
    outside.in_use.store(true, Ordering::SeqCst);
    fixture.handle.unpark_worker(0);
    outside.happens(0);
    ran.wait(|ran| *ran == 2);
    // And not any more, afterwards.
    outside.in_use.store(false, Ordering::SeqCst);
    fixture.handle.unpark_worker(0);
    fixture.procs.send(0);
    ran.wait(|ran| *ran == 3);
}

/// The stop and a hold reach a worker at its poller.
#[test]
fn orders_end_the_wait() {
    let outside = Outside::new(true);
    let fixture = Fixture::with_pollers(2, 1, outside.pollers(), |_, _| Next::Idle);
    outside.connect(&fixture);
    until(|| outside.waits.load(Ordering::SeqCst) >= 2);
    drop(fixture.handle.hold(0).expect("it runs"));
    drop(fixture);
}
