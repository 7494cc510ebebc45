//! How a scheduler's thread and a guest on its fiber hand a process to each
//! other: through thread-local places, one for each way.
//!
//! Another thread may resume the fiber. So nobody may keep the address of a
//! thread-local over a suspension: each access stands in a function of its own
//! that is never inlined.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::guest::GuestOwn;

thread_local! {
    static SUSPENDED: Cell<Option<Box<GuestOwn>>> = const { Cell::new(None) };
    static RESUMED: Cell<Option<Box<GuestOwn>>> = const { Cell::new(None) };
    static CANCEL: Cell<bool> = const { Cell::new(false) };
}

/// The process that is suspended, for whoever runs it.
#[inline(never)]
pub(crate) fn put_suspended(own: Box<GuestOwn>) {
    SUSPENDED.set(Some(own));
}

#[inline(never)]
pub(crate) fn take_suspended() -> Option<Box<GuestOwn>> {
    SUSPENDED.take()
}

/// The process that goes on, for the call that it is suspended in.
#[inline(never)]
pub(crate) fn put_resumed(own: Box<GuestOwn>) {
    RESUMED.set(Some(own));
}

#[inline(never)]
fn take_resumed() -> Option<Box<GuestOwn>> {
    RESUMED.take()
}

/// The call that is polled next is to end.
#[inline(never)]
pub(crate) fn put_cancel() {
    CANCEL.set(true);
}

#[inline(never)]
pub(crate) fn take_cancel() -> bool {
    CANCEL.take()
}

/// Waits until the process goes on.
pub(crate) struct Resumed;

impl Future for Resumed {
    type Output = Box<GuestOwn>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Box<GuestOwn>> {
        take_resumed().map_or(Poll::Pending, Poll::Ready)
    }
}
