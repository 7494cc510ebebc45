//! Calls about ends, links, monitors and priority.

use exuvia_abi::{Code, Pid, Priority, Reason, demonitor};

use super::names::valid_name;
use super::{CallError, CallResult, CallServices, Caller, Ending, Runner};
use crate::ExitReason;
use crate::process::Process;
use crate::signal::{Envelope, Signal};
use crate::system::System;

/// Returns whether a guest may end a process with this code.
fn is_guests(code: i32) -> bool {
    code == Reason::NORMAL.0 || code == Reason::SHUTDOWN.0 || code >= Reason::GUEST
}

/// Returns how `exit` ends the process. `detail` is `None` if the guest passed a pointer
/// beyond its memory.
pub fn exit(code: i32, detail: Option<&[u8]>) -> CallError {
    CallError::Ends(match detail {
        Some(detail) if is_guests(code) => Ending::Itself(ExitReason::with(code, detail)),
        _ => Ending::Fault(ExitReason::with(
            Reason::CONTRACT.0,
            b"`exit` was called with a code that belongs to the host, or a bad pointer",
        )),
    })
}

impl<G: Runner, S: CallServices<G>> Caller<'_, G, S> {
    /// Sends an exit signal. Returns [`Code::BadArgument`] for a code that belongs to the host or
    /// an unknown pid, or [`Code::Limit`].
    pub fn exit_process(&mut self, to: Pid, code: i32, detail: &[u8]) -> CallResult<()> {
        if !is_guests(code) {
            return Err(Code::BadArgument.into());
        }
        self.known(to)?;
        let reason = ExitReason::with(code, detail);
        let bytes = reason.bytes().len();
        let charge = self.charge((bytes + size_of::<Envelope>()) as u64)?;
        self.debt.copied(bytes);
        self.signal(to, move |process, system| {
            let exit = Signal::Exit {
                from: process.pid(),
                reason,
                linked: false,
            };
            let _ = process.send_charged(system, to, exit, charge);
        });
        Ok(())
    }

    /// Ends a process unconditionally. Returns [`Code::BadArgument`] for an unknown pid.
    pub fn kill(&mut self, to: Pid) -> CallResult<()> {
        self.known(to)?;
        self.signal(to, move |process, system| {
            let from = process.pid();
            let _ = process.send_signal(system, to, Signal::Kill { from });
        });
        Ok(())
    }

    /// Links the process to another. Returns [`Code::BadArgument`], or [`Code::Limit`] if it has
    /// too many links or the other has too many messages that no limit counts.
    pub fn link(&mut self, to: Pid) -> CallResult<()> {
        self.known(to)?;
        self.may_link(Some(to))?;
        if to != self.process.pid() && !self.system.may_be_linked(to) {
            return Err(Code::Limit.into());
        }
        self.promise(1, 0);
        self.signal(to, move |process, system| process.link(system, to));
        Ok(())
    }

    /// Removes a link. Returns [`Code::BadArgument`] for an unknown pid.
    pub fn unlink(&mut self, to: Pid) -> CallResult<()> {
        self.known(to)?;
        self.signal(to, move |process, system| process.unlink(system, to));
        Ok(())
    }

    /// Monitors a process. Returns the reference, [`Code::BadArgument`] for an unknown pid, or
    /// [`Code::Limit`].
    pub fn monitor(&mut self, to: Pid) -> CallResult<u64> {
        self.known(to)?;
        self.monitor_known(to)
    }

    /// Monitors the process that has a name, or none ([`Pid::NONE`]), whose `DOWN` arrives at once.
    /// Returns its pid and the reference; errors as [`Caller::monitor`].
    pub fn monitor_name(&mut self, name: &[u8]) -> CallResult<(Pid, u64)> {
        let found = self.system.names.find(valid_name(name)?);
        let to = found.unwrap_or(Pid::NONE);
        Ok((to, self.monitor_known(to)?))
    }

    fn monitor_known(&mut self, to: Pid) -> CallResult<u64> {
        self.may_monitor(1)?;
        self.promise(0, 1);
        let reference = self.process.new_reference();
        self.signal(to, move |process, system| {
            process.monitor(system, to, reference);
        });
        Ok(reference)
    }

    /// Removes a monitor or gives up a request. Returns [`Code::BadArgument`] for unknown flags.
    pub fn demonitor(&mut self, reference: u64, flags: i32) -> CallResult<()> {
        if flags & !demonitor::FLUSH != 0 {
            return Err(Code::BadArgument.into());
        }
        let flush = flags & demonitor::FLUSH != 0;
        let to = self.process.monitored(reference).unwrap_or(Pid::NONE);
        self.signal(to, move |process, system| {
            process.demonitor(system, reference, flush);
        });
        Ok(())
    }

    /// Sends a signal to `to`, at once or when the open transaction commits.
    #[inline]
    fn signal(&mut self, to: Pid, send: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static) {
        self.defer(send);
        self.signalled(to);
    }

    /// Sets whether exit signals become messages. Returns the former value.
    pub fn trap_exit(&mut self, on: bool) -> bool {
        let before = self.process.set_trap_exit(on);
        self.on_rollback(move |process, _| {
            process.set_trap_exit(before);
        });
        before
    }

    /// Sets the priority of the process. Returns the former one, [`Code::BadArgument`], or
    /// [`Code::Denied`] above its limit.
    pub fn set_priority(&mut self, priority: u32) -> CallResult<Priority> {
        let wanted = Priority::new(priority).ok_or(Code::BadArgument)?;
        if wanted > self.process.limits().priority {
            return Err(Code::Denied.into());
        }
        let before = self.system.set_priority(self.process.pid(), wanted);
        self.on_rollback(move |process, system| {
            // Its limit may be lower by then.
            system.set_priority(process.pid(), before.min(process.limits().priority));
        });
        Ok(before)
    }
}
