//! What a host call sees: the guest's memory, its process, and what the executor shares.

use std::sync::Arc;

use exuvia_abi::{HostCall, SUSPEND};
use exuvia_process::Due;
use exuvia_process::call::{CallResult, Caller, ReductionDebt};

use super::memory::GuestMemory;
use super::services::{HostCaller, HostServices};
use crate::guest::{GuestProcess, Wait, WaitReason};
use crate::host::Host;
use crate::instance::restricted::WARM_UP;
use crate::instance::store::{Denied, FrameData, Mode, RefusedCall, RefusedInWarmUp};

/// The view of a call that only a running process may make.
pub(super) struct View<'a> {
    memory: &'a mut [u8],
    host: &'a Arc<Host>,
    services: HostServices<'a>,
    pub(super) process: &'a mut GuestProcess,
    /// The number of messages that the current entry has taken.
    pub(super) taken: &'a mut u32,
    /// Set if messages are withheld from the guest for an upgrade.
    pub(super) withheld: &'a mut bool,
    /// Whether the process was WAITING when it was entered.
    pub(super) continues: bool,
    pub(super) debt: &'a mut ReductionDebt,
    call: &'static HostCall,
}

/// The view of a call that is also served in restricted runs, where no process runs.
pub(super) struct RestrictedView<'a> {
    pub(super) memory: GuestMemory<'a>,
    pub(super) data: &'a mut FrameData,
}

/// Returns the view of a call that is not served in restricted runs, or an error there.
#[inline]
pub(super) fn enter<'a>(
    caller: &'a mut wasmtime::Caller<'_, FrameData>,
    call: &'static HostCall,
) -> wasmtime::Result<View<'a>> {
    let memory = memory(caller)?;
    let (memory, data) = memory.data_and_store_mut(caller);
    if let Mode::Restricted(restricted) = &data.mode {
        return Err(wasmtime::Error::new(RefusedCall {
            call: call.name,
            what: restricted.what,
        }));
    }
    data.limiter.denied = Denied::No;
    match (&data.host, &mut data.process) {
        (Some(host), Some(process)) => Ok(View {
            memory,
            host,
            services: HostServices(host),
            process,
            taken: &mut data.taken,
            withheld: &mut data.withheld,
            continues: data.continues,
            debt: &mut data.debt,
            call,
        }),
        _ => Err(wasmtime::Error::msg("no process is in the frame")),
    }
}

/// Returns the view of a call that is served in restricted runs too.
pub(super) fn enter_restricted<'a>(
    caller: &'a mut wasmtime::Caller<'_, FrameData>,
    call: &'static HostCall,
) -> wasmtime::Result<RestrictedView<'a>> {
    let memory = memory(caller)?;
    let (memory, data) = memory.data_and_store_mut(caller);
    if call.impure {
        impure(data, call.name)?;
    }
    Ok(RestrictedView {
        memory: GuestMemory(memory),
        data,
    })
}

pub(crate) fn memory(
    caller: &wasmtime::Caller<'_, FrameData>,
) -> wasmtime::Result<wasmtime::Memory> {
    let memory = caller.data().memory;
    memory.ok_or_else(|| wasmtime::Error::msg("the frame has no memory"))
}

/// Marks initialization as impure: it asked for something that differs between processes. In
/// `warm_up` this is an error, since `warm_up` prepares the base that all processes share.
pub(crate) fn impure(data: &mut FrameData, call: &'static str) -> wasmtime::Result<()> {
    if let Mode::Restricted(restricted) = &mut data.mode
        && restricted.fixed.is_none()
    {
        if restricted.what == WARM_UP {
            return Err(wasmtime::Error::new(RefusedInWarmUp { call }));
        }
        restricted.impure.get_or_insert(call);
    }
    data.limiter.denied = Denied::No;
    Ok(())
}

impl View<'_> {
    /// Returns the guest's memory, and its process as a caller.
    #[inline]
    pub(super) fn split(&mut self) -> (GuestMemory<'_>, HostCaller<'_>) {
        let caller = Caller::new(
            self.process,
            &self.host.system,
            &self.services,
            self.debt,
            self.call,
        );
        (GuestMemory(self.memory), caller)
    }

    /// Returns the guest's memory.
    #[inline]
    pub(super) fn memory(&mut self) -> GuestMemory<'_> {
        GuestMemory(self.memory)
    }

    /// Returns the process as a caller.
    #[inline]
    pub(super) fn caller(&mut self) -> HostCaller<'_> {
        self.split().1
    }

    /// Returns whether the process must be upgraded when it is next at rest.
    #[inline]
    pub(super) fn upgrade_due(&mut self) -> bool {
        self.host.upgrade_due(self.process)
    }

    // ---- waits ------------------------------------------------------------

    /// Returns the wait of the call that is being repeated, or `None` if this is the first attempt.
    pub(super) fn waiting(&mut self) -> Option<&mut Wait> {
        self.process.guest()?.wait.get_mut()
    }

    /// Ends the wait, whatever its outcome, and cancels its timer.
    pub(super) fn end_wait(&mut self) {
        let pid = self.process.pid();
        let wait = self.process.guest().and_then(|guest| guest.wait.take());
        if let Some(timer) = wait.and_then(|wait| wait.timer) {
            self.host.system.timers.cancel(pid, timer);
        }
    }

    /// Returns whether the deadline of the wait has passed. Returns false while signals that have
    /// arrived are not sorted yet: what it waits for may be among them.
    pub(super) fn timed_out(&mut self) -> bool {
        if self.process.has_backlog() {
            return false;
        }
        let deadline = self.waiting().and_then(|wait| wait.deadline);
        deadline.is_some_and(|deadline| deadline <= self.host.system.clock.now())
    }

    /// Suspends the guest until `what` happens, for at most `timeout` milliseconds (negative: no
    /// limit). Commits the open transaction, if any. Returns LIMIT if the process may not
    /// wait.
    pub(super) fn suspend(
        &mut self,
        what: WaitReason,
        timeout: i64,
        upgrade: bool,
    ) -> CallResult<i32> {
        if self.waiting().is_some() {
            return Ok(SUSPEND);
        }
        self.caller().may_wait()?;
        Ok(self.wait(what, timeout, upgrade))
    }

    /// Suspends the guest until its next turn, in which it repeats the call.
    pub(super) fn look_again(&mut self) -> i32 {
        if let Some(guest) = self.process.guest()
            && guest.wait.get().is_none()
        {
            guest.wait.set(Wait::turn(None));
        }
        SUSPEND
    }

    /// Suspends the guest in a call that checked [`Caller::may_wait`] before it had any effect: its
    /// effects could not be undone if the wait were refused.
    pub(super) fn wait(&mut self, what: WaitReason, timeout: i64, upgrade: bool) -> i32 {
        if self.waiting().is_some() {
            return SUSPEND;
        }
        self.caller().commit();
        let pid = self.process.pid();
        let system = &self.host.system;
        let (mut deadline, mut timer) = (None, None);
        if let Ok(timeout) = u64::try_from(timeout) {
            let delay = timeout.saturating_mul(1_000_000);
            deadline = Some(system.clock.now().saturating_add(delay));
            timer = Some(system.set_timer(pid, delay, |_| Due::Wake(pid)));
        }
        if let Some(guest) = self.process.guest() {
            guest.wait.set(Wait {
                reason: what,
                deadline,
                timer,
                upgrade,
                publication: None,
                in_host: None,
            });
        }
        SUSPEND
    }
}
