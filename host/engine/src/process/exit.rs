//! The end of a process, and of a node.

use std::panic::{AssertUnwindSafe, catch_unwind};

use exuvia_process::{Body, ExitReason, Transition};

use crate::error::panic_text;
use crate::executor::Executor;
use crate::guest::{GuestProcess, Location, RunPhase};

impl Executor {
    /// Drops all processes and frames. Call it only when no scheduler runs any more.
    pub fn clear(&self) {
        let system = &self.0.host.system;
        for index in system.table.indices() {
            let Some(mut process) = system
                .table
                .slot(index)
                .and_then(|slot| slot.take_process())
            else {
                continue;
            };
            self.abort_transaction(&mut process);
            if let Some(guest) = process.guest() {
                guest.take_location();
            }
        }
        self.0.frames.clear();
    }

    /// Ends a process: gives back its frame and notifies the observer and the other processes. A panic in one step
    /// does not keep the others from being done.
    pub(super) fn end(&self, mut process: Box<GuestProcess>, reason: &ExitReason) -> Transition {
        let state = &self.0;
        let pid = process.pid();
        let guarded = |what: &str, act: &mut dyn FnMut()| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(act)) {
                let text = panic_text(&*panic);
                tracing::error!(%pid, "the host failed to {what} of a process that exits: {text}");
            }
        };
        guarded("undo the effects", &mut || {
            self.abort_transaction(&mut process)
        });
        self.0.frames.waiters.leave(pid.slot());
        guarded("take the frame", &mut || self.take_frame(&mut process));
        guarded("close the resources", &mut || {
            if let Some(guest) = process.guest()
                && guest.resources_if_any().is_some()
            {
                let version = guest.version.version().clone();
                if let Some(resources) = guest.resources_if_any() {
                    resources.exit(reason, &mut |level, text| {
                        state.host.observer.log(pid, &version, level, text);
                    });
                }
            }
        });
        // A process that is done before its start was acknowledged has failed to start.
        let failed = if reason.is_normal() {
            process.is_awaited()
        } else {
            !reason.is_orderly()
        };
        if failed && let Body::Guest(guest) = &process.body {
            let version = guest.version.version();
            guarded("report the failure", &mut || {
                state
                    .host
                    .observer
                    .failed(pid, version, reason, process.handled());
            });
        }
        if process.traced {
            state.host.tracers.ended(pid);
        }
        state.host.system.terminate(process, reason)
    }

    fn take_frame(&self, process: &mut GuestProcess) {
        let state = &self.0;
        let pid = process.pid();
        let Some(guest) = process.guest() else { return };
        if let Some(timer) = guest.wait.take().and_then(|wait| wait.timer) {
            state.host.system.timers.cancel(pid, timer);
        }
        if let Location::Frame { frame, phase, .. } = guest.take_location()
            && let Some(mut lease) = state.frames.lease(frame)
        {
            if phase == RunPhase::Suspended
                && let Some(lent) = lease.frame.cancel()
            {
                guest.resources().put(lent);
            }
            state.frames.retire(lease);
        }
    }
}
