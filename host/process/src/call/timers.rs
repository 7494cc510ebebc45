//! Calls about time: timers and sleep.

use exuvia_abi::{Code, Kind, Pid};

use super::{CallResult, CallServices, Caller, Runner};
use crate::signal::Envelope;
use crate::timers::Due;
use crate::transaction;

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

impl<G: Runner, S: CallServices<G>> Caller<'_, G, S> {
    /// Sets a timer that sends a message after a delay in milliseconds. Returns its reference;
    /// errors as [`Caller::reply`], [`Code::BadArgument`] for a negative delay, and
    /// [`Code::Limit`].
    pub fn send_after(&mut self, to: Pid, tag: u32, data: &[u8], delay: i64) -> CallResult<u64> {
        self.known(to)?;
        let delay = u64::try_from(delay).map_err(|_| Code::BadArgument)?;
        let payload = self.payload(data)?;
        let pid = self.process.pid();
        let envelope = Envelope {
            kind: Kind::Timer,
            ..Envelope::message(pid, tag, payload)
        };
        let charge = self.charge(envelope.cost())?;
        let delay = delay.saturating_mul(MILLISECOND);
        let due = |reference| Due::Message {
            to,
            envelope: Envelope {
                reference,
                ..envelope
            },
            charge: Some(charge),
        };
        if !self.is_deferred() {
            return Ok(self.system.set_timer(pid, delay, due));
        }
        self.count_payload(data.len());
        // Its reference is needed at once, but it must not fire before the handler has returned.
        let at = self.system.clock.now().saturating_add(delay);
        let reference = self.system.hold_timer(pid, due);
        if let Some(transaction) = self.transaction() {
            transaction.timers.push((reference, Some(at)));
        }
        transaction::defer_or(
            self.process,
            self.system,
            move |process, system| system.release_timer(process.pid(), reference, at),
            move |process, system| {
                system.timers.cancel(process.pid(), reference);
            },
        );
        Ok(reference)
    }

    /// Cancels a timer. Returns the milliseconds that were left, or `None` if it is not set. A
    /// timer from before the open transaction is cancelled when that commits.
    pub fn cancel_timer(&mut self, reference: u64) -> Option<u64> {
        let at = self.cancel(reference)?;
        Some(at.saturating_sub(self.system.clock.now()) / MILLISECOND)
    }

    fn cancel(&mut self, reference: u64) -> Option<u64> {
        let (pid, system) = (self.process.pid(), self.system);
        if !self.is_deferred() {
            return system.timers.cancel(pid, reference);
        }
        let transaction = self.transaction()?;
        let mut known = transaction.timers.iter_mut();
        if let Some((_, set_here)) = known.find(|(timer, _)| *timer == reference) {
            let at = set_here.take()?;
            system.timers.cancel(pid, reference);
            return Some(at);
        }
        let at = system.timers.due(pid, reference)?;
        transaction.timers.push((reference, None));
        self.defer(move |process, system| {
            system.timers.cancel(process.pid(), reference);
        });
        Some(at)
    }

    /// Checks the argument of `sleep`, in milliseconds. Returns whether the process has to wait;
    /// if not, `sleep` is done. Returns [`Code::BadArgument`] for a negative time.
    pub fn sleep(&mut self, milliseconds: i64) -> Result<bool, Code> {
        if milliseconds < 0 {
            return Err(Code::BadArgument);
        }
        if milliseconds > 0 {
            return Ok(true);
        }
        self.commits();
        Ok(false)
    }
}
