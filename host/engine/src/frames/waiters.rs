//! Processes that wait for a frame: in queues of their own, not in a run queue. Whatever
//! makes a frame available (it is free, its process has come to rest, it is dropped) calls
//! one of them, which then tries again. So waiting costs nothing. Each version has a queue,
//! in which those that have waited longest come first, and the versions take turns. A
//! process that is called in vain, because its version is denied further frames (see
//! `census`), passes the call on to the next version, and so on, each version once.
//!
//! A process may wait in a frame that is of no use to it: one on a thread's stack when it needs a
//! fiber. When it comes to rest there, its frame is available to others, but it is not called for
//! that itself.
//!
//! No call is lost: a process is in the queue before its last try, and a frame is available
//! before `count` is read. A frame becomes available under a pool's lock, which orders the
//! two, or by the end of its process's turn: there `count` and the run state
//! (`StateWord::transition_to_idle`, `StateWord::claim`) are SeqCst. A process that is
//! called but does not need a frame any more calls the next.
//!
//! When the system is out of memory or mappings for frames, no process may try for a while
//! (see `capacity`), and nothing happens at the end of that time: so a process that starts
//! to wait then sets itself a timer, and another one if that while is longer by then.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exuvia_process::Due;
use foldhash::fast::FixedState;
use parking_lot::Mutex;

use crate::frames::capacity::{self, SystemCapacity};
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
    versions: VecDeque<VersionQueue>,
    /// By process slot.
    waiters: HashMap<u32, Waiter, FixedState>,
    /// The number of the last process that has joined.
    number: u64,
}

#[derive(Debug)]
struct VersionQueue {
    /// The artifact's id.
    artifact: u64,
    order: VecDeque<Entry>,
}

/// A process that has joined a queue. It is stale once the process has left or was called: the
/// process slot may be another process's then, or the process may have joined again.
#[derive(Clone, Copy, Debug)]
struct Entry {
    slot: u32,
    number: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue. `retry_at`: the time of its timer, if the system was out of memory or mappings.
    Waits { retry_at: Option<u64> },
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

impl Waiter {
    fn is_of(&self, entry: Entry) -> bool {
        self.number == entry.number && matches!(self.state, State::Waits { .. })
    }
}

impl Queue {
    /// Removes the next waiting process, of the version whose turn it is; never `except`. Returns its
    /// process slot, and how many other versions there are.
    fn next(&mut self, except: Option<u32>) -> Option<(u32, usize)> {
        for _ in 0..self.versions.len() {
            let mut version = self.versions.pop_front()?;
            let others = self.versions.len();
            let next = version.next(&self.waiters, except);
            if !version.order.is_empty() {
                self.versions.push_back(version);
            }
            if let Some(slot) = next {
                return Some((slot, others));
            }
        }
        None
    }

    /// Appends a process to the queue of its version.
    fn push(&mut self, artifact: u64, entry: Entry) {
        let Queue {
            versions, waiters, ..
        } = self;
        let mut known = versions.iter_mut();
        let Some(version) = known.find(|version| version.artifact == artifact) else {
            let order = VecDeque::from([entry]);
            versions.push_back(VersionQueue { artifact, order });
            return;
        };
        version.order.push_back(entry);
        if version.order.len() > 2 * waiters.len() + 64 {
            let waits = |entry: &Entry| waiters.get(&entry.slot).is_some_and(|w| w.is_of(*entry));
            version.order.retain(waits);
        }
    }
}

impl VersionQueue {
    /// Does the same for one version.
    fn next(
        &mut self,
        waiters: &HashMap<u32, Waiter, FixedState>,
        except: Option<u32>,
    ) -> Option<u32> {
        let mut passed = None;
        let next = loop {
            let Some(entry) = self.order.pop_front() else {
                break None;
            };
            let waits = waiters.get(&entry.slot).is_some_and(|w| w.is_of(entry));
            match waits {
                true if except == Some(entry.slot) => passed = Some(entry),
                true => break Some(entry.slot),
                false => {}
            }
        };
        if let Some(entry) = passed {
            self.order.push_front(entry);
        }
        next
    }
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

    /// Returns whether a process that has joined may try now. Called at the beginning of its turn.
    pub(crate) fn may_try(&self, slot: u32) -> Turnstile {
        let clock = &self.system.clock;
        let mut queue = self.queue.lock();
        let Some(waiter) = queue.waiters.get_mut(&slot) else {
            return Turnstile::Free;
        };
        let others = match &mut waiter.state {
            State::Called { others } => *others,
            State::Waits { retry_at: None } => return Turnstile::Waits,
            // It is not called; its timer wakes it when it may try.
            State::Waits { retry_at: Some(at) } if self.capacity.is_short(clock) => {
                let now = clock.now();
                if now >= *at {
                    *at = now.saturating_add(capacity::PAUSE);
                    drop(queue);
                    self.set_timer(slot);
                }
                return Turnstile::Waits;
            }
            State::Waits { retry_at: Some(_) } => 0,
        };
        self.remove(&mut queue, slot);
        Turnstile::Called { others }
    }

    fn remove(&self, queue: &mut Queue, slot: u32) -> Option<State> {
        let waiter = queue.waiters.remove(&slot)?;
        self.count.fetch_sub(1, Ordering::SeqCst);
        if queue.waiters.is_empty() {
            queue.versions.clear();
        }
        Some(waiter.state)
    }

    /// Puts a process into the queue of its version, by the artifact's id. The process tries once
    /// more after that.
    pub(crate) fn join(&self, slot: u32, artifact: u64) {
        let clock = &self.system.clock;
        let short = self.capacity.is_short(clock);
        let retry_at = short.then(|| clock.now().saturating_add(capacity::PAUSE));
        let mut queue = self.queue.lock();
        queue.number += 1;
        let number = queue.number;
        let state = State::Waits { retry_at };
        let before = queue.waiters.insert(slot, Waiter { number, state });
        if before.is_none() {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        queue.push(artifact, Entry { slot, number });
        drop(queue);
        if short {
            self.set_timer(slot);
        }
    }

    /// Wakes a process when it may try to get a frame again.
    fn set_timer(&self, slot: u32) {
        if let Some(pid) = self.system.pid(slot) {
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
            self.call_next(None, None);
        }
    }

    /// Does the same for the frame in which the process of this slot waits.
    pub(crate) fn call_other(&self, slot: u32) {
        self.call_next(None, Some(slot));
    }

    /// Reports that a process that was called has found no frame for its version: lets one of
    /// another version try, of so many.
    pub(crate) fn pass_on(&self, others: usize) {
        if let Some(others) = others.checked_sub(1) {
            self.call_next(Some(others), None);
        }
    }

    /// `others`: how many versions are called after this one if it is called in vain; `None`:
    /// all. `except`: the process that is not called.
    #[cold]
    fn call_next(&self, others: Option<usize>, except: Option<u32>) {
        let mut queue = self.queue.lock();
        let Some((called, all)) = queue.next(except) else {
            return;
        };
        let others = others.unwrap_or(all);
        if let Some(waiter) = queue.waiters.get_mut(&called) {
            waiter.state = State::Called { others };
        }
        drop(queue);
        if let Some(slot) = self.system.table.slot(called) {
            self.system.apply(called, slot.state.notify());
        }
    }
}
