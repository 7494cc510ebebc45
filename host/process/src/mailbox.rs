//! The outer half of a mailbox: signals in transit, in order of arrival. Senders append under its
//! lock; the process takes all of them at once and sorts them into its own, inner half (`inbox`),
//! which needs no lock.
//!
//! The generation is guarded by the same lock, so that a signal for a process that has terminated
//! can never reach the process that reuses its slot.

use std::sync::Arc;

use exuvia_abi::Pid;

use crate::limits::Limits;
use crate::sync::{Mutex, MutexGuard};

/// Limit on the weight of signals in transit that no mailbox limit counts. Above it, senders of
/// more such signals wait until these are taken over. About one megabyte of records or ten of
/// payloads; a process that is scheduled regularly never has so many.
const BACKPRESSURE_LIMIT: u32 = 10_000;

/// Why a signal was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The process has terminated.
    Dead,
    /// The mailbox has as many messages or bytes as its limits allow.
    Full,
}

/// The outer queue of one slot, with items of type `S`.
#[derive(Debug)]
pub struct Mailbox<S>(Mutex<Outer<S>>);

/// What the lock of a [`Mailbox`] guards. Small, so that a [`Slot`](crate::Slot) fits in one cache
/// line.
#[derive(Debug)]
pub(crate) struct Outer<S> {
    /// Created by the first arrival, freed by [`Mailbox::trim`].
    arrivals: Option<Box<Arrivals<S>>>,
    /// The limits of the live process; `None`: there is no process.
    limits: Option<Arc<Limits>>,
    /// The generation of the live process, or of the next one. Beyond [`Pid::LAST_GENERATION`]
    /// there is no next one.
    generation: u64,
}

/// The signals that have arrived. A mailbox and its process have one buffer each, and swap them.
#[derive(Debug)]
pub struct Arrivals<S> {
    pub(crate) items: Vec<S>,
    /// Of the items, the messages that count against the limits, and their bytes.
    messages: u32,
    /// The total weight of the items that no limit counts.
    congestion: u32,
    bytes: u64,
    /// Processes that wait until these items are taken over.
    waiters: Vec<Pid>,
}

/// The contents of a mailbox when it is closed.
#[derive(Debug)]
pub struct Closed<S> {
    /// The signals that were in it.
    pub items: Vec<S>,
    /// Processes that wait until its signals are taken over.
    pub waiters: Vec<Pid>,
    /// False: the slot's generations are used up, and it must never be opened again.
    pub usable: bool,
}

impl<S> Arrivals<S> {
    fn new() -> Box<Arrivals<S>> {
        Box::new(Arrivals {
            // Most processes find one signal when they wake; a `Vec` that grows by itself would
            // start with a capacity of four.
            items: Vec::with_capacity(1),
            messages: 0,
            congestion: 0,
            bytes: 0,
            waiters: Vec::new(),
        })
    }

    /// Returns how many processes wait until these are taken over.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Returns the processes that wait until these are taken over, for the caller to notify.
    pub(crate) fn take_waiters(&mut self) -> Vec<Pid> {
        std::mem::take(&mut self.waiters)
    }

    /// Removes and returns all items, in order.
    pub fn drain(&mut self) -> std::vec::Drain<'_, S> {
        self.items.drain(..)
    }
}

impl<S> Outer<S> {
    fn len(&self) -> usize {
        self.arrivals.as_ref().map_or(0, |a| a.items.len())
    }

    /// Checks whether a message of this cost fits, beside the messages and bytes of the process's
    /// own half.
    #[inline]
    fn fits(&self, cost: u64, (mut messages, mut bytes): (u32, u64)) -> Result<(), Refused> {
        let limits = self.limits.as_ref().ok_or(Refused::Dead)?;
        if let Some(arrivals) = &self.arrivals {
            messages = messages.saturating_add(arrivals.messages);
            bytes = bytes.saturating_add(arrivals.bytes);
        }
        if messages >= limits.mailbox_messages || bytes.saturating_add(cost) > limits.mailbox_bytes
        {
            return Err(Refused::Full);
        }
        Ok(())
    }
}

impl<S> Default for Mailbox<S> {
    fn default() -> Mailbox<S> {
        Mailbox::new()
    }
}

impl<S> Mailbox<S> {
    /// Returns the mailbox of a slot without a process.
    pub fn new() -> Mailbox<S> {
        Mailbox(Mutex::new(Outer {
            arrivals: None,
            limits: None,
            generation: 0,
        }))
    }

    /// Opens the mailbox for a new process. Returns its generation, which is `least` or above.
    pub fn open(&self, limits: Arc<Limits>, least: u64) -> u64 {
        let mut outer = self.0.lock();
        debug_assert!(outer.limits.is_none(), "one slot holds one process");
        debug_assert!(outer.generation <= Pid::LAST_GENERATION, "it is retired");
        outer.generation = outer.generation.max(least);
        outer.limits = Some(limits);
        outer.generation
    }

    /// Returns the generation above those of all processes that the mailbox was opened for.
    pub fn next_generation(&self) -> u64 {
        let outer = self.0.lock();
        outer.generation + u64::from(outer.limits.is_some())
    }

    /// Opens the mailbox for a process that had this generation before, here or on another node.
    /// Returns false if another process has used the slot since, whose pid must not come again.
    pub fn reopen(&self, generation: u64, limits: Arc<Limits>) -> bool {
        let mut outer = self.0.lock();
        debug_assert!(outer.limits.is_none(), "one slot holds one process");
        if generation.saturating_add(1) < outer.generation {
            return false;
        }
        outer.generation = generation;
        outer.limits = Some(limits);
        true
    }

    /// Returns whether the last process had this generation, has terminated, and could be followed
    /// by another one.
    pub fn has_ended(&self, generation: u64) -> bool {
        let outer = self.0.lock();
        let next = generation.saturating_add(1);
        outer.limits.is_none() && outer.generation == next && next <= Pid::LAST_GENERATION
    }

    /// Changes the limits of the live process.
    pub fn set_limits(&self, limits: Arc<Limits>) {
        self.0.lock().limits = Some(limits);
    }

    /// Closes the mailbox: everything for this generation is refused from now on. Returns what was
    /// in it.
    #[must_use]
    pub fn close(&self) -> Closed<S> {
        let mut outer = self.0.lock();
        outer.limits = None;
        // No overflow: the value is far below the maximum, and a mailbox past the last generation
        // is not opened.
        outer.generation += 1;
        let usable = outer.generation <= Pid::LAST_GENERATION;
        let arrivals = outer.arrivals.take();
        let (items, waiters) = arrivals.map_or_else(Default::default, |a| (a.items, a.waiters));
        Closed {
            items,
            waiters,
            usable,
        }
    }

    /// Skips generations, for tests that cannot wait for them.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn skip_to(&self, generation: u64) {
        let mut outer = self.0.lock();
        assert!(outer.limits.is_none() && outer.generation <= generation);
        outer.generation = generation;
    }

    /// Appends an item that no limit counts. Returns whether the mailbox is congested now: the
    /// sender must not send more such items until [`Mailbox::is_congested`] is false. Returns
    /// [`Refused::Dead`] if the generation has ended.
    pub fn push(&self, generation: u64, item: S, weight: u32) -> Result<bool, Refused> {
        let mut outer = self.live(generation)?;
        let arrivals = outer.arrivals.get_or_insert_with(Arrivals::new);
        arrivals.items.push(item);
        arrivals.congestion = arrivals.congestion.saturating_add(weight);
        Ok(arrivals.congestion > BACKPRESSURE_LIMIT)
    }

    /// Registers `waiter` to be notified when the signals in transit are taken over. Returns false
    /// if the mailbox is not congested, or the process has terminated.
    pub fn wait_for_capacity(&self, generation: u64, waiter: Pid) -> bool {
        let Ok(mut outer) = self.live(generation) else {
            return false;
        };
        match &mut outer.arrivals {
            Some(arrivals) if arrivals.congestion > BACKPRESSURE_LIMIT => {
                arrivals.waiters.push(waiter);
                true
            }
            _ => false,
        }
    }

    /// Returns whether the weight of signals that no limit counts exceeds the backpressure
    /// limit.
    pub fn is_congested(&self) -> bool {
        let outer = self.0.lock();
        outer
            .arrivals
            .as_ref()
            .is_some_and(|a| a.congestion > BACKPRESSURE_LIMIT)
    }

    /// Returns the limits of the live process, if it has this generation.
    pub fn limits_of(&self, generation: u64) -> Option<Arc<Limits>> {
        self.live(generation).ok()?.limits.clone()
    }

    /// Appends a message if the limits allow. `inner` returns the messages and bytes of the
    /// process's own half that count against the same limits. It is called under the lock, so that
    /// it does not miss what [`Mailbox::take_into`] moves. Returns [`Refused::Full`] or
    /// [`Refused::Dead`].
    #[inline]
    pub fn push_message(
        &self,
        generation: u64,
        item: S,
        cost: u64,
        inner: impl FnOnce() -> (u32, u64),
    ) -> Result<(), Refused> {
        let mut outer = self.live(generation)?;
        outer.fits(cost, inner())?;
        let arrivals = outer.arrivals.get_or_insert_with(Arrivals::new);
        arrivals.messages += 1;
        arrivals.bytes += cost;
        arrivals.items.push(item);
        Ok(())
    }

    /// Returns whether [`Mailbox::push_message`] would accept a message now, with its error if not.
    pub fn would_accept(
        &self,
        generation: u64,
        cost: u64,
        inner: impl FnOnce() -> (u32, u64),
    ) -> Result<(), Refused> {
        self.live(generation)?.fits(cost, inner())
    }

    /// Swaps everything that has arrived for the empty `spare`, whose capacity is reused. Calls
    /// `moved`, under the lock, with the number of messages that count against the limits and their
    /// bytes. Returns false if nothing has arrived.
    #[inline]
    pub fn take_into(
        &self,
        spare: &mut Option<Box<Arrivals<S>>>,
        moved: impl FnOnce(u32, u64),
    ) -> bool {
        debug_assert!(
            spare.as_ref().is_none_or(|spare| spare.items.is_empty()),
            "the spare is emptied before it is lent"
        );
        let mut outer = self.0.lock();
        let Some(arrivals) = &mut outer.arrivals else {
            return false;
        };
        if arrivals.items.is_empty() {
            return false;
        }
        moved(arrivals.messages, arrivals.bytes);
        arrivals.messages = 0;
        arrivals.bytes = 0;
        arrivals.congestion = 0;
        std::mem::swap(&mut outer.arrivals, spare);
        true
    }

    /// Frees memory that an idle process does not need.
    pub fn trim(&self) {
        let mut outer = self.0.lock();
        if outer.len() == 0 {
            outer.arrivals = None;
        }
    }

    /// Returns the number of signals in transit.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Returns whether nothing is in transit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the generation of the live process; `None` if there is none.
    pub fn generation(&self) -> Option<u64> {
        let outer = self.0.lock();
        outer.limits.as_ref().map(|_| outer.generation)
    }

    fn live(&self, generation: u64) -> Result<MutexGuard<'_, Outer<S>>, Refused> {
        let outer = self.0.lock();
        if outer.limits.is_some() && outer.generation == generation {
            Ok(outer)
        } else {
            Err(Refused::Dead)
        }
    }
}
