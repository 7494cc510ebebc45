//! A message that is handled in probation, as a transaction: what its handler does to the system is
//! deferred (`defer`), or done at once and undone on an abort (`on_rollback`).
//!
//! A transaction ends in one of two ways, and its owner must say which. A commit executes all that
//! was deferred. An abort makes it as if the handler had never begun, and puts the message back. A
//! transaction that is only dropped would lose the message, and leak pids, timers and charges: that
//! is a bug of the host, and fails every test that runs into it.
//!
//! This module is below the calls, which fill the transaction; the engine decides how it ends.

use crate::call::Runner;
use crate::process::Process;
use crate::signal::Envelope;
use crate::system::System;

/// Maximum weight (in sends) of what a transaction defers, and maximum number of effects that it
/// can undo; one more commits it. A handler that does so much is not worth undoing. A commit does
/// all of it at once, which takes about as long as a slice.
const MOST: usize = 1_000;

/// An action on the system on behalf of a process.
type Effect<G> = Box<dyn FnOnce(&mut Process<G>, &System<G>) + Send>;

/// A deferred effect.
struct DeferredEffect<G> {
    commit: Effect<G>,
    /// What to do on an abort, such as to release a reserved pid.
    abort: Option<Effect<G>>,
}

/// One message that is handled as a transaction.
#[must_use = "a transaction is committed or aborted"]
pub struct Transaction<G> {
    /// The message, once the guest has taken it, and its position in the mailbox.
    message: Option<(usize, Envelope)>,
    /// Effects to execute on commit.
    deferred: Vec<DeferredEffect<G>>,
    /// Their weight, in sends.
    weight: usize,
    /// Bytes of the payloads that are deferred.
    pub(crate) bytes: u64,
    /// Links, and monitors together with requests, that the commit will create: they count against
    /// the process's limits already.
    pub(crate) links: usize,
    pub(crate) monitors: usize,
    /// Executed on abort, last first.
    rollback: Vec<Effect<G>>,
    /// References of the timers that the handler has set, and when they are due (nanoseconds of the
    /// node's clock); `None` for those that it has cancelled.
    pub(crate) timers: Vec<(u64, Option<u64>)>,
    has_ended: bool,
}

impl<G> Default for Transaction<G> {
    fn default() -> Transaction<G> {
        Transaction {
            message: None,
            deferred: Vec::new(),
            weight: 0,
            bytes: 0,
            links: 0,
            monitors: 0,
            rollback: Vec::new(),
            timers: Vec::new(),
            has_ended: false,
        }
    }
}

impl<G> std::fmt::Debug for Transaction<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transaction({} deferred)", self.deferred.len())
    }
}

impl<G> Drop for Transaction<G> {
    fn drop(&mut self) {
        if !self.has_ended {
            tracing::error!(
                "a transaction was neither committed nor aborted, so its message and reservations are lost; this is a bug in Exuvia"
            );
            debug_assert!(std::thread::panicking(), "a transaction was dropped");
        }
    }
}

impl<G> Transaction<G> {
    /// Returns whether the handler has taken its message.
    pub fn has_message(&self) -> bool {
        self.message.is_some()
    }

    /// Records the message that the handler has taken, and its position. Only the first counts: an
    /// entry takes one message.
    pub fn took(&mut self, at: usize, message: Envelope) {
        self.message.get_or_insert((at, message));
    }

    /// Returns whether no other process could notice that the transaction ever began.
    pub fn is_unseen(&self) -> bool {
        self.message.is_none() && self.deferred.is_empty() && self.rollback.is_empty()
    }

    /// Executes everything that was deferred. Returns the reductions that the process is charged
    /// for it: one for each send, as if it had sent now.
    pub fn commit(mut self, process: &mut Process<G>, system: &System<G>) -> u32 {
        self.has_ended = true;
        for effect in std::mem::take(&mut self.deferred) {
            (effect.commit)(process, system);
        }
        u32::try_from(self.weight).unwrap_or(u32::MAX)
    }
}

impl<G: 'static> Transaction<G> {
    /// Makes it as if the handler had never begun, and puts the message back where it was.
    pub fn abort(mut self, process: &mut Process<G>, system: &System<G>) {
        self.has_ended = true;
        for effect in std::mem::take(&mut self.deferred) {
            if let Some(abandon) = effect.abort {
                abandon(process, system);
            }
        }
        for effect in std::mem::take(&mut self.rollback).into_iter().rev() {
            effect(process, system);
        }
        // An entry takes only one message, and new messages arrive behind it: the messages in front
        // of it are the same as before.
        if let Some((at, message)) = self.message.take() {
            process.reinsert(at, message);
        }
    }
}

/// Executes an effect for a process: at once, or when its transaction commits.
#[inline]
pub(crate) fn defer<G: Runner>(
    process: &mut Process<G>,
    system: &System<G>,
    effect: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static,
) {
    do_or_defer(process, system, 1, effect, || None);
}

/// Does the same for an effect that is worth several sends.
pub(crate) fn defer_weighted<G: Runner>(
    process: &mut Process<G>,
    system: &System<G>,
    sends: usize,
    effect: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static,
) {
    do_or_defer(process, system, sends, effect, || None);
}

/// Does the same for an effect with an action to take if the transaction aborts, such as to release
/// a reserved pid.
pub(crate) fn defer_or<G: Runner>(
    process: &mut Process<G>,
    system: &System<G>,
    effect: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static,
    abandon: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static,
) {
    do_or_defer(process, system, 1, effect, || Some(Box::new(abandon)));
}

/// Executes or defers an effect. Allocates nothing for an effect that is executed at once.
#[inline]
fn do_or_defer<G: Runner>(
    process: &mut Process<G>,
    system: &System<G>,
    weight: usize,
    effect: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static,
    abandon: impl FnOnce() -> Option<Effect<G>>,
) {
    let most_bytes = process.limits().mailbox_bytes;
    let Some(open) = open(process) else {
        return effect(process, system);
    };
    if open.weight + weight > MOST || open.bytes > most_bytes {
        process.reductions += u64::from(commit(process, system));
        return effect(process, system);
    }
    open.weight += weight;
    open.deferred.push(DeferredEffect {
        commit: Box::new(effect),
        abort: abandon(),
    });
}

/// Registers how to undo what was just done, if a transaction is open and aborts.
pub(crate) fn on_rollback<G: Runner>(
    process: &mut Process<G>,
    system: &System<G>,
    undo: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static,
) {
    match open(process) {
        Some(transaction) if transaction.rollback.len() < MOST => {
            transaction.rollback.push(Box::new(undo));
        }
        Some(_) => process.reductions += u64::from(commit(process, system)),
        None => {}
    }
}

/// Returns the open transaction, if the process is in one.
#[inline]
pub fn open<G: Runner>(process: &mut Process<G>) -> Option<&mut Transaction<G>> {
    process.guest()?.transaction()
}

/// Takes the open transaction, if the process is in one.
pub fn take<G: Runner>(process: &mut Process<G>) -> Option<Transaction<G>> {
    process.guest()?.take_transaction()
}

/// Commits the open transaction, if any. Returns the reductions that the process is charged for it.
#[must_use]
pub fn commit<G: Runner>(process: &mut Process<G>, system: &System<G>) -> u32 {
    match take(process) {
        Some(transaction) => transaction.commit(process, system),
        None => 0,
    }
}
