//! The outer half of a mailbox: signals in transit, in the order in which they
//! arrived. Senders append under its lock; the process takes all of them at
//! once and sorts them into its own, inner half (`own`), which needs no lock.
//!
//! The generation is kept under the same lock, so that a signal for a process
//! that has ended can never reach the one that got its slot.

use std::sync::Arc;

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

/// What the lock of a [`Mailbox`] guards.
#[derive(Debug)]
pub(crate) struct Outer<S> {
    items: Vec<S>,
    /// Of the items: messages that count against the limits, and their bytes.
    messages: u32,
    bytes: u64,
    /// Of the items: the weight of those that no limit counts.
    crowd: u32,
    generation: u32,
    alive: bool,
    limits: Arc<Limits>,
}

impl<S> Mailbox<S> {
    /// The mailbox of a slot without a process.
    pub fn new(limits: Arc<Limits>) -> Mailbox<S> {
        Mailbox(Mutex::new(Outer {
            items: Vec::new(),
            messages: 0,
            bytes: 0,
            crowd: 0,
            generation: 0,
            alive: false,
            limits,
        }))
    }

    /// Opens the mailbox for a new process; answers its generation.
    pub fn open(&self, limits: Arc<Limits>) -> u32 {
        let mut outer = self.0.lock();
        debug_assert!(!outer.alive, "one slot holds one process");
        outer.alive = true;
        outer.limits = limits;
        outer.generation
    }

    /// Changes the limits of the living process.
    pub fn set_limits(&self, limits: Arc<Limits>) {
        self.0.lock().limits = limits;
    }

    /// Ends the mailbox: what is in it is handed out, and everything for this
    /// generation is refused from now on.
    pub fn close(&self) -> Vec<S> {
        let mut outer = self.0.lock();
        outer.alive = false;
        // A slot whose generations are used up would have seen four thousand
        // million processes; wrapping there is a stale pid's only danger.
        outer.generation = outer.generation.wrapping_add(1);
        outer.messages = 0;
        outer.bytes = 0;
        outer.crowd = 0;
        std::mem::take(&mut outer.items)
    }

    /// Puts something that no limit counts into the queue. True: whoever goes
    /// on sending such to it must wait until [`Mailbox::is_crowded`] is false.
    pub fn push(&self, generation: u32, item: S, weight: u32) -> Result<bool, Refused> {
        let mut outer = self.living(generation)?;
        outer.items.push(item);
        outer.crowd = outer.crowd.saturating_add(weight);
        Ok(outer.crowd > CROWD)
    }

    /// Whether too much is in transit that no limit counts.
    pub fn is_crowded(&self) -> bool {
        self.0.lock().crowd > CROWD
    }

    /// Puts a message into the queue if the limits allow. `inner` reads what the
    /// process's own half holds of the same: messages and bytes. It is asked
    /// under the lock, so that it does not miss what [`Mailbox::take_into`] moves.
    pub fn push_message(
        &self,
        generation: u32,
        item: S,
        cost: u64,
        inner: impl FnOnce() -> (u32, u64),
    ) -> Result<(), Refused> {
        let mut outer = self.living(generation)?;
        let inner = inner();
        let messages = outer.messages.saturating_add(inner.0);
        let bytes = outer.bytes.saturating_add(inner.1);
        if messages >= outer.limits.mailbox_messages
            || bytes.saturating_add(cost) > outer.limits.mailbox_bytes
        {
            return Err(Refused::Full);
        }
        outer.messages += 1;
        outer.bytes += cost;
        outer.items.push(item);
        Ok(())
    }

    /// Swaps everything that has arrived with the empty `spare`, which lends
    /// its capacity. `moved` is told, under the lock, how many of them count
    /// against the limits, and their bytes. False: nothing has arrived.
    pub fn take_into(&self, spare: &mut Vec<S>, moved: impl FnOnce(u32, u64)) -> bool {
        debug_assert!(spare.is_empty(), "the spare is emptied before it is lent");
        let mut outer = self.0.lock();
        if outer.items.is_empty() {
            return false;
        }
        moved(outer.messages, outer.bytes);
        outer.messages = 0;
        outer.bytes = 0;
        outer.crowd = 0;
        std::mem::swap(&mut outer.items, spare);
        true
    }

    /// Gives back memory that an idle process does not need.
    pub fn trim(&self) {
        let mut outer = self.0.lock();
        if outer.items.is_empty() {
            outer.items = Vec::new();
        }
    }

    /// Signals in transit.
    pub fn len(&self) -> usize {
        self.0.lock().items.len()
    }

    /// Whether nothing is in transit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The generation of the living process.
    pub fn generation(&self) -> Option<u32> {
        let outer = self.0.lock();
        outer.alive.then_some(outer.generation)
    }

    fn living(&self, generation: u32) -> Result<MutexGuard<'_, Outer<S>>, Refused> {
        let outer = self.0.lock();
        if outer.alive && outer.generation == generation {
            Ok(outer)
        } else {
            Err(Refused::Dead)
        }
    }
}
