//! Messages of the in-memory host: the mailbox that the test fills, and what the guest sends.

use std::mem::MaybeUninit;

use exuvia_abi::{Code, Header, limits, receive as modes};

use super::host::{record, record_referenced};
use super::{Effect, ME, Waiting, World, io, world};
use crate::sys::RawHeader;
use crate::test::{Connection, current};
use crate::{Error, Kind, Match, Message, Pid, Reason};

pub(crate) fn receive(
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
    wanted: Match<'_>,
    flags: i32,
) -> i32 {
    if let Match::References(all) = wanted
        && !(1..=limits::REFERENCES as usize).contains(&all.len())
    {
        return Code::BadArgument as i32;
    }
    if let Some(node) = current() {
        return received(&node, header, room, millis, wanted, flags);
    }
    world(|world| {
        match find(world, wanted) {
            Some(at) => take(world, at, header, room, flags),
            None if millis == 0 => Code::Empty as i32,
            None if std::mem::take(&mut world.refuses) => Code::Limit as i32,
            // No other process runs, so waiting would be in vain.
            None => Code::Timeout as i32,
        }
    })
}

/// The same for a test in a node. A message that does not fit stays here, and is found again.
fn received(
    node: &Connection,
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
    wanted: Match<'_>,
    flags: i32,
) -> i32 {
    let waits = world(|world| find(world, wanted).is_some());
    if !waits {
        match node.receive(wanted, millis) {
            Err(code) => return code,
            Ok((header, payload)) => keep(&header, payload),
        }
    }
    world(|world| match find(world, wanted) {
        Some(at) => take(world, at, header, room, flags),
        None => Code::Empty as i32,
    })
}

fn called(
    node: &Connection,
    to: Pid,
    tag: u32,
    data: &[u8],
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
) -> i32 {
    let response = node.call("call", |q| {
        let q = q.pid(to).number(tag.into());
        q.bytes(data).number(millis)
    });
    let code = response.code();
    if code != Code::Ok as i32 && code != Code::NoProc as i32 {
        return code;
    }
    let (reply, payload) = response.message();
    if code == Code::NoProc as i32 {
        header.reason = reply.reason;
        return code;
    }
    keep(&reply, payload);
    world(|world| take(world, world.mailbox.len() - 1, header, room, 0))
}

/// Puts a message from the node into the local mailbox.
fn keep(header: &Header, payload: Vec<u8>) {
    let message = Message {
        kind: header.kind,
        sender: Pid(header.sender),
        reference: header.reference,
        tag: header.tag,
        reason: Reason(header.reason),
        payload: payload.into(),
    };
    let kind = header.kind as u32;
    world(|world| world.mailbox.push_back(Waiting { kind, message }));
}

fn find(world: &World, wanted: Match<'_>) -> Option<usize> {
    use Kind::{Down, Exit, Reply, Timer};
    world.mailbox.iter().position(|waiting| {
        let message = &waiting.message;
        let has_own_reference = matches!(message.kind, Reply | Down | Timer);
        match wanted {
            Match::Any => true,
            Match::Tag(tag) => message.tag == tag && !matches!(message.kind, Exit | Down),
            Match::Reference(reference) => message.reference == reference && has_own_reference,
            Match::References(all) => all.contains(&message.reference) && has_own_reference,
            Match::Sender(pid) => message.sender == pid,
        }
    })
}

fn take(
    world: &mut World,
    at: usize,
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    flags: i32,
) -> i32 {
    let Waiting { kind, message } = &world.mailbox[at];
    header.fill(Header {
        kind: message.kind,
        sender: message.sender.0,
        reference: message.reference,
        tag: message.tag,
        length: u32::try_from(message.payload.len()).expect("a test's message is short"),
        reason: message.reason.0,
    });
    header.kind = *kind;
    if message.payload.len() > room.len() && flags & modes::TRUNCATE == 0 {
        return Code::TooBig as i32;
    }
    for (slot, byte) in room.iter_mut().zip(message.payload.iter()) {
        slot.write(*byte);
    }
    world.mailbox.remove(at);
    Code::Ok as i32
}

pub(crate) fn send(to: Pid, tag: u32, data: &[u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("send", |q| q.pid(to).number(tag.into()).bytes(data))
            .code();
    }
    if world(|world| world.full.contains(&to)) {
        return Code::MailboxFull as i32;
    }
    let sent = record(Effect::Send {
        to,
        tag,
        payload: data.to_vec(),
    });
    if tag == crate::tag::SOCKET_READ {
        io::read(to, None);
    }
    sent
}

pub(crate) fn request(to: Pid, tag: u32, data: &[u8]) -> Result<u64, Error> {
    if let Some(node) = current() {
        return node
            .call("request", |q| q.pid(to).number(tag.into()).bytes(data))
            .reference();
    }
    if world(|world| world.full.contains(&to)) {
        return Err(Error::MailboxFull);
    }
    let reference = record_referenced(|reference| Effect::Request {
        to,
        tag,
        payload: data.to_vec(),
        reference,
    });
    if tag == crate::tag::SOCKET_READ {
        io::read(to, Some(reference));
    }
    Ok(reference)
}

pub(crate) fn call(
    to: Pid,
    tag: u32,
    data: &[u8],
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
) -> i32 {
    if let Some(node) = current() {
        return called(&node, to, tag, data, header, room, millis);
    }
    if to == ME {
        return Code::BadArgument as i32;
    }
    if millis != 0 && world(|world| std::mem::take(&mut world.refuses)) {
        return Code::Limit as i32;
    }
    let reference = record_referenced(|reference| Effect::Request {
        to,
        tag,
        payload: data.to_vec(),
        reference,
    });
    world(|world| match world.answers.pop_front() {
        None => Code::Timeout as i32,
        Some(Err(reason)) => {
            header.reason = reason.0;
            Code::NoProc as i32
        }
        Some(Ok(payload)) => {
            let at = world.mailbox.len();
            let message = Message {
                kind: Kind::Reply,
                sender: to,
                reference,
                tag: crate::tag::TYPED,
                reason: Reason::NORMAL,
                payload: payload.into(),
            };
            let kind = message.kind as u32;
            world.mailbox.push_back(Waiting { kind, message });
            take(world, at, header, room, 0)
        }
    })
}

pub(crate) fn reply(to: Pid, reference: u64, tag: u32, data: &[u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("reply", |q| {
                let q = q.pid(to).reference(reference);
                q.number(tag.into()).bytes(data)
            })
            .code();
    }
    record(Effect::Reply {
        to,
        reference,
        tag,
        payload: data.to_vec(),
    })
}
