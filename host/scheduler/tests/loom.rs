//! Loom's model of the parking protocol in `idle`.
//!
//! The queue is a row of relaxed cells, so that it orders nothing by itself: only the protocol's
//! own fences can make a push visible in time. A lost wake appears as a deadlock, which loom
//! reports.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p exuvia-scheduler --target-dir target/loom --test loom --release`

#![cfg(loom)]

use exuvia_scheduler::{Interrupt, idle::Idle, parker::Parker};
use loom::{
    model::Builder,
    sync::{
        Arc, Notify,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// Capacity for `N` pushes over the whole model.
struct Cells<const N: usize>([AtomicBool; N]);

impl<const N: usize> Cells<N> {
    fn new() -> Self {
        Cells(std::array::from_fn(|_| AtomicBool::new(false)))
    }

    fn push(&self, at: usize) {
        self.0[at].store(true, Relaxed);
    }

    fn pop(&self) -> Option<usize> {
        (0..N).find(|&at| {
            self.0[at].load(Relaxed)
                && self.0[at]
                    .compare_exchange(true, false, Relaxed, Relaxed)
                    .is_ok()
        })
    }

    fn has_work(&self) -> bool {
        self.0.iter().any(|cell| cell.load(Relaxed))
    }
}

/// How the workers of a model wait.
#[derive(Clone, Copy)]
enum Wait {
    Asleep,
    AtPoller,
}

/// A poller to which nothing happens but interrupts.
struct Bell(Notify);

impl Interrupt for Bell {
    fn interrupt(&self) {
        self.0.notify();
    }
}

/// Where one worker waits.
struct Seat {
    parker: Parker,
    poller: Option<std::sync::Arc<Bell>>,
}

impl Seat {
    fn new(wait: Wait) -> Seat {
        match wait {
            Wait::Asleep => Seat {
                parker: Parker::new(None),
                poller: None,
            },
            Wait::AtPoller => {
                let bell = std::sync::Arc::new(Bell(Notify::new()));
                Seat {
                    parker: Parker::new(Some(bell.clone())),
                    poller: Some(bell),
                }
            }
        }
    }

    fn park(&self) {
        match &self.poller {
            None => self.parker.park(None),
            Some(bell) => {
                (self.parker.unparker()).park_at_poller(|| bell.0.wait());
            }
        }
    }
}

struct Model<const N: usize> {
    idle: Idle,
    cells: Cells<N>,
    stop: AtomicBool,
    timer: AtomicBool,
}

impl<const N: usize> Model<N> {
    fn new(workers: usize, wait: Wait) -> (Arc<Self>, Vec<Seat>) {
        let seats: Vec<Seat> = (0..workers).map(|_| Seat::new(wait)).collect();
        let model = Arc::new(Model {
            idle: Idle::new(seats.iter().map(|seat| &seat.parker)),
            cells: Cells::new(),
            stop: AtomicBool::new(false),
            timer: AtomicBool::new(false),
        });
        (model, seats)
    }

    fn push(&self, at: usize) {
        self.cells.push(at);
        self.idle.notify_outside();
    }

    /// The loop of a worker without a queue of its own: as in `worker`, but with one round of
    /// search.
    fn work(&self, worker: usize, seat: &Seat, mut slice: impl FnMut(usize)) {
        let mut searching = false;
        while !self.stop.load(Relaxed) {
            searching = searching || self.idle.start_search();
            let found = if searching { self.cells.pop() } else { None };
            if let Some(at) = found {
                searching = false;
                self.idle.end_search(|| self.cells.has_work());
                slice(at);
                continue;
            }
            let parked =
                self.idle
                    .park(worker, searching, || seat.park(), || self.cells.has_work());
            searching = parked.searching;
            // Tells loom that a worker that did not sleep waits for others.
            if !parked.slept {
                thread::yield_now();
            }
        }
    }

    fn stop(&self, workers: usize) {
        self.stop.store(true, Relaxed);
        (0..workers).for_each(|worker| self.idle.unpark(worker));
    }
}

fn check(preemptions: usize, f: impl Fn(Wait) + Copy + Sync + Send + 'static) {
    for wait in [Wait::Asleep, Wait::AtPoller] {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(move || f(wait));
    }
}

/// Race 1: pushes from outside against one worker that parks.
#[test]
fn an_external_push_is_never_lost() {
    check(4, |wait| {
        let (model, mut seats) = Model::<2>::new(1, wait);
        let seat = seats.remove(0);
        let worker = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let mut left = 2;
                model.work(0, &seat, |_| {
                    left -= 1;
                    if left == 0 {
                        model.stop(1);
                    }
                });
            })
        };
        model.push(0);
        model.push(1);
        worker.join().expect("worker");
    });
}

/// Races 2 and 3: two pushes reach two workers. The slice of the first waits for the second, so
/// one worker alone could not finish.
#[test]
fn two_pushes_reach_two_workers() {
    check(2, |wait| {
        let (model, seats) = Model::<2>::new(2, wait);
        let meeting = Arc::new((AtomicUsize::new(0), [Seat::new(wait), Seat::new(wait)]));
        let workers: Vec<_> = seats
            .into_iter()
            .enumerate()
            .map(|(number, seat)| {
                let (model, meeting) = (Arc::clone(&model), Arc::clone(&meeting));
                thread::spawn(move || {
                    model.work(number, &seat, |_| {
                        let (met, doors) = &*meeting;
                        if met.fetch_add(1, Relaxed) == 0 {
                            // Blocks this worker until the other one has a slice as well.
                            doors[0].park();
                        } else {
                            doors[0].parker.unparker().unpark();
                            model.stop(2);
                        }
                    });
                })
            })
            .collect();
        model.push(0);
        model.push(1);
        for worker in workers {
            worker.join().expect("worker");
        }
        assert_eq!(meeting.0.load(Relaxed), 2);
    });
}

/// Races 4 and 5: a token for a timer arrives while a push claims the sleeper. Both must be seen,
/// and the counts must be balanced.
#[test]
fn a_timer_and_a_push_both_reach_the_worker() {
    check(3, |wait| {
        let (model, mut seats) = Model::<1>::new(1, wait);
        let seat = seats.remove(0);
        let worker = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let mut ran = false;
                let mut searching = false;
                let mut fired = false;
                while !(ran && fired) {
                    // No swap: loom would let it miss a store that it does not order.
                    fired |= model.timer.load(Relaxed);
                    searching = searching || model.idle.start_search();
                    if model.cells.pop().is_some() {
                        ran = true;
                        searching = false;
                        model.idle.end_search(|| model.cells.has_work());
                        continue;
                    }
                    if fired && ran {
                        break;
                    }
                    searching = model
                        .idle
                        .park(0, searching, || seat.park(), || model.cells.has_work())
                        .searching;
                }
                if searching {
                    model.idle.end_search(|| false);
                }
            })
        };
        let timer = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                model.timer.store(true, Relaxed);
                model.idle.unpark(0);
            })
        };
        model.push(0);
        timer.join().expect("timer");
        worker.join().expect("worker");
        assert_eq!(model.idle.parked(), 0);
        assert!(
            model.idle.start_search(),
            "no worker is counted as searching"
        );
    });
}

/// Race 6: stop reaches a worker wherever it is.
#[test]
fn stop_reaches_workers_that_park() {
    check(3, |wait| {
        let (model, seats) = Model::<1>::new(2, wait);
        let workers: Vec<_> = seats
            .into_iter()
            .enumerate()
            .map(|(number, seat)| {
                let model = Arc::clone(&model);
                thread::spawn(move || model.work(number, &seat, |_| {}))
            })
            .collect();
        model.stop(2);
        for worker in workers {
            worker.join().expect("worker");
        }
    });
}
