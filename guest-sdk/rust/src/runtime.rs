//! The actor's loop: what stands between `run`, `save`, `load` and the handlers.
//!
//! Nothing here keeps a static beside the state itself: whatever an idle
//! process has in memory is its image, and there may be a million of them.

use std::cell::RefCell;

use crate::log::Level;
use crate::{
    Actor, Buffer, Caller, Context, Error, Info, Kind, Match, Message, Reason, RunResult, Wait,
    state, sys, tag,
};

/// Handles what waits in the mailbox, then rests.
pub fn run<A: Actor>(state: &RefCell<Option<A>>) -> RunResult {
    let mut state = state.borrow_mut();
    let mut context = Context::default();
    let mut buffer = Buffer::new();
    while let Ok(message) = buffer.receive(Match::Any, Wait::No) {
        dispatch(&mut state, message, &mut context);
        if let Some((reason, text)) = context.stop.take() {
            if reason == Reason::NORMAL && text.is_empty() {
                return RunResult::Done;
            }
            sys::exit(reason, text.as_bytes());
        }
    }
    RunResult::Rest
}

fn dispatch<A: Actor>(slot: &mut Option<A>, message: Message<'_>, cx: &mut Context) {
    if message.kind == Kind::Init {
        return start(slot, &message, cx);
    }
    let Some(state) = slot else {
        crate::error!(
            "dropped a message from {}: it came before the start",
            message.sender
        );
        return message.refuse("the process has not been started");
    };
    match (message.kind, message.tag) {
        (Kind::Message | Kind::Timer, tag::TYPED) => match crate::decode(&message.payload) {
            Ok(value) => state.handle(value, message.sender, cx),
            Err(error) => crate::warn!("dropped a message from {}: {error}", message.sender),
        },
        (Kind::Request, tag::TYPED) => match crate::decode(&message.payload) {
            Ok(request) => {
                let from = Caller::new(message.sender, message.reference);
                if let Some(reply) = state.handle_call(request, from, cx) {
                    answer(from, &reply);
                }
            }
            Err(error) => {
                crate::warn!("refused a request from {}: {error}", message.sender);
                message.refuse(&error.to_string());
            }
        },
        _ => state.handle_info(info(message), cx),
    }
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
        // The caller must hear something, else it waits for its timeout.
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

/// Hands the state over by its field names. A process that has not been started
/// hands over nothing at all.
pub fn save<A: Actor>(state: &RefCell<Option<A>>) -> bool {
    match &*state.borrow() {
        Some(state) => state::save(state),
        None => state::put(&[]).is_ok(),
    }
}

/// Takes over what another version saved.
pub fn load<A: Actor>(state: &RefCell<Option<A>>, from_schema: i32, length: usize) -> bool {
    if length == 0 {
        *state.borrow_mut() = None;
        return true;
    }
    match state::load_with(from_schema, length, |bytes| A::migrate(from_schema, bytes)) {
        Some(value) => {
            *state.borrow_mut() = Some(value);
            true
        }
        None => false,
    }
}

/// Makes the base what a process looks like after its first messages: the heap
/// has grown and what is made on first use has been made, so that none of it
/// counts as a process's own.
pub fn warm_up<A: Actor>() {
    /// More than a block of the heap's arena may have, so that the allocator
    /// behind it has a page as well: the first large message grows no memory.
    const LARGE: usize = 32 * 1024;
    // Zeros, so that the base's heap is nothing but zeros beyond the allocator's
    // own words. The optimiser must not take the unused allocation out.
    std::hint::black_box(vec![0_u8; LARGE]);
    let bytes = crate::encode(&("warm", u64::MAX)).unwrap_or_default();
    let value: Result<(String, u64), Error> = crate::decode(&bytes);
    std::hint::black_box(value.is_ok());
    A::warm_up();
}

/// Logs a panic with its place, on one line, since the trap that follows tells
/// only where.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("a value that is no text");
        match panic.location() {
            Some(place) => {
                crate::log::write(Level::Error, format_args!("panicked at {place}: {what}"));
            }
            None => crate::log::write(Level::Error, format_args!("panicked: {what}")),
        }
    }));
}
