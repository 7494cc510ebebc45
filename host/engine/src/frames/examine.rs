//! Access to a process at rest that no scheduler runs: how the pager takes its frame, and how a node
//! looks into it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use exuvia_abi::Reason;
use exuvia_image::{After, Image};
use exuvia_process::ExitReason;

use super::FrameTable;
use crate::error::panic_text;
use crate::frames::slots::FrameLease;
use crate::guest::{Guest, GuestProcess, Location, RunPhase};
use crate::module::info::Artifact;
use crate::module::stack_policy::Stack;

impl FrameTable {
    /// Copies the state of a process at REST, or of a loop that waits with UPGRADE. The caller runs
    /// the process or has claimed it. Returns `None` if the process has not started, is in the
    /// middle of a handler, has returned WAITING, or is resident-only.
    pub(crate) fn copy(&self, guest: &mut Guest) -> Option<Image> {
        match &guest.location {
            Location::Image {
                image,
                waiting: false,
                ..
            } => Some(image.clone()),
            &Location::Frame {
                frame,
                reusable: true,
                phase,
                ..
            } => {
                let may = match phase {
                    RunPhase::Rest => true,
                    RunPhase::Waiting => false,
                    RunPhase::Suspended => guest.loops() == Some(true),
                };
                let mut lease = may.then(|| self.lease(frame)).flatten()?;
                guest.take_location();
                let image = match phase {
                    RunPhase::Suspended => lease.frame.copy(),
                    _ => lease.frame.save(After::Keep).ok(),
                };
                guest.set_location(self.put_back_at(lease, phase));
                image
            }
            _ => None,
        }
    }

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
            let at_rest = (process.guest()).and_then(|guest| {
                let waits = guest.waits_for_frame.then_some(index);
                Some((guest.evictable_slot()?, waits))
            });
            slot.put_process(process);
            (result.ok(), at_rest)
        });
        let then = match &examined {
            // The process has failed and gets its last turn.
            Some((None, _)) => slot.state.yield_now(),
            _ => slot.state.transition_to_idle(),
        };
        self.host.system.apply(index, then);
        let (result, at_rest) = examined?;
        let result = result?;
        // The pager may have delisted the frame slot, or skipped it while the process was
        // claimed.
        if let Some((number, waits)) = at_rest {
            self.note_at_rest(number, waits);
        }
        Some(result)
    }
}
