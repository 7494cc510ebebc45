//! The actor's loop: connects `run`, `save` and `load` with the handlers.
//!
//! Nothing here keeps a static besides the state itself: whatever an idle process has in memory
//! is part of its image, and there may be a million of them.

use std::cell::RefCell;

use crate::http::{self, Request, Responder};
use crate::log::Level;
use crate::socket;
use crate::task::{Handler, Slot};
use crate::{
    Actor, Buffer, Caller, Context, Error, Info, Kind, Match, Message, Reason, RunResult, Wait,
    state, sys, tag,
};

/// Handles the messages in the mailbox, then rests; or waits, in the middle of an `async`
/// handler.
pub fn run<A: Actor>(slot: &RefCell<Slot<A>>) -> RunResult {
    let slot = &mut *slot.borrow_mut();
    let mut context = Context::default();
    let mut buffer = Buffer::new();
    loop {
        if let Some(handler) = &mut slot.handler {
            let Some((state, cx)) = handler.go_on() else {
                return RunResult::Waiting;
            };
            slot.handler = None;
            slot.state = Some(state);
            context = cx;
        } else {
            let Ok(message) = buffer.receive(Match::Any, Wait::No) else {
                return RunResult::Rest;
            };
            context.sender = message.sender;
            dispatch(slot, message, &mut context);
        }
        if let Some((reason, text)) = context.stop.take() {
            if reason == Reason::NORMAL && text.is_empty() {
                return RunResult::Done;
            }
            sys::exit(reason, text.as_bytes());
        }
    }
}

fn dispatch<A: Actor>(slot: &mut Slot<A>, message: Message<'_>, cx: &mut Context) {
    if message.kind == Kind::Init {
        return start(&mut slot.state, &message, cx);
    }
    let Some(state) = &mut slot.state else {
        crate::error!(
            "dropped a message from {}: it came before the start",
            message.sender
        );
        return message.refuse("the process has not been started");
    };
    let sender = message.sender;
    match (message.kind, message.tag) {
        (Kind::Message | Kind::Timer, tag::TYPED) => match crate::decode(&message.payload) {
            Ok(value) if A::ASYNC_HANDLE => wait(slot, cx, async move |state, cx| {
                state.handle_async(value, sender, cx).await;
            }),
            Ok(value) => state.handle(value, sender, cx),
            Err(error) => crate::warn!("dropped a message from {sender}: {error}"),
        },
        (Kind::Request, tag::TYPED) => {
            let from = Caller::new(sender, message.reference);
            match crate::decode(&message.payload) {
                Ok(request) if A::ASYNC_HANDLE_CALL => wait(slot, cx, async move |state, cx| {
                    if let Some(reply) = state.handle_call_async(request, from, cx).await {
                        answer(from, &reply);
                    }
                }),
                Ok(request) => {
                    if let Some(reply) = state.handle_call(request, from, cx) {
                        answer(from, &reply);
                    }
                }
                Err(error) => {
                    crate::warn!("refused a request from {sender}: {error}");
                    message.refuse(&error.to_string());
                }
            }
        }
        (Kind::Request, tag::HTTP_REQUEST) => {
            let from = Responder::of(&message);
            match Request::decode(sender, &message.payload) {
                Ok(request) if A::ASYNC_HANDLE_HTTP => wait(slot, cx, async move |state, cx| {
                    if let Some(response) = state.handle_http_async(request, from, cx).await {
                        http::answer(from, &response);
                    }
                }),
                Ok(request) => {
                    if let Some(response) = state.handle_http(request, from, cx) {
                        http::answer(from, &response);
                    }
                }
                Err(error) => {
                    crate::warn!("refused a request of HTTP from {sender}: {error}");
                    message.refuse(&error.to_string());
                }
            }
        }
        (Kind::Message, tag::SOCKET_OPEN)
        | (
            Kind::Request,
            tag::SOCKET_TEXT
            | tag::SOCKET_DATA
            | tag::SOCKET_DATAGRAM
            | tag::SOCKET_END
            | tag::SOCKET_CLOSE,
        ) => {
            let reference = message.reference;
            match socket::event(&message) {
                Ok((socket, event)) if A::ASYNC_HANDLE_SOCKET => {
                    wait(slot, cx, async move |state, cx| {
                        state.handle_socket_async(socket, event, cx).await;
                        socket::acknowledge(sender, reference);
                    });
                }
                Ok((socket, event)) => {
                    state.handle_socket(socket, event, cx);
                    socket::acknowledge(sender, reference);
                }
                Err(error) => {
                    crate::warn!("refused what the socket {sender} has sent: {error}");
                    message.refuse(&error.to_string());
                }
            }
        }
        _ if A::ASYNC_HANDLE_INFO => {
            let info = info(message);
            wait(slot, cx, async move |state, cx| {
                state.handle_info_async(info, cx).await;
            });
        }
        _ => state.handle_info(info(message), cx),
    }
}

/// Hands the state to a handler that may wait.
fn wait<A: Actor>(
    slot: &mut Slot<A>,
    cx: &mut Context,
    handle: impl AsyncFnOnce(&mut A, &mut Context) + 'static,
) {
    let Some(mut state) = slot.state.take() else {
        return;
    };
    let mut cx = std::mem::take(cx);
    slot.handler = Some(Handler::new(async move {
        handle(&mut state, &mut cx).await;
        (state, cx)
    }));
}

fn start<A: Actor>(slot: &mut Option<A>, message: &Message<'_>, cx: &mut Context) {
    let started = crate::decode(&message.payload)
        .map_err(|error| format!("the arguments: {error}"))
        .and_then(|args| A::init(args, cx));
    match started {
        Ok(state) => {
            *slot = Some(state);
            crate::init_ack();
        }
        Err(why) => {
            crate::init_failed(Reason(Reason::GUEST), &why);
            cx.stop(Reason::NORMAL);
        }
    }
}

fn answer<R: serde::Serialize>(to: Caller<R>, reply: &R) {
    match to.reply(reply) {
        Ok(()) => {}
        // The caller must receive some reply, otherwise it waits until its timeout.
        Err(error @ (Error::Encode(_) | Error::MessageTooLarge)) => {
            crate::error!("the reply to {}: {error}", to.pid);
            to.refuse(&format!("the reply: {error}"));
        }
        Err(error) => crate::warn!("the reply to {}: {error}", to.pid),
    }
}

fn info(message: Message<'_>) -> Info {
    match message.kind {
        Kind::Exit => Info::Exit {
            pid: message.sender,
            reason: message.reason,
            text: message.text().into_owned(),
        },
        Kind::Down => Info::Down {
            pid: message.sender,
            reference: message.reference,
            reason: message.reason,
            text: message.text().into_owned(),
        },
        Kind::Reply => Info::Reply(message.into_owned()),
        Kind::Timer => Info::Timer(message.into_owned()),
        Kind::Table => Info::Table {
            table: crate::Table::from_number(message.reference),
            from: message.sender,
            tag: message.tag,
        },
        Kind::Message | Kind::Request | Kind::Init => Info::Raw(message.into_owned()),
    }
}

/// Saves the state by its field names; returns whether it succeeded. A process that has not
/// been started saves an empty state; one with an `async` handler in progress cannot be saved.
pub fn save<A: Actor>(slot: &RefCell<Slot<A>>) -> bool {
    let slot = slot.borrow();
    if slot.handler.is_some() {
        crate::error!("a handler is under way: its continuation is of this code only");
        return false;
    }
    match &slot.state {
        Some(state) => state::save(state),
        None => state::put(&[]).is_ok(),
    }
}

/// Loads what another version saved; returns whether it succeeded.
pub fn load<A: Actor>(slot: &RefCell<Slot<A>>, from_schema: i32, length: usize) -> bool {
    if length == 0 {
        *slot.borrow_mut() = Slot::new();
        return true;
    }
    match state::load_with(from_schema, length, |bytes| A::migrate(from_schema, bytes)) {
        Some(value) => {
            slot.borrow_mut().state = Some(value);
            true
        }
        None => false,
    }
}

/// Brings the base into the state of a process after its first messages: the heap has grown and
/// lazily created data exists, so that none of it counts as a process's own.
pub fn warm_up<A: Actor>() {
    /// Larger than the largest block in the heap's arena, so that the allocator behind it has a
    /// page as well: the first large message grows no memory.
    const LARGE: usize = 32 * 1024;
    // Zeros, so that the base's heap contains only zeros besides the allocator's own words.
    // `black_box` keeps the optimiser from removing the unused allocation.
    std::hint::black_box(vec![0_u8; LARGE]);
    let bytes = crate::encode(&("warm", u64::MAX)).unwrap_or_default();
    let value: Result<(String, u64), Error> = crate::decode(&bytes);
    std::hint::black_box(value.is_ok());
    A::warm_up();
}

/// Logs panics with their location, on one line, since the trap that follows gives only the
/// location.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("a value that is not text");
        match panic.location() {
            Some(place) => {
                crate::log::write(Level::Error, format_args!("panicked at {place}: {what}"));
            }
            None => crate::log::write(Level::Error, format_args!("panicked: {what}")),
        }
    }));
}
