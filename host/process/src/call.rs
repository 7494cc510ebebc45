//! What a process may ask of its node: a typed method for each host call.
//!
//! This is the one implementation of the calls. A guest's host calls (`engine`) and the calls of
//! a test (`exuvia test-node`) are decoders: they read arguments, call the method and encode the
//! result. Nothing here knows pointers, Wasm, or how a process is suspended.
//!
//! A call that waits is split into the call itself, which never waits, and a method that checks
//! whether what it waits for has arrived. How the time in between passes is the decoder's.
//!
//! The methods are in one file for each family: [`messages`], [`timers`], [`spawn`], [`relations`],
//! [`names`], [`groups`], [`tables`], [`info`]. The decoder makes a [`Caller`] for each call; that
//! costs nothing, since it is a handful of references.

mod debt;
mod error;
pub mod groups;
pub mod info;
pub mod messages;
pub mod names;
pub mod relations;
mod runner;
pub mod spawn;
pub mod tables;
pub mod timers;

use exuvia_abi::{Code, HostCall, Kind, Pid, Probation};

pub use self::debt::{BYTES_PER_REDUCTION, ReductionDebt};
pub use self::error::{CallError, CallResult, Ending};
pub use self::runner::{CallServices, NewGuest, Runner, Sent};
use crate::Payload;
use crate::account::Charge;
use crate::process::Process;
use crate::system::System;
use crate::table::Slot;
use crate::transaction::{self, Transaction};

/// A process that makes one call.
#[derive(Debug)]
pub struct Caller<'a, G, S> {
    /// The private half of the process.
    pub process: &'a mut Process<G>,
    /// The state that all processes share.
    pub system: &'a System<G>,
    /// What the node does for calls beyond that.
    pub services: &'a S,
    /// What the process owes for its calls.
    pub debt: &'a mut ReductionDebt,
    /// How the call behaves while a message is handled as a transaction. The methods below obey
    /// it, so `exuvia_abi::HOST_CALLS` decides what is deferred, undone, or ends the transaction.
    probation: Probation,
}

impl<'a, G: Runner, S: CallServices<G>> Caller<'a, G, S> {
    /// Returns the process as the caller of `call`.
    #[inline]
    pub fn new(
        process: &'a mut Process<G>,
        system: &'a System<G>,
        services: &'a S,
        debt: &'a mut ReductionDebt,
        call: &HostCall,
    ) -> Caller<'a, G, S> {
        Caller {
            process,
            system,
            services,
            debt,
            probation: call.probation,
        }
    }

    // ---- transactions -----------------------------------------------------

    /// Returns the open transaction, if the process is in one.
    #[inline]
    pub fn transaction(&mut self) -> Option<&mut Transaction<G>> {
        transaction::open(self.process)
    }

    /// Commits the open transaction, if any, whatever the table says of the call: it waits, or
    /// does too much for a transaction.
    pub fn commit(&mut self) {
        let sends = transaction::commit(self.process, self.system);
        self.debt.owe(sends);
    }

    /// Commits the open transaction if this call does so. To be called when all has been checked that
    /// can be: an error that follows leaves the transaction committed.
    #[inline]
    fn commits(&mut self) {
        if self.probation == Probation::Commits {
            self.commit();
        }
    }

    /// Returns whether what this call does is deferred now.
    #[inline]
    fn is_deferred(&mut self) -> bool {
        self.probation == Probation::Deferred && self.transaction().is_some()
    }

    /// Executes an effect, at once or when the transaction commits.
    #[inline]
    fn defer(&mut self, effect: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static) {
        match self.probation {
            Probation::Deferred => transaction::defer(self.process, self.system, effect),
            _ => effect(self.process, self.system),
        }
    }

    /// Registers how to undo what was just done, if a transaction is open and aborts.
    #[inline]
    fn on_rollback(&mut self, undo: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static) {
        if self.probation == Probation::RolledBack {
            transaction::on_rollback(self.process, self.system, undo);
        }
    }

    /// Counts links and monitors that are created when the open transaction commits, if one is
    /// open, against the limits from now on.
    fn promise(&mut self, links: usize, monitors: usize) {
        if let Some(transaction) = self.transaction() {
            transaction.links += links;
            transaction.monitors += monitors;
        }
    }

    // ---- arguments and limits ---------------------------------------------

    /// Checks a pid. Returns [`Code::BadArgument`] if no process of this node can have had it.
    #[inline]
    fn known(&self, pid: Pid) -> Result<&'a Slot<G>, Code> {
        self.system.slot(pid).ok_or(Code::BadArgument)
    }

    /// Copies a payload that the process sends. Returns [`Code::MessageTooLarge`] above its limit.
    #[inline]
    fn payload(&mut self, bytes: &[u8]) -> Result<Payload, Code> {
        if bytes.len() as u64 > u64::from(self.process.limits().message_bytes) {
            return Err(Code::MessageTooLarge);
        }
        self.debt.copied(bytes.len());
        Ok(Payload::new(bytes))
    }

    /// Counts a payload of so many bytes for the open transaction, if one is open. To be called when
    /// nothing can refuse the call any more: a guest may repeat a refused call as often as it likes.
    #[inline]
    fn count_payload(&mut self, bytes: usize) {
        if let Some(transaction) = self.transaction() {
            transaction.bytes += bytes as u64;
        }
    }

    /// Charges the process for a timer or an exit signal; see [`Process::charge`].
    fn charge(&mut self, bytes: u64) -> Result<Charge, Code> {
        let charge = self.process.charge(self.system, bytes);
        charge.ok_or(Code::Limit)
    }

    /// Checks whether the process may create one more link; see [`Process::may_link`].
    fn may_link(&mut self, to: Option<Pid>) -> Result<(), Code> {
        let promised = self.transaction().map_or(0, |t| t.links);
        let may = self.process.may_link(to, promised);
        may.then_some(()).ok_or(Code::Limit)
    }

    /// Checks whether the process may have `more` additional monitors and open requests.
    fn may_monitor(&mut self, more: usize) -> Result<(), Code> {
        let promised = self.transaction().map_or(0, |t| t.monitors);
        let may = self.process.may_monitor(promised + more);
        may.then_some(()).ok_or(Code::Limit)
    }

    /// Checks whether the process may wait, and so keep what it needs to continue. Returns
    /// [`Code::Limit`] if too many processes do so already.
    pub fn may_wait(&mut self) -> Result<(), Code> {
        let may = self.services.may_wait(self.process);
        may.then_some(()).ok_or(Code::Limit)
    }

    // ---- signals ----------------------------------------------------------

    /// Notes the receiver of a signal that no limit counts; to be called after sending one. If
    /// `to` is congested, the process continues only after `to` has caught up.
    #[inline]
    fn signalled(&mut self, to: Pid) {
        if self.process.take_backpressure() {
            self.debt.congested = Some(to);
        }
    }

    #[inline]
    fn trace(&mut self, to: Pid, kind: Kind, tag: u32, reference: u64, payload: &Payload) {
        if self.process.traced {
            let sent = Sent {
                kind,
                tag,
                reference,
                payload,
            };
            self.services.trace_sent(self.process, to, &sent);
        }
    }

    /// Sorts the signals that have arrived. Returns [`CallError::Ends`] if one of them ends the
    /// process. Charges the process for a flood of them.
    #[inline]
    pub fn drain(&mut self) -> CallResult<()> {
        let before = self.process.reductions;
        let end = self.process.drain_new_signals(self.system);
        let cost = std::mem::replace(&mut self.process.reductions, before) - before;
        if cost > 0 {
            self.debt.owe(u32::try_from(cost).unwrap_or(u32::MAX));
        }
        match end {
            None => Ok(()),
            Some(reason) => Err(CallError::Ends(Ending::Signal(reason))),
        }
    }
}
