//! Processes that wait for a frame: in queues of their own, not in a run queue. Whatever
//! makes a frame available (it is free, its process has come to rest, it is dropped) calls
//! one of them, which then tries again. So waiting costs nothing. Each version has a queue,
//! in which those that have waited longest come first, and the versions take turns. A
//! process that is called in vain, because its version is denied further frames (see
//! `census`), passes the call on to the next version, and so on, each version once.
//!
//! A process leaves the queue as soon as it has a frame: what it does in it may block the thread.
//!
//! A process may wait in a frame that is of no use to it: one on a thread's stack when it needs a
//! fiber. When it comes to rest there, its frame is available to others, but it is not called for
//! that itself.
//!
//! No call is lost: a process is in the queue before its last try, and a frame is available
//! before `count` is read. A frame becomes available under a pool's lock, which orders the
//! two; or on a thread's shelf, after which is a fence, as in `join`; or by the end of its process's turn: there `count`, the run state
//! (`StateWord::transition_to_idle`, `StateWord::claim`) and `listed` are SeqCst; or by being
//! dropped, which lets others be made: there, and in `join`, is a fence. A process that is
//! called but does not need a frame any more calls the next.
//!
//! When the system is out of memory or mappings for frames, no process may try for a while
//! (see `capacity`), and nothing happens at the end of that time: so a process that starts
//! to wait then has a timer, and another one if that while is longer by then. If it waits in a
//! frame, no other frame is of use to it, and it is not called at all: it only tries again when its
//! timer fires. Otherwise such processes would call each other without end, since each comes to
//! rest in a frame after it has tried in vain.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use exuvia_process::{Due, Pid};
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

/// A process that may be called. It is stale once the process has left or was called: the process
/// slot may be another process's then, or the process may have joined again. It is stale too if only
/// its timer wakes the process.
#[derive(Clone, Copy, Debug)]
struct Entry {
    slot: u32,
    number: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    state: State,
    /// It rests in a frame, which is of no use to it.
    in_frame: bool,
    /// Set if the system was out of memory or mappings.
    timer: Option<RetryTimer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may be called, or only its timer wakes it.
    Waits,
    /// A frame has become available for it, or for a process of one of so many other
    /// versions.
    Called { others: usize },
}

/// Wakes a waiting process when the system may have memory or mappings again.
#[derive(Clone, Copy, Debug)]
struct RetryTimer {
    at: u64,
    owner: Pid,
    reference: u64,
}

/// A process that has joined the queue and tries once more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    pub(crate) slot: u32,
    /// When the system's last shortage ended; `None` if it had not ended yet.
    shortage_over: Option<u64>,
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
    /// Returns whether this is its entry and it may be called.
    fn is_of(&self, entry: Entry) -> bool {
        self.number == entry.number && self.state == State::Waits && !self.needs_capacity()
    }

    /// Returns whether only its timer wakes it.
    fn needs_capacity(&self) -> bool {
        self.in_frame && self.timer.is_some()
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
        let Some(waiter) = queue.waiters.get(&slot) else {
            return Turnstile::Free;
        };
        let others = match (waiter.state, waiter.timer) {
            (State::Called { others }, _) => others,
            (State::Waits, None) => return Turnstile::Waits,
            (State::Waits, Some(timer)) if self.capacity.is_short(clock) => {
                let in_frame = waiter.in_frame;
                if clock.now() < timer.at {
                    return Turnstile::Waits;
                }
                // The try costs no system call while the system is short, and the process may need
                // no fiber by now.
                if !in_frame {
                    drop(queue);
                    self.set_timer(slot);
                    return Turnstile::Waits;
                }
                0
            }
            (State::Waits, Some(_)) => 0,
        };
        let left = self.remove(&mut queue, slot);
        drop(queue);
        self.cancel_timer(left);
        Turnstile::Called { others }
    }

    fn remove(&self, queue: &mut Queue, slot: u32) -> Option<Waiter> {
        let waiter = queue.waiters.remove(&slot)?;
        self.count.fetch_sub(1, Ordering::SeqCst);
        if queue.waiters.is_empty() {
            queue.versions.clear();
        }
        Some(waiter)
    }

    /// Puts a process into the queue of its version, by the artifact's id. The process tries once
    /// more after that: then it leaves, or [waits](Self::wait).
    pub(crate) fn join(&self, slot: u32, artifact: u64) -> Joined {
        let retry_at = self.capacity.retry_at();
        let shortage_over = (self.system.clock.now() >= retry_at).then_some(retry_at);
        let mut queue = self.queue.lock();
        queue.number += 1;
        let number = queue.number;
        let waiter = Waiter {
            number,
            state: State::Waits,
            in_frame: false,
            timer: None,
        };
        let before = queue.waiters.insert(slot, waiter);
        if before.is_none() {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        queue.push(artifact, Entry { slot, number });
        drop(queue);
        self.cancel_timer(before);
        // Pairs with the fence where a frame is dropped: either the last try sees that there is one
        // less, or the process is called.
        fence(Ordering::SeqCst);
        Joined {
            slot,
            shortage_over,
        }
    }

    /// Lets a process wait that has tried in vain since it joined. `in_frame`: it rests in a frame.
    pub(crate) fn wait(&self, joined: Joined, in_frame: bool) {
        let slot = joined.slot;
        if in_frame && let Some(waiter) = self.queue.lock().waiters.get_mut(&slot) {
            waiter.in_frame = true;
        }
        // Otherwise there was no shortage during the last try.
        if joined.shortage_over != Some(self.capacity.retry_at()) {
            self.set_timer(slot);
        }
    }

    /// Reports that a process that waits in a frame was paged out: it may be called again.
    pub(crate) fn paged_out(&self, slot: u32, artifact: u64) {
        let mut queue = self.queue.lock();
        queue.number += 1;
        let number = queue.number;
        let Some(waiter) = queue.waiters.get_mut(&slot) else {
            return;
        };
        let was_stale = waiter.needs_capacity() && waiter.state == State::Waits;
        waiter.in_frame = false;
        if was_stale {
            waiter.number = number;
            queue.push(artifact, Entry { slot, number });
        }
    }

    /// Has a waiting process woken when it may try again. Only its runner may call this.
    fn set_timer(&self, slot: u32) {
        let Some(owner) = self.system.pid(slot) else {
            return;
        };
        let at = self.system.clock.now().saturating_add(capacity::PAUSE);
        let wake = |_| Due::Wake(owner);
        let reference = self.system.set_timer(owner, capacity::PAUSE, wake);
        if let Some(waiter) = self.queue.lock().waiters.get_mut(&slot) {
            waiter.timer = Some(RetryTimer {
                at,
                owner,
                reference,
            });
        }
    }

    fn cancel_timer(&self, left: Option<Waiter>) {
        if let Some(timer) = left.and_then(|waiter| waiter.timer) {
            self.system.timers.cancel(timer.owner, timer.reference);
        }
    }

    /// Removes a process that has got a frame, needs none any more, or has ended. Its runner calls
    /// this: the slot may be another process's later.
    pub(crate) fn leave(&self, slot: u32) {
        if self.len() == 0 {
            return;
        }
        let left = self.remove(&mut self.queue.lock(), slot);
        let called = (left.as_ref()).is_some_and(|waiter| waiter.state != State::Waits);
        self.cancel_timer(left);
        if called {
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
