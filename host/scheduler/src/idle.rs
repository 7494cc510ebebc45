//! Which workers search, which sleep, and how a sleeper is woken without losing a wake.
//!
//! A worker is *awake*, *searching* (awake, out of work, checking the queues of others) or
//! *parked*. One atomic word counts the searching and the parked workers; a list under a lock names
//! the parked ones. Workers and wakers call this module; it does not know the queues, so a closure
//! returns whether there is anything to take.
//!
//! Why searching is a state: a waker need not wake a worker while another one searches, since the
//! searcher will check every queue again before it parks. This keeps wakes cheap, and it is what
//! makes the rules below necessary.
//!
//! # The races, and the step that prevents each
//!
//! 1. *A push from outside against a worker that parks.* The waker pushes, then reads the word; the
//!    worker changes the word, then reads the queues. A `SeqCst` fence sits between the two steps
//!    on both sides, so at least one of them sees the other: either the waker finds a parked
//!    worker, or the worker finds the work in its last check ([`Idle::park`]). Every worker does
//!    that last check, also one that was not searching: the waker may have seen no parked and no
//!    searching worker.
//! 2. *A push that relies on a searcher, which then finds other work.* The last searcher to stop
//!    checks the queues once more, with the same pair of fences, and wakes another worker if
//!    anything is left ([`Idle::end_search`]).
//! 3. *Two wakers for one sleeper.* A waker takes the name off the list under the lock and counts
//!    the sleeper as searching in the same step, so the second waker sees a searcher and stops.
//! 4. *A sleeper that wakes by itself (its deadline, or [`Idle::unpark`]) while a waker claims it.*
//!    On waking it looks for its name under the lock. If the name is there, it removes it. If the
//!    name is gone, it has been claimed, and it continues as a searcher. The claimer's token may
//!    arrive later and makes one later park return at once, which is harmless.
//! 5. *A timer set earlier than what a worker is about to wait for.* The setter stores the timer
//!    and then leaves a token. A token left before the park makes that park return, and the worker
//!    checks its timers again after every park.
//! 6. *Stop and hold orders* are stored before the token, and read after every park, like timers.
//!
//! A push by a worker to its own queue takes no fence ([`Idle::notify_local`]): the worker is
//! awake, runs the work itself if no other worker does, and checks again at every slice boundary.
//! What a missed notification costs there is parallelism for one slice, not a wake. A worker that
//! will not reach its next slice boundary soon uses the fence as well.
//!
//! Lock order: the list's lock is a leaf; no token is sent while it is held.

use crate::{
    parker::{Parker, Unparker},
    sync::{AtomicU32, Mutex, Ordering, fence},
};

/// One searching worker in the low half of the word.
const SEARCHING: u32 = 1;
/// One parked worker in the high half. It changes only under the list's lock.
const PARKED: u32 = 1 << 16;

/// The shared record of idle workers.
#[derive(Debug)]
pub struct Idle {
    /// Counts of searching and parked workers. Each change is `SeqCst`, so that it is ordered with
    /// the fences of the pushes (race 1).
    state: AtomicU32,
    /// Numbers of the parked workers. The one that parked last is woken first: its caches are warm.
    sleepers: Mutex<Vec<usize>>,
    unparkers: Box<[Unparker]>,
}

/// Returns the low half of the word.
fn searchers(state: u32) -> u32 {
    state % PARKED
}

/// The outcome of a park.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Parked {
    /// The worker is counted as searching now, because a waker claimed it.
    pub searching: bool,
    /// False if the last check found work, so that the thread never slept.
    pub slept: bool,
}

impl Idle {
    /// Creates the record, with all workers awake. Worker `n` waits on the parker of
    /// `unparkers[n]`.
    pub fn new<'a>(parkers: impl Iterator<Item = &'a Parker>) -> Self {
        let unparkers: Box<[Unparker]> = parkers.map(|p| p.unparker().clone()).collect();
        assert!(unparkers.len() < PARKED as usize, "counts are 16 bits wide");
        Idle {
            state: AtomicU32::new(0),
            sleepers: Mutex::new(Vec::with_capacity(unparkers.len())),
            unparkers,
        }
    }

    /// Returns whether a worker sleeps and none searches, so that another one could be used. A
    /// hint.
    #[inline]
    pub fn wanted(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state >= PARKED && searchers(state) == 0
    }

    /// Call after a push to a queue that no awake worker is sure to check. Returns whether a worker
    /// was woken.
    pub fn notify_outside(&self) -> bool {
        // Pairs with the fences in `park` and `end_search`: orders the push before the load.
        fence(Ordering::SeqCst);
        self.notify_local()
    }

    /// Call after a push by a worker to its own queue, and again between its slices while something
    /// waits there. Returns whether a worker was woken.
    #[inline]
    pub fn notify_local(&self) -> bool {
        self.wanted() && self.claim()
    }

    #[cold]
    fn claim(&self) -> bool {
        let claimed = {
            let mut sleepers = self.sleepers.lock();
            // Another waker may have been faster; its searcher serves this push too (race 3).
            if searchers(self.state.load(Ordering::Relaxed)) != 0 {
                return false;
            }
            let claimed = sleepers.pop();
            if claimed.is_some() {
                self.state
                    .fetch_add(SEARCHING.wrapping_sub(PARKED), Ordering::SeqCst);
            }
            claimed
        };
        match claimed {
            Some(worker) => {
                self.unparkers[worker].unpark();
                true
            }
            None => false,
        }
    }

    /// Tries to become a searcher. Returns false if half of the workers search already: more of
    /// them would mostly contend for cache lines.
    pub fn start_search(&self) -> bool {
        let searching = searchers(self.state.load(Ordering::Relaxed)) as usize;
        if 2 * searching >= self.unparkers.len() {
            return false;
        }
        self.state.fetch_add(SEARCHING, Ordering::SeqCst);
        true
    }

    /// Ends the search of a worker that has found work. `has_work` checks every queue, including
    /// the caller's own. Returns whether another worker was woken for the rest.
    pub fn end_search(&self, has_work: impl FnOnce() -> bool) -> bool {
        let before = self.state.fetch_sub(SEARCHING, Ordering::SeqCst);
        if searchers(before) != 1 {
            return false;
        }
        // Pairs with the fence in `notify_outside` (race 2).
        fence(Ordering::SeqCst);
        has_work() && self.notify_local()
    }

    /// Parks until a waker claims this worker, [`Idle::unpark`] is called, or `sleep` returns by
    /// itself. `sleep` waits at the parker that [`Idle::new`] was given for this worker. `has_work`
    /// checks every queue. `searching` says whether the caller is a searcher; afterwards it is one
    /// only if the returned value says so.
    pub fn park(
        &self,
        worker: usize,
        searching: bool,
        sleep: impl FnOnce(),
        has_work: impl FnOnce() -> bool,
    ) -> Parked {
        {
            let mut sleepers = self.sleepers.lock();
            sleepers.push(worker);
            let leaving = if searching { SEARCHING } else { 0 };
            self.state
                .fetch_add(PARKED.wrapping_sub(leaving), Ordering::SeqCst);
        }
        // Pairs with the fence in `notify_outside` (race 1).
        fence(Ordering::SeqCst);
        let slept = !has_work();
        if slept {
            sleep();
        }
        Parked {
            searching: !self.withdraw(worker),
            slept,
        }
    }

    /// Removes the worker's own name from the list. Returns false if a waker has done so (race 4).
    fn withdraw(&self, worker: usize) -> bool {
        let mut sleepers = self.sleepers.lock();
        match sleepers.iter().position(|&name| name == worker) {
            Some(at) => {
                sleepers.remove(at);
                self.state.fetch_sub(PARKED, Ordering::SeqCst);
                true
            }
            None => false,
        }
    }

    /// Makes the worker return from its current park, or from its next one at once.
    pub fn unpark(&self, worker: usize) {
        self.unparkers[worker].unpark();
    }

    /// Returns the number of parked workers, for metrics and tests.
    pub fn parked(&self) -> usize {
        (self.state.load(Ordering::Relaxed) / PARKED) as usize
    }
}
