//! The outer half of a mailbox: signals in transit, in the order in which they
//! arrived. Senders append under its lock; the process takes all of them at
//! once and sorts them into its own, inner half (`own`), which needs no lock.
//!
//! The generation is kept under the same lock, so that a signal for a process
//! that has ended can never reach the one that got its slot.

use std::sync::Arc;

use exuvia_abi::Pid;

use crate::limits::Limits;
use crate::sync::{Mutex, MutexGuard};

/// Weight of the signals in transit that no limit counts, from which on whoever
/// sends another waits until they are taken over. About a megabyte of records,
/// ten of payloads; a process that takes its turns is never so far behind.
const CROWD: u32 = 10_000;

/// Why a signal was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The process has ended.
    Dead,
    /// The mailbox has as many messages or bytes as its limits allow.
    Full,
}

/// The outer queue of one slot, with items of type `S`.
#[derive(Debug)]
pub struct Mailbox<S>(Mutex<Outer<S>>);

/// What the lock of a [`Mailbox`] guards. Small, so that a [`Slot`](crate::Slot)
/// is one line of the cache.
#[derive(Debug)]
pub(crate) struct Outer<S> {
    /// Made by the first that arrives, given back by [`Mailbox::trim`].
    arrivals: Option<Box<Arrivals<S>>>,
    /// Those of the living process.
    limits: Option<Arc<Limits>>,
    /// Of the living process, or of the next one; past [`Pid::LAST_GENERATION`]:
    /// there is no next one.
    generation: u64,
}

/// What has arrived. A mailbox and its process have one each, and exchange them.
#[derive(Debug)]
pub struct Arrivals<S> {
    pub(crate) items: Vec<S>,
    /// Of the items: messages that count against the limits, and their bytes.
    messages: u32,
    /// Of the items: the weight of those that no limit counts.
    crowd: u32,
    bytes: u64,
    /// Those who wait until these are taken over.
    waiters: Vec<Pid>,
}

/// What a mailbox leaves when it is closed.
#[derive(Debug)]
pub struct Closed<S> {
    /// What was in it.
    pub items: Vec<S>,
    /// Those who wait for room in it.
    pub waiters: Vec<Pid>,
    /// False: the slot's generations are used up, and it must never be opened again.
    pub usable: bool,
}

impl<S> Arrivals<S> {
    fn new() -> Box<Arrivals<S>> {
        Box::new(Arrivals {
            // One is all that most processes find when they wake; growing by
            // itself it would begin with room for four.
            items: Vec::with_capacity(1),
            messages: 0,
            crowd: 0,
            bytes: 0,
            waiters: Vec::new(),
        })
    }

    /// How many wait until these are taken over.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Those who wait until these are taken over, for whoever has done that.
    pub(crate) fn take_waiters(&mut self) -> Vec<Pid> {
        std::mem::take(&mut self.waiters)
    }

    /// Takes all of them out, in order.
    pub fn drain(&mut self) -> std::vec::Drain<'_, S> {
        self.items.drain(..)
    }
}

impl<S> Outer<S> {
    fn len(&self) -> usize {
        self.arrivals.as_ref().map_or(0, |a| a.items.len())
    }
}

impl<S> Default for Mailbox<S> {
    fn default() -> Mailbox<S> {
        Mailbox::new()
    }
}

impl<S> Mailbox<S> {
    /// The mailbox of a slot without a process.
    pub fn new() -> Mailbox<S> {
        Mailbox(Mutex::new(Outer {
            arrivals: None,
            limits: None,
            generation: 0,
        }))
    }

    /// Opens the mailbox for a new process; answers its generation.
    pub fn open(&self, limits: Arc<Limits>) -> u64 {
        let mut outer = self.0.lock();
        debug_assert!(outer.limits.is_none(), "one slot holds one process");
        debug_assert!(outer.generation <= Pid::LAST_GENERATION, "it is retired");
        outer.limits = Some(limits);
        outer.generation
    }

    /// Changes the limits of the living process.
    pub fn set_limits(&self, limits: Arc<Limits>) {
        self.0.lock().limits = Some(limits);
    }

    /// Ends the mailbox: everything for this generation is refused from now on.
    #[must_use]
    pub fn close(&self) -> Closed<S> {
        let mut outer = self.0.lock();
        outer.limits = None;
        // No overflow: it is far below that, and not opened when it is past the last.
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

    /// Lets generations pass, for tests that cannot wait for them.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn skip_to(&self, generation: u64) {
        let mut outer = self.0.lock();
        assert!(outer.limits.is_none() && outer.generation <= generation);
        outer.generation = generation;
    }

    /// Puts something that no limit counts into the queue. True: whoever goes
    /// on sending such to it must wait until [`Mailbox::is_crowded`] is false.
    pub fn push(&self, generation: u64, item: S, weight: u32) -> Result<bool, Refused> {
        let mut outer = self.living(generation)?;
        let arrivals = outer.arrivals.get_or_insert_with(Arrivals::new);
        arrivals.items.push(item);
        arrivals.crowd = arrivals.crowd.saturating_add(weight);
        Ok(arrivals.crowd > CROWD)
    }

    /// Has `waiter` told when what is in transit is taken over; false: there is not
    /// too much, or the process has ended.
    pub fn wait_for_room(&self, generation: u64, waiter: Pid) -> bool {
        let Ok(mut outer) = self.living(generation) else {
            return false;
        };
        match &mut outer.arrivals {
            Some(arrivals) if arrivals.crowd > CROWD => {
                arrivals.waiters.push(waiter);
                true
            }
            _ => false,
        }
    }

    /// Whether too much is in transit that no limit counts.
    pub fn is_crowded(&self) -> bool {
        let outer = self.0.lock();
        outer.arrivals.as_ref().is_some_and(|a| a.crowd > CROWD)
    }

    /// The limits of the living process, if it has this generation.
    pub fn limits_of(&self, generation: u64) -> Option<Arc<Limits>> {
        self.living(generation).ok()?.limits.clone()
    }

    /// Puts a message into the queue if the limits allow. `inner` reads what the
    /// process's own half holds of the same: messages and bytes. It is asked
    /// under the lock, so that it does not miss what [`Mailbox::take_into`] moves.
    pub fn push_message(
        &self,
        generation: u64,
        item: S,
        cost: u64,
        inner: impl FnOnce() -> (u32, u64),
    ) -> Result<(), Refused> {
        let mut outer = self.living(generation)?;
        let Outer {
            arrivals, limits, ..
        } = &mut *outer;
        let limits = limits.as_ref().ok_or(Refused::Dead)?;
        let (mut messages, mut bytes) = inner();
        if let Some(arrivals) = arrivals {
            messages = messages.saturating_add(arrivals.messages);
            bytes = bytes.saturating_add(arrivals.bytes);
        }
        if messages >= limits.mailbox_messages || bytes.saturating_add(cost) > limits.mailbox_bytes
        {
            return Err(Refused::Full);
        }
        let arrivals = arrivals.get_or_insert_with(Arrivals::new);
        arrivals.messages += 1;
        arrivals.bytes += cost;
        arrivals.items.push(item);
        Ok(())
    }

    /// Exchanges everything that has arrived for the empty `spare`, which lends
    /// its capacity. `moved` is told, under the lock, how many of them count
    /// against the limits, and their bytes. False: nothing has arrived.
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
        arrivals.crowd = 0;
        std::mem::swap(&mut outer.arrivals, spare);
        true
    }

    /// Gives back memory that an idle process does not need.
    pub fn trim(&self) {
        let mut outer = self.0.lock();
        if outer.len() == 0 {
            outer.arrivals = None;
        }
    }

    /// Signals in transit.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether nothing is in transit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The generation of the living process.
    pub fn generation(&self) -> Option<u64> {
        let outer = self.0.lock();
        outer.limits.as_ref().map(|_| outer.generation)
    }

    fn living(&self, generation: u64) -> Result<MutexGuard<'_, Outer<S>>, Refused> {
        let outer = self.0.lock();
        if outer.limits.is_some() && outer.generation == generation {
            Ok(outer)
        } else {
            Err(Refused::Dead)
        }
    }
}
