//! Slices that block in place, and resume on whichever worker runs them next.

use std::{
    collections::HashSet,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
    time::Duration,
};

use exuvia_scheduler::{Config, Handle, Next, ResumeHandle, Run, SPARE, Scheduler};
use parking_lot::Mutex;

use crate::harness::{Watch, until};

/// A process whose slice takes one message after another, and blocks in place when it has none.
#[derive(Default)]
struct Proc {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: u64,
    queued: bool,
    running: bool,
    /// Where its slice waits.
    suspended: Option<Arc<ResumeHandle>>,
    /// Signals that its slice must end without having been resumed.
    given_up: Option<mpsc::Sender<()>>,
}

struct Procs {
    handle: OnceLock<Handle>,
    procs: Vec<Proc>,
    /// Messages that a slice takes before it ends; it blocks in place for those that have not
    /// arrived yet.
    messages_of_slice: u64,
    taken: Arc<Watch<u64>>,
    refused: AtomicU64,
    threads: Mutex<HashSet<(u32, ThreadId)>>,
    itself: Weak<Procs>,
}

impl Procs {
    fn handle(&self) -> &Handle {
        self.handle.get().expect("set before the first wake")
    }

    fn send(&self, index: u32) {
        let mut state = self.procs[index as usize].state.lock();
        state.messages += 1;
        if !state.running && !state.queued {
            state.queued = true;
            drop(state);
            self.handle().wake(index);
        }
    }

    /// Ends a slice, or the part of it before it blocks.
    fn rest(&self, index: u32, suspended: Option<Arc<ResumeHandle>>) -> Next {
        let mut state = self.procs[index as usize].state.lock();
        state.running = false;
        state.suspended = suspended;
        if state.messages == 0 {
            return Next::Idle;
        }
        state.queued = true;
        Next::Again
    }

    /// Waits for a message in the middle of the slice. Returns false if the slice must end.
    fn block_in_place(&self, index: u32) -> bool {
        if !self.handle().may_block_in_place() {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return false;
        }
        let spare_thread = self.handle().spare_thread().expect("it is a worker");
        let resume_handle = spare_thread.resume_handle();
        let procs = self.itself.upgrade().expect("it runs");
        let (give_up, given_up) = mpsc::channel();
        self.procs[index as usize].state.lock().given_up = Some(give_up);
        spare_thread.take_over(index, {
            let resume_handle = Arc::clone(&resume_handle);
            move || procs.rest(index, Some(resume_handle))
        });
        if given_up.recv().is_ok() {
            return false;
        }
        resume_handle.wait();
        assert!(self.handle().current_worker().is_some());
        true
    }
}

impl Run for Procs {
    fn run(&self, worker: usize, index: u32) -> Next {
        assert_eq!(self.handle().current_worker(), Some(worker));
        {
            let mut state = self.procs[index as usize].state.lock();
            assert!(state.queued && !state.running, "run when it should not be");
            state.queued = false;
            state.running = true;
            if let Some(resume_handle) = state.suspended.take() {
                state.given_up = None;
                return Next::Elsewhere(resume_handle);
            }
        }
        let me = (index, thread::current().id());
        let mut left = self.messages_of_slice;
        while left > 0 {
            let has = {
                let mut state = self.procs[index as usize].state.lock();
                let has = state.messages > 0;
                state.messages -= u64::from(has);
                has
            };
            if has {
                left -= 1;
                assert_eq!(me.1, thread::current().id());
                self.threads.lock().insert(me);
                self.taken.update(|taken| *taken += 1);
            } else if !self.block_in_place(index) {
                break;
            }
        }
        if self.handle().current_worker().is_none() {
            // It was given up while it was blocked: another slice has the process.
            return Next::Idle;
        }
        self.rest(index, None)
    }

    fn tick(&self, _: usize) -> Option<Duration> {
        None
    }
}

fn start(workers: usize, procs: usize, messages_of_slice: u64) -> (Scheduler, Arc<Procs>) {
    let procs = Arc::new_cyclic(|itself| Procs {
        handle: OnceLock::new(),
        procs: (0..procs).map(|_| Proc::default()).collect(),
        messages_of_slice,
        taken: Watch::new(),
        refused: AtomicU64::new(0),
        threads: Mutex::default(),
        itself: itself.clone(),
    });
    let config = Config {
        workers,
        ..Config::default()
    };
    let scheduler = Scheduler::start(config, Arc::clone(&procs)).expect("start");
    procs.handle.set(scheduler.handle()).expect("set once");
    assert!(procs.handle().may_block_in_place());
    (scheduler, procs)
}

#[test]
fn the_worker_continues_while_a_slice_blocks_in_place() {
    let (scheduler, procs) = start(1, 2, 3);
    for round in 1..=3 {
        // Each takes one message and waits in the same slice for the next: the only worker is free
        // for the other.
        procs.send(0);
        procs.send(1);
        procs.taken.wait(move |taken| *taken == 2 * round);
        until(|| procs.handle().metrics().parked == 1);
        let suspended = if round < 3 { 2 } else { 0 };
        until(|| procs.handle().blocked_threads() == suspended);
    }
    // A slice resumes on the thread that it is on.
    assert_eq!(procs.threads.lock().len(), 2);
    assert_eq!(procs.handle().blocked_in_place(), 4);
    drop(scheduler);
}

#[test]
fn slices_resume_on_whichever_worker_runs_them() {
    // All may be blocked at once.
    const PROCS: usize = SPARE;
    const ROUNDS: u64 = 400;
    let (scheduler, procs) = start(4, PROCS, 7);
    let senders: Vec<_> = (0..2)
        .map(|half| {
            let procs = Arc::clone(&procs);
            thread::spawn(move || {
                for round in 0..ROUNDS {
                    for index in (0..PROCS as u32).filter(|index| index % 2 == half) {
                        procs.send(index);
                    }
                    if round % 16 == 0 {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("it sends");
    }
    procs.taken.wait(|taken| *taken == ROUNDS * PROCS as u64);
    assert_eq!(procs.refused.load(Ordering::SeqCst), 0);
    drop(scheduler);
}

#[test]
fn no_more_slices_than_the_limit_block_in_place() {
    // One spare thread is left for each worker, and one further slice may take the last.
    const MOST: u32 = SPARE as u32 + 1;
    const PROCS: u32 = MOST + 8;
    let (scheduler, procs) = start(2, PROCS as usize, 2);
    for index in 0..PROCS {
        procs.send(index);
        procs
            .taken
            .wait(move |taken| *taken == u64::from(index) + 1);
    }
    until(|| procs.refused.load(Ordering::SeqCst) == 8);
    assert_eq!(procs.handle().blocked_threads(), MOST as usize);
    // They still work as before.
    (0..PROCS).for_each(|index| procs.send(index));
    procs.taken.wait(|taken| *taken == 2 * u64::from(PROCS));
    drop(scheduler);
}

/// The stop does not wait for blocked threads, and they exit when they are given up.
#[test]
fn an_abandoned_slice_ends_with_its_thread() {
    let (scheduler, procs) = start(2, 3, 2);
    (0..3).for_each(|index| procs.send(index));
    // The count alone is too early to tell that a slice waits: it includes slices that are about
    // to.
    let waits = |proc: &Proc| proc.state.lock().suspended.is_some();
    until(|| procs.procs.iter().all(waits));
    assert_eq!(procs.handle().blocked_threads(), 3);
    // One of them while the workers run.
    let give_up = |index: usize| {
        let mut state = procs.procs[index].state.lock();
        state.suspended = None;
        let given_up = state.given_up.take().expect("it waits");
        given_up.send(()).expect("it waits");
    };
    give_up(0);
    until(|| procs.handle().blocked_threads() == 2);
    scheduler.shutdown();
    assert_eq!(procs.handle().blocked_threads(), 2);
    give_up(1);
    give_up(2);
    // The test's reference is the last: no thread is left.
    until(|| Arc::strong_count(&procs) == 1);
    assert_eq!(procs.handle().blocked_threads(), 0);
}

#[test]
fn only_a_worker_has_a_spare_thread() {
    let (scheduler, procs) = start(1, 1, 1);
    let (other, _) = start(1, 1, 1);
    assert!(procs.handle().spare_thread().is_none());
    assert!(other.handle().spare_thread().is_none());
    assert_eq!(procs.handle().blocked_threads(), 0);
    drop(scheduler);
}
