//! Guests that are blocked in place: they wait on the stack of a thread.
//!
//! A guest that runs on a scheduler thread's own stack (see `stack_policy`) cannot be moved
//! off it when it must wait. Its thread blocks in place: a spare thread takes over as the
//! scheduler, and this thread blocks in the host call until the guest gets a request. To
//! resume the guest, a scheduler hands its work over to the blocked thread and becomes a
//! spare thread itself. For the guest, the call has only taken long.
//!
//! [`BlockedGuest`] is shared by the two sides. The instance, with its store, stays on the
//! blocked thread's stack; everything else (the process, its frame lease) is where it would
//! be if the guest were suspended on a fiber.

use std::cell::Cell;
use std::sync::Arc;

use exuvia_image::Image;
use parking_lot::{Condvar, Mutex};

use crate::frames::slots::FrameLease;
use crate::guest::GuestProcess;
use crate::instance::Instance;
use crate::suspend::thread::ResumeHandle;

/// A guest that waits on the stack of a thread, shared by that thread and the frame's user.
#[derive(Debug)]
pub(crate) struct BlockedGuest {
    resume_handle: Arc<dyn ResumeHandle>,
    state: Mutex<BlockedState>,
    changed: Condvar,
}

enum BlockedState {
    /// The guest waits.
    Waits,
    /// The guest has a request.
    Asked(BlockedRequest),
    /// The result of a copy request.
    Copied(Image),
    /// The guest's call has ended; holds the instance unless the host failed.
    Ended(Option<Box<Instance>>),
}

impl std::fmt::Debug for BlockedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BlockedState::Waits => "Waits",
            BlockedState::Asked(_) => "Asked",
            BlockedState::Copied(_) => "Copied",
            BlockedState::Ended(_) => "Ended",
        })
    }
}

/// A request to a guest that is blocked in place.
pub(crate) enum BlockedRequest {
    /// Resume, as this process in this frame, once the thread is a scheduler's again.
    Resume(Box<GuestProcess>, FrameLease),
    /// Return a copy of the guest's state.
    Copy,
    /// End the guest's call.
    End,
}

impl BlockedGuest {
    pub(crate) fn new(resume_handle: Arc<dyn ResumeHandle>) -> Arc<BlockedGuest> {
        Arc::new(BlockedGuest {
            resume_handle,
            state: Mutex::new(BlockedState::Waits),
            changed: Condvar::new(),
        })
    }

    /// Waits, on the guest's thread, for the next request.
    pub(crate) fn next_request(&self) -> BlockedRequest {
        let mut state = self.state.lock();
        loop {
            match std::mem::replace(&mut *state, BlockedState::Waits) {
                BlockedState::Asked(ask) => return ask,
                other => *state = other,
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits, on the guest's thread, until that thread is a scheduler's again.
    pub(crate) fn wait_for_scheduler(&self) {
        self.resume_handle.wait();
    }

    /// Sets the result of [`BlockedRequest::Copy`].
    pub(crate) fn copied(&self, image: Image) {
        self.set(BlockedState::Copied(image));
    }

    fn set(&self, state: BlockedState) {
        *self.state.lock() = state;
        self.changed.notify_all();
    }

    /// Sends a request and waits for its result.
    fn request(&self, ask: BlockedRequest) -> BlockedState {
        self.set(BlockedState::Asked(ask));
        let mut state = self.state.lock();
        loop {
            match std::mem::replace(&mut *state, BlockedState::Waits) {
                result @ (BlockedState::Copied(_) | BlockedState::Ended(_)) => return result,
                other => *state = other,
            }
            self.changed.wait(&mut state);
        }
    }
}

/// The right to a guest that is blocked in place, owned by the guest's frame. Dropping it
/// ends the guest's call.
#[derive(Debug)]
pub(crate) struct BlockedHandle {
    guest: Arc<BlockedGuest>,
    /// Whether the guest was resumed or its call has ended.
    over: bool,
}

impl BlockedHandle {
    pub(crate) fn new(guest: Arc<BlockedGuest>) -> BlockedHandle {
        BlockedHandle { guest, over: false }
    }

    /// Resumes the guest as this process in this frame. It runs once the returned handle
    /// has reached the scheduler.
    pub(crate) fn resume(
        mut self,
        process: Box<GuestProcess>,
        lease: FrameLease,
    ) -> Arc<dyn ResumeHandle> {
        self.over = true;
        self.guest
            .set(BlockedState::Asked(BlockedRequest::Resume(process, lease)));
        self.guest.resume_handle.clone()
    }

    /// Returns a copy of the guest's state, or `None` if the host failed in the guest's
    /// call.
    pub(crate) fn copy(&mut self) -> Option<Image> {
        match self.guest.request(BlockedRequest::Copy) {
            BlockedState::Copied(image) => Some(image),
            // The host failed in the guest's call.
            _ => {
                self.over = true;
                None
            }
        }
    }

    /// Ends the guest's call and returns the instance, or `None` if the host failed.
    pub(crate) fn end(&mut self) -> Option<Box<Instance>> {
        if std::mem::replace(&mut self.over, true) {
            return None;
        }
        match self.guest.request(BlockedRequest::End) {
            BlockedState::Ended(body) => body,
            _ => None,
        }
    }
}

impl Drop for BlockedHandle {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// What runs on this thread's stack.
pub(crate) enum OnThisStack {
    /// The guest of this frame.
    Running(FrameLease),
    /// A guest whose call was asked to end.
    Ending(Ending),
}

/// Reports that the call of a guest that is blocked in place has ended, however it ends.
pub(crate) struct Ending(Option<Arc<BlockedGuest>>);

impl Ending {
    pub(crate) fn new(guest: Arc<BlockedGuest>) -> Ending {
        Ending(Some(guest))
    }

    /// Reports the end and returns the instance.
    pub(crate) fn with(mut self, body: Box<Instance>) {
        if let Some(guest) = self.0.take() {
            guest.set(BlockedState::Ended(Some(body)));
        }
    }

    /// Reports nothing: the guest was resumed.
    pub(crate) fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(guest) = self.0.take() {
            guest.set(BlockedState::Ended(None));
        }
    }
}

thread_local! {
    static HERE: Cell<Option<OnThisStack>> = const { Cell::new(None) };
}

/// Sets what is about to run on this thread's stack.
#[inline]
pub(crate) fn put(here: OnThisStack) {
    HERE.set(Some(here));
}

#[inline]
pub(crate) fn take() -> Option<OnThisStack> {
    HERE.take()
}
