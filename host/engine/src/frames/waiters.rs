//! Processes that wait for a frame: in queues of their own, not in a run queue. Whatever
//! makes a frame available (it is free, its process has come to rest, it is dropped) calls
//! one of them, which then tries again. So waiting costs nothing. Each version has a queue,
//! in which those that have waited longest come first, and the versions take turns. A
//! process that is called in vain, because its version is denied further frames (see
//! `census`), passes the call on to the next version, and so on, each version once.
//!
//! No call is lost: a process is in the queue before its last try, and a frame is available
//! before `count` is read. A frame becomes available under a pool's lock, which orders the
//! two, or by the end of its process's turn: there `count` and the run state
//! (`StateWord::transition_to_idle`, `StateWord::claim`) are SeqCst. A process that is
//! called but does not need a frame any more calls the next.
//!
//! When the system is out of memory or mappings for frames, no process may try for a while
//! (see `capacity`), and nothing happens at the end of that time: so a process that starts
//! to wait then sets itself a timer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exuvia_process::Due;
use foldhash::fast::FixedState;
use parking_lot::Mutex;

use crate::frames::capacity::{self, SystemCapacity};
use crate::frames::pool::Pool;
use crate::guest::GuestSystem;

/// The queues of the processes that wait for a frame.
#[derive(Debug)]
pub(crate) struct Waiters {
    system: Arc<GuestSystem>,
    capacity: Arc<SystemCapacity>,
    /// The number of waiting processes, so that the lock is not taken if there are none.
    count: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Versions whose processes wait, in the order of their turns.
    versions: VecDeque<Version>,
    state: HashMap<u32, State, FixedState>,
}

#[derive(Debug)]
struct Version {
    pool: Arc<Pool>,
    /// Process slots, in order. One that is not in `state` as waiting has left.
    order: VecDeque<u32>,
}

impl Queue {
    /// Removes and returns the next waiting process, of the version whose turn it is.
    fn next(&mut self) -> Option<u32> {
        while let Some(mut version) = self.versions.pop_front() {
            let waits = |slot: &u32| matches!(self.state.get(slot), Some(State::Waits { .. }));
            let slot = loop {
                match version.order.pop_front() {
                    Some(slot) if waits(&slot) => break Some(slot),
                    Some(_) => {}
                    None => break None,
                }
            };
            if slot.is_some() {
                self.versions.push_back(version);
                return slot;
            }
        }
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue; `short`: because the system is out of memory or mappings at the
    /// moment.
    Waits { short: bool },
    /// A frame has become available for it, or for a process of one of so many other
    /// versions.
    Called { others: usize },
}

/// Whether a process may try to get a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turnstile {
    /// It does not wait for one.
    Free,
    /// It has waited, and may try now. If it tries in vain, so many other versions are
    /// called.
    Called { others: usize },
    /// It waits.
    Waits,
}

impl Waiters {
    pub(crate) fn new(system: Arc<GuestSystem>, capacity: Arc<SystemCapacity>) -> Waiters {
        Waiters {
            system,
            capacity,
            count: AtomicUsize::new(0),
            queue: Mutex::default(),
        }
    }

    /// Returns how many processes wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Returns whether a process may try now. Called at the beginning of its turn.
    #[inline]
    pub(crate) fn may_try(&self, slot: u32) -> Turnstile {
        match self.len() {
            0 => Turnstile::Free,
            _ => self.ask(slot),
        }
    }

    #[cold]
    fn ask(&self, slot: u32) -> Turnstile {
        let mut queue = self.queue.lock();
        let others = match queue.state.get(&slot) {
            None => return Turnstile::Free,
            Some(State::Called { others }) => *others,
            Some(State::Waits { short: false }) => return Turnstile::Waits,
            // It is not called; its timer wakes it when it may try.
            Some(State::Waits { short: true }) if self.capacity.is_short(&self.system.clock) => {
                return Turnstile::Waits;
            }
            Some(State::Waits { short: true }) => 0,
        };
        self.remove(&mut queue, slot);
        Turnstile::Called { others }
    }

    fn remove(&self, queue: &mut Queue, slot: u32) -> Option<State> {
        let state = queue.state.remove(&slot)?;
        self.count.fetch_sub(1, Ordering::SeqCst);
        Some(state)
    }

    /// Puts a process of a version into its queue. The process tries once more after that.
    pub(crate) fn join(&self, slot: u32, pool: &Arc<Pool>) {
        let short = self.capacity.is_short(&self.system.clock);
        let mut queue = self.queue.lock();
        if queue.state.insert(slot, State::Waits { short }).is_none() {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        let Queue { versions, state } = &mut *queue;
        let mut known = versions.iter_mut();
        match known.find(|version| Arc::ptr_eq(&version.pool, pool)) {
            Some(version) => {
                version.order.push_back(slot);
                if version.order.len() > 2 * state.len() + 64 {
                    (version.order)
                        .retain(|slot| matches!(state.get(slot), Some(State::Waits { .. })));
                }
            }
            None => versions.push_back(Version {
                pool: pool.clone(),
                order: VecDeque::from([slot]),
            }),
        }
        drop(queue);
        if short && let Some(pid) = self.system.pid(slot) {
            let wake = |_| Due::Wake(pid);
            self.system.set_timer(pid, capacity::PAUSE, wake);
        }
    }

    /// Removes a process that has got a frame in another way, or has ended.
    pub(crate) fn leave(&self, slot: u32) {
        if self.len() == 0 {
            return;
        }
        let left = self.remove(&mut self.queue.lock(), slot);
        if let Some(State::Called { .. }) = left {
            self.call();
        }
    }

    /// Reports that a frame, or the slot of one, has become available: lets the next waiting
    /// process try again.
    #[inline]
    pub(crate) fn call(&self) {
        if self.len() > 0 {
            self.call_next(None);
        }
    }

    /// Reports that a process that was called has found no frame for its version: lets one of
    /// another version try, of so many.
    pub(crate) fn pass_on(&self, others: usize) {
        if let Some(others) = others.checked_sub(1) {
            self.call_next(Some(others));
        }
    }

    /// `others`: how many versions are called after this one if it is called in vain; `None`:
    /// all.
    #[cold]
    fn call_next(&self, others: Option<usize>) {
        let mut queue = self.queue.lock();
        let Some(called) = queue.next() else {
            return;
        };
        let others = others.unwrap_or(queue.versions.len() - 1);
        if let Some(state) = queue.state.get_mut(&called) {
            *state = State::Called { others };
        }
        drop(queue);
        if let Some(slot) = self.system.table.slot(called) {
            self.system.apply(called, slot.state.notify());
        }
    }
}
