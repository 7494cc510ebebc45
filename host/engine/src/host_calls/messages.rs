//! Host calls about messages: receive, send, request, call, reply.

use exuvia_abi::{Code, HEADER_SIZE, limits, receive};
use exuvia_process::Selector;
use exuvia_process::call::CallResult;
use exuvia_process::call::messages::{ReceiveFlags, Replied, receive_mode};

use super::memory::GuestMemory;
use super::view::View;
use crate::guest::WaitReason;

/// Where a guest wants a message to be written.
struct ReceiveBuffer {
    header: i32,
    buffer: i32,
    capacity: i32,
}

impl ReceiveBuffer {
    fn check(&self, memory: &GuestMemory<'_>) -> Result<(), Code> {
        if u32::from_le_bytes(memory.array(self.header)?) < HEADER_SIZE {
            return Err(Code::BadArgument);
        }
        memory.check(self.header, HEADER_SIZE)?;
        memory.check(self.buffer, self.capacity.cast_unsigned())
    }
}

/// Where the offset of a PEEK is in the header.
const OFFSET: u32 = HEADER_SIZE - 4;

/// Writes the message at `position` to the guest's buffer and removes it from the mailbox, but for
/// the flags. If it does not fit, writes only the header and returns [`Code::TooBig`].
#[inline]
fn deliver(
    view: &mut View<'_>,
    slot: &ReceiveBuffer,
    position: usize,
    flags: ReceiveFlags,
) -> CallResult<i32> {
    if flags.peek {
        return peek(view, slot, position);
    }
    let (mut memory, mut caller) = view.split();
    let message = caller.process.peek(position).ok_or(Code::Empty)?;
    let header = message.header();
    memory.write(slot.header, &header.to_bytes())?;
    let mut payload = message.payload.as_slice();
    if header.length > slot.capacity.cast_unsigned() {
        if !flags.truncate {
            return Err(Code::TooBig.into());
        }
        payload = &payload[..slot.capacity.cast_unsigned() as usize];
    }
    memory.write(slot.buffer, payload)?;
    caller.debt.copied(payload.len());
    caller.take(position)?;
    *view.taken += 1;
    Ok(0)
}

/// Writes what fits of the message at `position`, from the offset in the guest's header on.
#[cold]
fn peek(view: &mut View<'_>, slot: &ReceiveBuffer, position: usize) -> CallResult<i32> {
    let (mut memory, caller) = view.split();
    let message = caller.process.peek(position).ok_or(Code::Empty)?;
    let at = slot.header.cast_unsigned() + OFFSET;
    let offset = u32::from_le_bytes(memory.array(at.cast_signed())?) as usize;
    memory.write(slot.header, &message.header().to_bytes())?;
    let rest = message.payload.as_slice().get(offset..).unwrap_or_default();
    let part = &rest[..rest.len().min(slot.capacity.cast_unsigned() as usize)];
    memory.write(slot.buffer, part)?;
    caller.debt.copied(part.len());
    Ok(receive::PEEKED)
}

/// Returns what a mode and a key select.
#[inline]
fn selector(view: &mut View<'_>, mode: i32, key: i64) -> CallResult<Selector> {
    let key = key.cast_unsigned();
    Ok(match mode {
        receive::ANY => Selector::Any,
        receive::TAG => Selector::Tag(key),
        receive::REFERENCE => Selector::Reference(key),
        receive::SENDER => sender(view, key)?,
        _ => references(view, key)?,
    })
}

#[cold]
fn sender(view: &mut View<'_>, key: u64) -> CallResult<Selector> {
    let pointer = u32::try_from(key).map_err(|_| Code::BadPointer)?;
    let (memory, caller) = view.split();
    Ok(caller.messages_of(memory.pid(pointer.cast_signed())?)?)
}

#[cold]
fn references(view: &mut View<'_>, key: u64) -> CallResult<Selector> {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the key")]
    let (pointer, count) = (key as u32, (key >> 32) as u32);
    // Before the pointer is looked at, since arguments are.
    if count > limits::REFERENCES {
        return Err(Code::BadArgument.into());
    }
    let memory = view.memory();
    let bytes = memory.read(pointer.cast_signed(), (count * 8).cast_signed())?;
    Ok(Selector::references(bytes)?)
}

#[inline]
pub(super) fn receive(
    view: &mut View<'_>,
    header: i32,
    buffer: i32,
    capacity: i32,
    timeout: i64,
    mode: i32,
    key: i64,
) -> CallResult<i32> {
    let (mode, flags) = receive_mode(mode, timeout)?;
    let any = mode == receive::ANY;
    let slot = ReceiveBuffer {
        header,
        buffer,
        capacity,
    };
    slot.check(&view.memory())?;
    let wanted = selector(view, mode, key)?;
    let repeated = view.waiting().is_some();
    if !repeated {
        // In probation an entry takes one message. If the guest asks for another without
        // waiting, it gets EMPTY, returns, and is entered again. If it is willing to wait, the
        // transaction is committed.
        let mut caller = view.caller();
        let full = caller.transaction().is_some_and(|t| t.has_message());
        if full && timeout == 0 && any {
            return Err(Code::Empty.into());
        }
        if full {
            caller.commit();
        }
    }
    // Check before taking any message, also when the process is already waiting: what is
    // sent after a commit is for new code. But the continuation of a WAITING process belongs
    // to old code, and it may wait for any message: it gets one at a time, and the process is
    // upgraded when it is at REST.
    let goes_on = view.continues && *view.taken == 0;
    if any && !goes_on && view.upgrade_due() {
        *view.withheld = timeout == 0 || flags.upgrade;
        if timeout == 0 {
            return Err(Code::Empty.into());
        }
        if flags.upgrade {
            view.end_wait();
            view.caller().commit();
            return Err(Code::Upgrade.into());
        }
    }
    // Check before draining: only what has arrived by now may defer the timeout.
    let (timed_out, flooded) = (repeated && view.timed_out(), view.process.has_backlog());
    if let Some(position) = view.caller().receive(&wanted)? {
        if repeated {
            view.end_wait();
        }
        return deliver(view, &slot, position, flags);
    }
    if timeout == 0 {
        // It may be among what had arrived when the guest asked and is not sorted yet. A
        // `receive` for any message has found one, or the process is entered again when it
        // returns.
        let before = flooded || !repeated;
        if !any && before && view.process.has_backlog() {
            return Ok(view.look_again());
        }
        view.end_wait();
        return Err(Code::Empty.into());
    }
    if timed_out {
        view.end_wait();
        return Err(Code::Timeout.into());
    }
    view.suspend(WaitReason::Message(wanted), timeout, flags.upgrade)
}

#[inline]
pub(super) fn send(
    view: &mut View<'_>,
    to: i32,
    tag: i32,
    data: i32,
    length: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    let data = memory.read(data, length)?;
    caller.send(memory.pid(to)?, tag.cast_unsigned(), data)?;
    Ok(0)
}

pub(super) fn request(
    view: &mut View<'_>,
    to: i32,
    tag: i32,
    data: i32,
    length: i32,
    reference_out: i32,
) -> CallResult<i32> {
    let (mut memory, mut caller) = view.split();
    memory.check(reference_out, 8)?;
    let data = memory.read(data, length)?;
    let reference = caller.request(memory.pid(to)?, tag.cast_unsigned(), data)?;
    memory.write(reference_out, &reference.to_le_bytes())?;
    Ok(0)
}

#[expect(clippy::too_many_arguments, reason = "as the contract has it")]
pub(super) fn call(
    view: &mut View<'_>,
    to: i32,
    tag: i32,
    data: i32,
    length: i32,
    header: i32,
    buffer: i32,
    capacity: i32,
    timeout: i64,
) -> CallResult<i32> {
    let slot = ReceiveBuffer {
        header,
        buffer,
        capacity,
    };
    slot.check(&view.memory())?;
    if timeout < receive::FOREVER {
        return Err(Code::BadArgument.into());
    }
    let reference = match view.waiting().map(|wait| &wait.reason) {
        Some(WaitReason::Reply { reference }) => *reference,
        Some(_) => return Err(Code::BadArgument.into()),
        None => {
            let (memory, mut caller) = view.split();
            let data = memory.read(data, length)?;
            caller.call(memory.pid(to)?, tag.cast_unsigned(), data, timeout != 0)?
        }
    };
    let timed_out = view.timed_out();
    match view.caller().replied(reference)? {
        Some(Replied::At(position)) => {
            view.end_wait();
            return deliver(view, &slot, position, ReceiveFlags::default());
        }
        Some(Replied::Down(position)) => {
            view.end_wait();
            // The header has the exit code; the reason's bytes are not passed on.
            if let Some(message) = view.process.take(position) {
                *view.taken += 1;
                let mut header = message.header();
                header.length = 0;
                view.memory().write(slot.header, &header.to_bytes())?;
            }
            return Err(Code::NoProc.into());
        }
        None => {}
    }
    if timeout == 0 || timed_out {
        view.end_wait();
        view.caller().cancel_request(reference);
        return Err(Code::Timeout.into());
    }
    Ok(view.wait(WaitReason::Reply { reference }, timeout, false))
}

pub(super) fn reply(
    view: &mut View<'_>,
    to: i32,
    reference: i64,
    tag: i32,
    data: i32,
    length: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    let data = memory.read(data, length)?;
    let (reference, tag) = (reference.cast_unsigned(), tag.cast_unsigned());
    caller.reply(memory.pid(to)?, reference, tag, data)?;
    Ok(0)
}
