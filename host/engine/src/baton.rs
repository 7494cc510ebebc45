//! How a scheduler's thread and a frame hand things to each other across a
//! poll of the frame's future: through one thread-local place each way.
//!
//! A frame's code runs partly on a fiber, which another thread may resume. So
//! nobody may keep the address of a thread-local over a suspension: each
//! access stands in a function of its own that is never inlined.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::frame::{Command, Reply};

thread_local! {
    static COMMAND: Cell<Option<Command>> = const { Cell::new(None) };
    static CANCEL: Cell<bool> = const { Cell::new(false) };
    static REPLY: Cell<Option<Reply>> = const { Cell::new(None) };
}

#[inline(never)]
pub(crate) fn put_command(command: Command) {
    CANCEL.set(matches!(command, Command::Cancel));
    COMMAND.set(Some(command));
}

/// Forgets what a frame that has failed did not take, or left.
#[inline(never)]
pub(crate) fn clear() {
    drop((COMMAND.take(), REPLY.take()));
}

#[inline(never)]
pub(crate) fn take_command() -> Option<Command> {
    COMMAND.take()
}

/// Takes the command if it is to cancel.
#[inline(never)]
pub(crate) fn take_cancel() -> bool {
    let cancel = CANCEL.take();
    if cancel {
        COMMAND.set(None);
    }
    cancel
}

#[inline(never)]
pub(crate) fn put_reply(reply: Reply) {
    REPLY.set(Some(reply));
}

#[inline(never)]
pub(crate) fn take_reply() -> Option<Reply> {
    REPLY.take()
}

/// Waits for the next command.
pub(crate) struct Next;

impl Future for Next {
    type Output = Command;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Command> {
        take_command().map_or(Poll::Pending, Poll::Ready)
    }
}
