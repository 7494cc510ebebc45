//! Access to a process at rest that no scheduler runs: how the pager takes its frame, and how a node
//! looks into it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use exuvia_abi::Reason;
use exuvia_process::ExitReason;

use super::FrameTable;
use crate::frames::frame::panic_text;
use crate::frames::slots::FrameLease;
use crate::guest::GuestProcess;
use crate::module::info::Artifact;
use crate::module::stack_policy::Stack;

impl FrameTable {
    /// Returns whether a frame's guest runs on a fiber although its version runs on
    /// threads' stacks now. Such a frame is replaced: its store keeps its asynchronous
    /// functions.
    pub(crate) fn is_outdated(&self, artifact: &Artifact, lease: &FrameLease) -> bool {
        lease.frame.stack() == Stack::Fiber
            && lease.frame.reusable
            && self.host.stack_of(artifact) == Stack::Thread
    }

    /// Calls `examine` with a process at rest, which no scheduler runs meanwhile. Returns `None` if
    /// the process is not at rest, or if `examine` panicked.
    pub(crate) fn examine<R>(
        &self,
        index: u32,
        examine: impl FnOnce(&mut GuestProcess) -> R,
    ) -> Option<R> {
        let slot = self.host.system.table.slot(index)?;
        if !slot.state.claim() {
            return None;
        }
        let examined = slot.take_process().map(|mut process| {
            // A panic must not keep the process from being run again, killed and reported.
            let result = catch_unwind(AssertUnwindSafe(|| examine(&mut process)));
            if let Err(panic) = &result {
                let text = format!("the host failed: {}", panic_text(&**panic));
                tracing::error!(pid = %process.pid(), "a process could not be examined: {text}");
                process.fail(ExitReason::with(Reason::INTERNAL.0, text.as_bytes()));
            }
            let number = process.guest().and_then(|guest| guest.evictable_slot());
            slot.put_process(process);
            (result.ok(), number)
        });
        let then = match &examined {
            // The process has failed and gets its last turn.
            Some((None, _)) => slot.state.yield_now(),
            _ => slot.state.transition_to_idle(),
        };
        self.host.system.apply(index, then);
        let (result, number) = examined?;
        let result = result?;
        // The pager may have delisted the frame slot, or skipped it while the process was
        // claimed.
        if let Some(number) = number {
            self.note_at_rest(number);
        }
        Some(result)
    }
}
