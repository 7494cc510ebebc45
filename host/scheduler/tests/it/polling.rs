//! Workers that wait at a poller: what is ready there is handled, and nothing that wakes a worker is lost.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use exuvia_scheduler::{Interrupt, MakePoller, Next, Poller, SleepRecord};
use parking_lot::{Condvar, Mutex};

use crate::harness::{Fixture, Procs, Watch, until};

const HOUR: Duration = Duration::from_secs(3600);

/// What is ready: a process to which a message is sent.
#[derive(Default)]
struct Outside {
    ready: Mutex<VecDeque<u32>>,
    changed: Condvar,
    in_use: AtomicBool,
    procs: OnceLock<Weak<Procs>>,
    /// Whether pollers record that they sleep.
    records: AtomicBool,
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
        Arc::new(move |_, sleep| Box::new(Fake::new(Arc::clone(&outside), sleep)))
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

struct Fake {
    outside: Arc<Outside>,
    bell: Arc<Bell>,
    sleep: SleepRecord,
}

struct Bell {
    outside: Arc<Outside>,
    rings: AtomicBool,
}

impl Interrupt for Bell {
    fn interrupt(&self) {
        let _ready = self.outside.ready.lock();
        self.rings.store(true, Ordering::SeqCst);
        self.outside.changed.notify_all();
    }
}

impl Fake {
    fn new(outside: Arc<Outside>, sleep: SleepRecord) -> Fake {
        let bell = Arc::new(Bell {
            outside: Arc::clone(&outside),
            rings: AtomicBool::new(false),
        });
        Fake {
            outside,
            bell,
            sleep,
        }
    }

    fn sleeps(&self, asleep: bool) {
        if self.outside.records.load(Ordering::SeqCst) {
            self.sleep.sleeps(asleep);
        }
    }
}

impl Poller for Fake {
    fn is_in_use(&self) -> bool {
        self.outside.in_use.load(Ordering::SeqCst)
    }

    fn poll(&mut self) {
        self.outside.polls.fetch_add(1, Ordering::SeqCst);
        let ready = std::mem::take(&mut *self.outside.ready.lock());
        if !ready.is_empty() {
            self.outside.handle(ready);
        }
    }

    fn wait(&mut self, time: Option<Duration>) {
        self.outside.waits.fetch_add(1, Ordering::SeqCst);
        let mut waiting = self.outside.ready.lock();
        loop {
            let ready = std::mem::take(&mut *waiting);
            if !ready.is_empty() {
                drop(waiting);
                self.outside.handle(ready);
                waiting = self.outside.ready.lock();
            } else if self.bell.rings.swap(false, Ordering::SeqCst) {
                return;
            } else {
                self.sleeps(true);
                let time = time.unwrap_or(HOUR);
                let slept = self.outside.changed.wait_for(&mut waiting, time);
                self.sleeps(false);
                if slept.timed_out() {
                    return;
                }
            }
        }
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::<Bell>::clone(&self.bell)
    }
}

/// A scheduler whose processes count their messages.
fn counting(workers: usize, procs: usize, outside: &Arc<Outside>) -> (Fixture, Arc<Watch<u64>>) {
    let credits = Watch::<u64>::new();
    let fixture = {
        let credits = Arc::clone(&credits);
        Fixture::with_pollers(workers, procs, outside.pollers(), move |_, slice| {
            credits.update(|credits| *credits += slice.credits);
            Next::Idle
        })
    };
    outside.connect(&fixture);
    (fixture, credits)
}

/// Both sides at random speeds: messages from other threads and from what is ready, for one worker and for several.
#[test]
fn what_is_ready_and_what_comes_from_outside_is_all_handled() {
    const MESSAGES: u64 = 20_000;
    for workers in [1, 3] {
        let outside = Outside::new(true);
        let (fixture, credits) = counting(workers, 8, &outside);
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
    let (fixture, ran) = counting(1, 1, &outside);
    for round in 1..=1_000 {
        outside.happens(0);
        ran.wait(|ran| *ran == round);
    }
    let metrics = fixture.handle.metrics();
    assert_eq!(metrics.total().injector_pops, 0);
    assert_eq!(metrics.outside_unparks, 0);
    // The time at the poller is no sleep but for what the poller records.
    assert_eq!(metrics.total().parked_ns, 0);
    outside.records.store(true, Ordering::SeqCst);
    outside.happens(0);
    until(|| fixture.handle.metrics().total().parked_ns > 0);
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
    let (fixture, ran) = counting(1, 1, &outside);
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
