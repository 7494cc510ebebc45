//! How a scheduler's thread and a guest that is suspended on its fiber exchange values
//! across a poll of the call: through thread-local cells.
//!
//! Another thread may resume the fiber, so the address of a thread-local must not be kept
//! over a suspension: each access is in a function of its own that is never inlined. All
//! cells are empty between two polls.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use exuvia_image::Image;

use crate::guest::GuestProcess;

/// A request to a suspended guest.
pub(crate) enum FiberRequest {
    /// Resume with this process.
    Resume(Box<GuestProcess>),
    /// Return a copy of the guest's state.
    Copy,
}

thread_local! {
    static SUSPENDED: Cell<Option<Box<GuestProcess>>> = const { Cell::new(None) };
    static ASK: Cell<Option<FiberRequest>> = const { Cell::new(None) };
    static COPY: Cell<Option<Image>> = const { Cell::new(None) };
    static CANCEL: Cell<bool> = const { Cell::new(false) };
}

/// Hands over the suspended process to the thread that runs it.
#[inline(never)]
pub(crate) fn put_suspended(process: Box<GuestProcess>) {
    SUSPENDED.set(Some(process));
}

#[inline(never)]
pub(crate) fn take_suspended() -> Option<Box<GuestProcess>> {
    SUSPENDED.take()
}

/// Sets the request for the call that is polled next.
#[inline(never)]
pub(crate) fn put_request(ask: FiberRequest) {
    ASK.set(Some(ask));
}

#[inline(never)]
pub(crate) fn take_request() -> Option<FiberRequest> {
    ASK.take()
}

/// Returns the process of a resume request that no guest has taken.
#[inline(never)]
pub(crate) fn take_resumed() -> Option<Box<GuestProcess>> {
    match ASK.take()? {
        FiberRequest::Resume(process) => Some(process),
        FiberRequest::Copy => None,
    }
}

/// Sets the copy that was requested.
#[inline(never)]
pub(crate) fn put_copy(image: Image) {
    COPY.set(Some(image));
}

#[inline(never)]
pub(crate) fn take_copy() -> Option<Image> {
    COPY.take()
}

/// Requests that the call which is polled next ends.
#[inline(never)]
pub(crate) fn put_cancel() {
    CANCEL.set(true);
}

#[inline(never)]
pub(crate) fn take_cancel() -> bool {
    CANCEL.take()
}

/// A future that waits for the guest's next request.
pub(crate) struct NextRequest;

impl Future for NextRequest {
    type Output = FiberRequest;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<FiberRequest> {
        take_request().map_or(Poll::Pending, Poll::Ready)
    }
}
