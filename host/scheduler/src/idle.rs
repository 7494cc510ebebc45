//! Who searches, who sleeps, and how a sleeper is woken without losing a wake.
//!
//! A worker is *awake*, *searching* (awake, out of work, looking at the queues of others) or
//! *parked*. One atomic word counts the searching and the parked; a list under a lock names the
//! parked. Workers and wakers call; the queues are not known here, a closure answers "is there
//! anything to take?".
//!
//! Why searching is a state: a waker need not wake anybody while a searcher is about, since that
//! searcher will look at every queue again before it rests. This keeps wakes cheap, and it is
//! what makes the rules below necessary.
//!
//! # The races, and the step that prevents each
//!
//! 1. *A push from outside against a worker that parks.* The waker pushes, then reads the word; the
//!    worker changes the word, then reads the queues. A `SeqCst` fence sits between the two steps on
//!    both sides, so at least one of them sees the other: either the waker finds a parked worker, or
//!    the worker finds the work in its last look ([`Idle::park`]). Every worker takes that last look,
//!    also one that was not searching: the waker may have seen nobody parked and nobody searching.
//! 2. *A push that trusts a searcher, which then finds other work.* The last searcher to stop looks
//!    at the queues once more, with the same pair of fences, and wakes another worker if anything is
//!    left ([`Idle::end_search`]).
//! 3. *Two wakers for one sleeper.* A waker takes the name off the list under the lock and counts
//!    the sleeper as searching in the same step, so the second waker sees a searcher and stops.
//! 4. *A sleeper that wakes by itself (its deadline, or [`Idle::unpark`]) as a waker claims it.* On
//!    its way out it looks for its name under the lock. The name is there: it removes it. The name is
//!    gone: it has been claimed, and it goes on as a searcher. The claimer's token may arrive later
//!    and makes one later park return at once, which is harmless.
//! 5. *A timer set earlier than what a worker is about to wait for.* The setter stores the timer and
//!    then leaves a token. A token left before the park makes that park return, and the worker asks
//!    for its timers again after every park.
//! 6. *Stop and hold orders* are stored before the token, and read after every park, like timers.
//!
//! A push by a worker to its own queue takes no fence ([`Idle::notify_local`]): the worker is awake,
//! runs the work itself if nobody else does, and asks again at every slice boundary. What a missed
//! notice costs there is parallelism for one slice, not a wake. A worker that will not come to its
//! next boundary soon takes the fence as well.
//!
//! Lock order: the list's lock is a leaf; no token is sent while it is held.

use std::time::Duration;

use crate::sync::{AtomicU32, Mutex, Ordering, Parker, Unparker, fence};

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
    /// Names of the parked. The one that parked last is woken first: its caches are warm.
    sleepers: Mutex<Vec<usize>>,
    unparkers: Box<[Unparker]>,
}

/// The low half of the word.
fn searchers(state: u32) -> u32 {
    state % PARKED
}

/// How a park ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Parked {
    /// The worker is counted as searching now, because a waker claimed it.
    pub searching: bool,
    /// False when the last look found work, so that the thread never slept.
    pub slept: bool,
}

impl Idle {
    /// All workers start awake. Worker `n` waits on the parker of `unparkers[n]`.
    pub fn new(parkers: &[Parker]) -> Self {
        assert!(parkers.len() < PARKED as usize, "counts are 16 bits wide");
        Idle {
            state: AtomicU32::new(0),
            sleepers: Mutex::new(Vec::with_capacity(parkers.len())),
            unparkers: parkers.iter().map(|p| p.unparker().clone()).collect(),
        }
    }

    /// Somebody sleeps and nobody searches: another worker could be put to use. A hint.
    #[inline]
    pub fn wanted(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state >= PARKED && searchers(state) == 0
    }

    /// Call after a push to a queue that no awake worker is sure to look at. Answers whether a
    /// worker was woken.
    pub fn notify_outside(&self) -> bool {
        // Pairs with the fences in `park` and `end_search`: orders the push before the reading.
        fence(Ordering::SeqCst);
        self.notify_local()
    }

    /// Call after a push by a worker to its own queue, and again between its slices while
    /// something waits there. Answers whether a worker was woken.
    #[inline]
    pub fn notify_local(&self) -> bool {
        self.wanted() && self.claim()
    }

    #[cold]
    fn claim(&self) -> bool {
        let claimed = {
            let mut sleepers = self.sleepers.lock();
            // Another waker may have been quicker; its searcher serves us too (race 3).
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

    /// Asks to become a searcher. Half of the workers may search at once: more of them would
    /// mostly take each other's cache lines.
    pub fn start_search(&self) -> bool {
        let searching = searchers(self.state.load(Ordering::Relaxed)) as usize;
        if 2 * searching >= self.unparkers.len() {
            return false;
        }
        self.state.fetch_add(SEARCHING, Ordering::SeqCst);
        true
    }

    /// A searcher has found work and stops searching. `has_work` looks at every queue, the
    /// caller's own too. Answers whether another worker was woken for the rest.
    pub fn end_search(&self, has_work: impl FnOnce() -> bool) -> bool {
        let before = self.state.fetch_sub(SEARCHING, Ordering::SeqCst);
        if searchers(before) != 1 {
            return false;
        }
        // Pairs with the fence in `notify_outside` (race 2).
        fence(Ordering::SeqCst);
        has_work() && self.notify_local()
    }

    /// Rests until a waker claims this worker, [`Idle::unpark`] is called, or `wait` is over.
    /// `has_work` looks at every queue. `searching` tells whether the caller is a searcher, which
    /// it no longer is afterwards, unless the answer says so.
    pub fn park(
        &self,
        worker: usize,
        parker: &Parker,
        searching: bool,
        wait: Option<Duration>,
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
            match wait {
                Some(wait) => parker.park_timeout(wait),
                None => parker.park(),
            }
        }
        Parked {
            searching: !self.withdraw(worker),
            slept,
        }
    }

    /// Takes the worker's own name off the list; false if a waker has done so (race 4).
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

    /// How many workers are parked. For metrics and tests.
    pub fn parked(&self) -> usize {
        (self.state.load(Ordering::Relaxed) / PARKED) as usize
    }
}
