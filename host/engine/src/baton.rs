//! How a scheduler's thread and a guest that is suspended on its fiber hand
//! things to each other across a poll of the call: through thread-local places.
//!
//! Another thread may resume the fiber. So nobody may keep the address of a
//! thread-local over a suspension: each access stands in a function of its own
//! that is never inlined. All places are empty between two polls.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::guest::GuestOwn;
use crate::image::Image;

/// What a suspended guest is asked for.
pub(crate) enum Ask {
    /// To go on.
    Resume(Box<GuestOwn>),
    /// For a copy of its state.
    Copy,
}

thread_local! {
    static SUSPENDED: Cell<Option<Box<GuestOwn>>> = const { Cell::new(None) };
    static ASK: Cell<Option<Ask>> = const { Cell::new(None) };
    static COPY: Cell<Option<Image>> = const { Cell::new(None) };
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

/// What the call that is polled next is asked for.
#[inline(never)]
pub(crate) fn put_ask(ask: Ask) {
    ASK.set(Some(ask));
}

#[inline(never)]
pub(crate) fn take_ask() -> Option<Ask> {
    ASK.take()
}

/// The process of an ask to go on that nobody has heard.
#[inline(never)]
pub(crate) fn take_resumed() -> Option<Box<GuestOwn>> {
    match ASK.take()? {
        Ask::Resume(own) => Some(own),
        Ask::Copy => None,
    }
}

/// The copy that was asked for.
#[inline(never)]
pub(crate) fn put_copy(image: Image) {
    COPY.set(Some(image));
}

#[inline(never)]
pub(crate) fn take_copy() -> Option<Image> {
    COPY.take()
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

/// Waits until the guest is asked for something.
pub(crate) struct Asked;

impl Future for Asked {
    type Output = Ask;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Ask> {
        take_ask().map_or(Poll::Pending, Poll::Ready)
    }
}
