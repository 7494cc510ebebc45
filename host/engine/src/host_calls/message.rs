//! Host calls about messages: receive, send, request, call, reply, timers, sleep.

use exuvia_abi::{Code, HEADER_SIZE, Kind, Reason, SUSPEND, limits, receive};
use exuvia_process::{Due, Envelope, ExitReason, SendError};
use wasmtime::{Caller, Linker};

use super::{Answer, served};
use crate::guest::{GuestProcess, GuestSystem, WaitReason, module_of};
use crate::instance::store::{Exit, FrameData, ProcessEnds, View, bytes, bytes_mut, view};
use crate::trace::Told;
use crate::transaction::{defer, defer_or, transaction};

const MODULE: &str = exuvia_abi::MODULE;

pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "receive",
        |mut caller: Caller<'_, FrameData>,
         header: i32,
         buffer: i32,
         capacity: i32,
         timeout: i64,
         mode: i32,
         key: i64| {
            let slot = ReceiveBuffer {
                header,
                buffer,
                capacity,
            };
            served(&mut caller, "receive", |view| {
                receive(view, &slot, timeout, mode, key.cast_unsigned())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "send",
        |mut caller: Caller<'_, FrameData>, to: i32, tag: i32, data: i32, length: i32| {
            served(&mut caller, "send", |view| {
                Ok(send(view, to, tag, data, length))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "request",
        |mut caller: Caller<'_, FrameData>, to: i32, tag: i32, data: i32, length: i32, out: i32| {
            served(&mut caller, "request", |view| {
                Ok(request(view, to, tag, data, length, out))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "call",
        |mut caller: Caller<'_, FrameData>,
         to: i32,
         tag: i32,
         data: i32,
         length: i32,
         header: i32,
         buffer: i32,
         capacity: i32,
         timeout: i64| {
            let slot = ReceiveBuffer {
                header,
                buffer,
                capacity,
            };
            served(&mut caller, "call", |view| {
                call(view, to, tag, data, length, &slot, timeout)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "reply",
        |mut caller: Caller<'_, FrameData>,
         to: i32,
         reference: i64,
         tag: i32,
         data: i32,
         length: i32| {
            served(&mut caller, "reply", |view| {
                Ok(reply(view, to, reference, tag, data, length))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "send_after",
        |mut caller: Caller<'_, FrameData>,
         to: i32,
         tag: i32,
         data: i32,
         length: i32,
         delay: i64,
         out: i32| {
            served(&mut caller, "send_after", |view| {
                Ok(send_after(view, to, tag, data, length, delay, out))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "cancel_timer",
        |mut caller: Caller<'_, FrameData>, reference: i64| {
            let view = view(&mut caller, "cancel_timer")?;
            let system = &view.host.system;
            let at = cancel_timer(view.process, system, reference.cast_unsigned());
            let left = at.map(|at| at.saturating_sub(system.clock.now()) / 1_000_000);
            Ok(left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX)))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "sleep",
        |mut caller: Caller<'_, FrameData>, milliseconds: i64| {
            served(&mut caller, "sleep", |view| Ok(sleep(view, milliseconds)))
        },
    )?;
    Ok(())
}

/// Where a guest wants a message to be written.
struct ReceiveBuffer {
    header: i32,
    buffer: i32,
    capacity: i32,
}

impl ReceiveBuffer {
    fn check(&self, view: &View<'_>) -> Result<(), Code> {
        let size = view.read(self.header, 4)?;
        let size = u32::from_le_bytes(size.try_into().map_err(|_| Code::BadPointer)?);
        if size < HEADER_SIZE {
            return Err(Code::BadArgument);
        }
        view.check(self.header, HEADER_SIZE)?;
        view.check(self.buffer, self.capacity.cast_unsigned())
    }
}

/// Writes the message at `position` to the guest's buffer and removes it from the mailbox. If it
/// does not fit, writes only the header and returns [`Code::TooBig`].
fn deliver(view: &mut View<'_>, slot: &ReceiveBuffer, position: usize) -> Answer {
    let Some(message) = view.process.peek(position) else {
        return Err(Code::Empty);
    };
    let header = message.header();
    let wrote = bytes_mut(view.memory, slot.header, HEADER_SIZE.cast_signed());
    wrote
        .ok_or(Code::BadPointer)?
        .copy_from_slice(&header.to_bytes());
    if header.length > slot.capacity.cast_unsigned() {
        return Err(Code::TooBig);
    }
    bytes_mut(view.memory, slot.buffer, header.length.cast_signed())
        .ok_or(Code::BadPointer)?
        .copy_from_slice(message.payload.as_slice());
    view.debt.copied(message.payload.len());
    let Some(message) = view.process.take(position) else {
        return Err(Code::Empty);
    };
    *view.taken += 1;
    view.host.trace_received(view.process, &message);
    if let Some(transaction) = transaction(view.process) {
        transaction.took(position, message);
    } else {
        view.process.handles(message);
    }
    Ok(Code::Ok as i32)
}

/// Sorts the signals that have arrived, and ends the guest if one of them says so. Charges the cost
/// of a flood to the slice.
pub(super) fn drain(view: &mut View<'_>) -> wasmtime::Result<()> {
    let before = view.process.reductions;
    let end = view.process.drain_new_signals(&view.host.system);
    let cost = std::mem::replace(&mut view.process.reductions, before) - before;
    if cost > 0 {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        view.debt.reductions = view.debt.reductions.saturating_add(cost);
    }
    match end {
        None => Ok(()),
        Some(reason) => {
            *view.exit = Some(Exit::Signal(reason));
            Err(wasmtime::Error::new(ProcessEnds))
        }
    }
}

fn receive(
    view: &mut View<'_>,
    slot: &ReceiveBuffer,
    timeout: i64,
    mode: i32,
    key: u64,
) -> wasmtime::Result<Answer> {
    let upgrade = mode & receive::UPGRADE != 0;
    let mode = mode & !receive::UPGRADE;
    let any = mode == receive::ANY;
    if !(receive::ANY..=receive::REFERENCE).contains(&mode) || (upgrade && !any) || timeout < -1 {
        return Ok(Err(Code::BadArgument));
    }
    if let Err(code) = slot.check(view) {
        return Ok(Err(code));
    }
    if view.waiting().is_none() {
        // In probation an entry takes one message. If the guest asks for another without
        // waiting, it gets EMPTY, returns, and is entered again. If it is willing to wait, the
        // transaction is committed.
        let full = transaction(view.process).is_some_and(|t| t.has_message());
        if full && timeout == 0 && any {
            return Ok(Err(Code::Empty));
        }
        if full {
            view.close();
        }
    }
    // Check before taking any message, also when the process is already waiting: what is
    // sent after a commit is for new code. But the continuation of a WAITING process belongs
    // to old code, and it may wait for any message: it gets one at a time, and the process is
    // upgraded when it is at REST.
    let goes_on = view.continues && *view.taken == 0;
    if any && !goes_on && view.host.upgrade_due(view.process) {
        if timeout == 0 {
            return Ok(Err(Code::Empty));
        }
        if upgrade {
            view.end_wait();
            view.close();
            return Ok(Err(Code::Upgrade));
        }
    }
    let mut position = view.process.position(mode, key);
    // Check before draining: only what has arrived by now may defer the timeout.
    let (timed_out, flooded) = (view.timed_out(), view.process.has_backlog());
    if position.is_none() {
        drain(view)?;
        position = view.process.position(mode, key);
    }
    if !any {
        view.debt.looked_at(view.process.take_scanned());
    }
    if let Some(position) = position {
        view.end_wait();
        return Ok(deliver(view, slot, position));
    }
    if timeout == 0 {
        // It may be among what had arrived when the guest asked and is not sorted yet. A
        // `receive` for any message has found one, or the process is entered again when it
        // returns.
        let before = flooded || view.waiting().is_none();
        if !any && before && view.process.has_backlog() {
            return Ok(Ok(view.look_again()));
        }
        view.end_wait();
        return Ok(Err(Code::Empty));
    }
    if timed_out {
        view.end_wait();
        return Ok(Err(Code::Timeout));
    }
    Ok(view.suspend(WaitReason::Message { mode, key }, timeout, upgrade))
}

fn refused(error: SendError) -> Answer {
    match error {
        // As in Erlang: a message to a process that has exited is discarded.
        SendError::Dead => Ok(Code::Ok as i32),
        SendError::Full => Err(Code::MailboxFull),
        SendError::Unknown => Err(Code::BadArgument),
    }
}

fn send(view: &mut View<'_>, to: i32, tag: i32, data: i32, length: i32) -> Answer {
    let to = view.pid(to)?;
    let payload = view.payload(data, length)?;
    let tag = tag.cast_unsigned();
    let told = Told {
        kind: Kind::Message,
        tag,
        reference: 0,
        payload: &payload,
    };
    view.host.trace_sent(view.process, to, &told);
    let envelope = Envelope::message(view.process.pid(), tag, payload);
    if transaction(view.process).is_none() {
        return match view.host.system.send(to, envelope) {
            Ok(()) => Ok(Code::Ok as i32),
            Err(error) => refused(error),
        };
    }
    // Deferred: whether it is accepted is known too late for the guest.
    defer(view.process, &view.host.system, move |process, system| {
        if let Err(SendError::Full) = system.send(to, envelope) {
            tracing::warn!(module = %module_of(process), from = %process.pid(), %to, "a message deferred in probation was refused: the mailbox is full");
        }
    });
    Ok(Code::Ok as i32)
}

fn request(view: &mut View<'_>, to: i32, tag: i32, data: i32, length: i32, out: i32) -> Answer {
    let to = view.pid(to)?;
    let payload = view.payload(data, length)?;
    view.check(out, 8)?;
    view.may_monitor(1)?;
    let tag = tag.cast_unsigned();
    let reference = view.process.new_reference();
    let told = Told {
        kind: Kind::Request,
        tag,
        reference,
        payload: &payload,
    };
    view.host.trace_sent(view.process, to, &told);
    if transaction(view.process).is_none() {
        let sent = view
            .process
            .request(&view.host.system, to, reference, tag, payload);
        if let Err(error) = sent {
            return refused(error);
        }
    } else {
        view.promise(0, 1);
        defer(view.process, &view.host.system, move |process, system| {
            if process
                .request(system, to, reference, tag, payload)
                .is_err()
            {
                // Too late to return a code, but every request gets a reply or a DOWN.
                let reason = ExitReason::with(Reason::LIMIT.0, b"the mailbox is full");
                process.fail_request(system, to, reference, &reason);
            }
        });
    }
    view.write(out, &reference.to_le_bytes())?;
    Ok(Code::Ok as i32)
}

fn call(
    view: &mut View<'_>,
    to: i32,
    tag: i32,
    data: i32,
    length: i32,
    slot: &ReceiveBuffer,
    timeout: i64,
) -> wasmtime::Result<Answer> {
    if let Err(code) = slot.check(view) {
        return Ok(Err(code));
    }
    if timeout < -1 {
        return Ok(Err(Code::BadArgument));
    }
    let reference = match view.waiting() {
        Some(wait) => match wait.reason {
            WaitReason::Reply { reference } => reference,
            _ => return Ok(Err(Code::BadArgument)),
        },
        None => match begin_call(view, to, tag, data, length, timeout) {
            Ok(reference) => reference,
            Err(code) => return Ok(Err(code)),
        },
    };
    let timed_out = view.timed_out();
    drain(view)?;
    let position = view.process.position(receive::REFERENCE, reference);
    view.debt.looked_at(view.process.take_scanned());
    if let Some(position) = position {
        view.end_wait();
        let died = view
            .process
            .peek(position)
            .is_some_and(|message| message.kind == Kind::Down);
        if !died {
            return Ok(deliver(view, slot, position));
        }
        // The header has the exit code; the reason's bytes are not passed on.
        if let Some(message) = view.process.take(position) {
            *view.taken += 1;
            let mut header = message.header();
            header.length = 0;
            if let Err(code) = view.write(slot.header, &header.to_bytes()) {
                return Ok(Err(code));
            }
        }
        return Ok(Err(Code::NoProc));
    }
    if timeout == 0 || timed_out {
        view.end_wait();
        view.give_up(reference);
        return Ok(Err(Code::Timeout));
    }
    if view.waiting().is_some() {
        return Ok(Ok(SUSPEND));
    }
    Ok(Ok(view.wait(
        WaitReason::Reply { reference },
        timeout,
        false,
    )))
}

fn begin_call(
    view: &mut View<'_>,
    to: i32,
    tag: i32,
    data: i32,
    length: i32,
    timeout: i64,
) -> Result<u64, Code> {
    let to = view.pid(to)?;
    if to == view.process.pid() {
        return Err(Code::BadArgument);
    }
    let payload = view.payload(data, length)?;
    view.may_monitor(1)?;
    if timeout != 0 {
        view.may_wait()?;
    }
    view.close();
    let reference = view.process.new_reference();
    let tag = tag.cast_unsigned();
    let told = Told {
        kind: Kind::Request,
        tag,
        reference,
        payload: &payload,
    };
    view.host.trace_sent(view.process, to, &told);
    let system = &view.host.system;
    match view.process.request(system, to, reference, tag, payload) {
        Ok(()) => Ok(reference),
        Err(SendError::Full) => Err(Code::MailboxFull),
        Err(_) => Err(Code::BadArgument),
    }
}

fn reply(view: &mut View<'_>, to: i32, reference: i64, tag: i32, data: i32, length: i32) -> Answer {
    let to = view.pid(to)?;
    let payload = view.payload(data, length)?;
    let (reference, tag) = (reference.cast_unsigned(), tag.cast_unsigned());
    let told = Told {
        kind: Kind::Reply,
        tag,
        reference,
        payload: &payload,
    };
    view.host.trace_sent(view.process, to, &told);
    defer(view.process, &view.host.system, move |process, system| {
        process.reply(system, to, reference, tag, payload);
    });
    view.told(to);
    Ok(Code::Ok as i32)
}

fn send_after(
    view: &mut View<'_>,
    to: i32,
    tag: i32,
    data: i32,
    length: i32,
    delay: i64,
    out: i32,
) -> Answer {
    let to = view.pid(to)?;
    let payload = view.payload(data, length)?;
    let delay = u64::try_from(delay).map_err(|_| Code::BadArgument)?;
    if out != 0 {
        view.check(out, 8)?;
    }
    let pid = view.process.pid();
    let envelope = Envelope {
        kind: Kind::Timer,
        ..Envelope::message(pid, tag.cast_unsigned(), payload)
    };
    let charge = view.charge(envelope.cost())?;
    let system = &view.host.system;
    let delay = delay.saturating_mul(1_000_000);
    let due = |reference| Due::Message {
        to,
        envelope: Envelope {
            reference,
            ..envelope
        },
        charge: Some(charge),
    };
    let reference = if transaction(view.process).is_none() {
        system.set_timer(pid, delay, due)
    } else {
        // Its reference is needed at once, but it must not fire before the handler has
        // returned.
        let at = system.clock.now().saturating_add(delay);
        let reference = system.hold_timer(pid, due);
        if let Some(transaction) = transaction(view.process) {
            transaction.timers.push((reference, Some(at)));
        }
        defer_or(
            view.process,
            system,
            move |process, system| system.release_timer(process.pid(), reference, at),
            move |process, system| {
                system.timers.cancel(process.pid(), reference);
            },
        );
        reference
    };
    if out != 0 {
        view.write(out, &reference.to_le_bytes())?;
    }
    Ok(Code::Ok as i32)
}

/// Cancels a timer. Returns when it would have fired, in nanoseconds of the node's clock, or `None`
/// if it is unknown. A timer from before the open transaction is cancelled when that commits.
fn cancel_timer(process: &mut GuestProcess, system: &GuestSystem, reference: u64) -> Option<u64> {
    let pid = process.pid();
    let Some(transaction) = transaction(process) else {
        return system.timers.cancel(pid, reference);
    };
    let known = transaction
        .timers
        .iter_mut()
        .find(|(timer, _)| *timer == reference);
    if let Some((_, set_here)) = known {
        let at = set_here.take()?;
        system.timers.cancel(pid, reference);
        return Some(at);
    }
    let at = system.timers.due(pid, reference)?;
    transaction.timers.push((reference, None));
    defer(process, system, move |process, system| {
        system.timers.cancel(process.pid(), reference);
    });
    Some(at)
}

fn sleep(view: &mut View<'_>, milliseconds: i64) -> Answer {
    if milliseconds < 0 {
        return Err(Code::BadArgument);
    }
    if view.timed_out() {
        view.end_wait();
        return Ok(Code::Ok as i32);
    }
    if milliseconds == 0 {
        view.close();
        return Ok(Code::Ok as i32);
    }
    view.suspend(WaitReason::Nothing, milliseconds, false)
}

/// Reads a registered name. Returns [`Code::BadArgument`] if it is empty, too long or not UTF-8.
pub(super) fn registered<'a>(
    view: &'a View<'_>,
    pointer: i32,
    length: i32,
) -> Result<&'a str, Code> {
    let name = bytes(view.memory, pointer, length).ok_or(Code::BadPointer)?;
    if name.is_empty() || name.len() > limits::NAME as usize {
        return Err(Code::BadArgument);
    }
    text(view, pointer, length)
}

/// Reads a text of the guest. Returns an error if it is outside of its memory or not UTF-8.
pub(super) fn text<'a>(view: &'a View<'_>, pointer: i32, length: i32) -> Result<&'a str, Code> {
    let bytes = bytes(view.memory, pointer, length).ok_or(Code::BadPointer)?;
    std::str::from_utf8(bytes).map_err(|_| Code::BadArgument)
}
