//! Timers of processes: set, held until a transaction commits, fired.

use std::sync::atomic::Ordering;

use exuvia_abi::Pid;

use super::System;
use crate::item::Item;
use crate::signal::Signal;
use crate::timers::Due;

impl<G: 'static> System<G> {
    /// Sets a timer of `owner`, due `delay` nanoseconds from now. Returns its reference. A wake is
    /// cancelled when its owner terminates, a message is not. Only the owner's runner may call this
    /// on its behalf.
    pub fn set_timer(&self, owner: Pid, delay: u64, due: impl FnOnce(u64) -> Due) -> u64 {
        if let Some(slot) = self.slot(owner) {
            // Relaxed: set and read by the owner's runners, which are ordered by the run state.
            slot.timed.store(true, Ordering::Relaxed);
        }
        let shard = self.shard();
        let at = self.clock.now().saturating_add(delay);
        let (reference, first) = self.timers.set(shard, owner, at, due);
        if first && let Some(schedule) = self.schedule.get() {
            schedule.timer_moved(shard);
        }
        reference
    }

    /// Sets a timer that does not run until [`System::release_timer`]. Returns its reference.
    pub fn hold_timer(&self, owner: Pid, due: impl FnOnce(u64) -> Due) -> u64 {
        self.set_timer(owner, u64::MAX, due)
    }

    /// Starts a held timer: it is due at `at`, unless it was cancelled.
    pub fn release_timer(&self, owner: Pid, reference: u64, at: u64) {
        if let Some(shard) = self.timers.move_to(owner, reference, at)
            && let Some(schedule) = self.schedule.get()
        {
            schedule.timer_moved(shard);
        }
    }

    /// Sets a message timer of a process again under the reference that it had, unless it is still
    /// set: `delay` nanoseconds from now.
    pub(crate) fn restore_timer(&self, owner: Pid, reference: u64, delay: u64, due: Due) {
        if let Some(slot) = self.slot(owner) {
            slot.timed.store(true, Ordering::Relaxed);
        }
        let at = self.clock.now().saturating_add(delay);
        if let Some(shard) = self.timers.restore(owner, reference, at, due)
            && let Some(schedule) = self.schedule.get()
        {
            schedule.timer_moved(shard);
        }
    }

    /// Fires the timers of a shard that are due. Returns the nanoseconds until its next timer, 0 if
    /// more are due now; `None` if none is set.
    pub fn fire_timers(&self, shard: usize) -> Option<u64> {
        let next = self.timers.next(shard);
        if next == u64::MAX {
            return None;
        }
        let now = self.clock.now();
        if next > now {
            return Some(next - now);
        }
        self.timers.fire(shard, now, |due| match due {
            Due::Message {
                to,
                envelope,
                charge,
            } => {
                // A timer's message is never refused: there is no sender to return an error to.
                let _ = self.put(to, Item::charged(Signal::Message(envelope), charge));
            }
            Due::Wake(pid) => self.wake(pid),
        });
        match self.timers.next(shard) {
            u64::MAX => None,
            next => Some(next.saturating_sub(now)),
        }
    }
}
