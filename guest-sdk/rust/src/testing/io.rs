//! Requests of HTTP, sockets and bodies in the in-memory host: what their processes send to the guest.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;

use super::{Effect, HTTP_CLIENT, World, deliver, reply, world};
use crate::socket::{self, Event, Opened, Socket};
use crate::{Error, Kind, Message, Pid, Reason, http, tag};

/// What arrives at a socket and has not been read.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    parts: VecDeque<(u32, Vec<u8>)>,
    /// The references of those who wait for it.
    readers: VecDeque<u64>,
    is_pushed: bool,
}

/// Puts a request of HTTP into the mailbox, as the process of a connection sends it. Returns its reference, for
/// [`response_to`].
///
/// ```
/// let request = exuvia::http::Request::new("GET", "/");
/// let reference = exuvia::testing::deliver_http(&request);
/// # let _ = reference;
/// ```
pub fn deliver_http(request: &http::Request) -> u64 {
    deliver_asked(Pid::NONE, tag::HTTP_REQUEST, encoded(request))
}

/// Puts into the mailbox what happens to a socket, as its process sends it. Returns the reference under which it is
/// acknowledged; 0 for [`Event::Open`](crate::socket::Event::Open), which is not.
///
/// ```
/// use exuvia::socket::{Event, Socket};
/// let socket = Socket::from_pid(exuvia::Pid::from_parts(1, 9));
/// let reference = exuvia::testing::deliver_event(socket, Event::Text("hello".into()));
/// # let _ = reference;
/// ```
pub fn deliver_event(socket: Socket, event: Event) -> u64 {
    let (tag, payload) = socket::encode(event);
    if tag != tag::SOCKET_OPEN {
        return deliver_asked(socket.pid(), tag, payload);
    }
    deliver_as(Kind::Message, socket.pid(), 0, tag, payload);
    0
}

/// Puts what came of a request to the outside into the mailbox: a response, or the text of an error as `guest-sdk/io.md`
/// has it. The reference is in the [`Effect::Request`](super::Effect::Request) to [`HTTP_CLIENT`].
///
/// ```
/// use exuvia::http::{Fetch, FetchError};
/// use exuvia::testing::{self, Effect};
/// let fetching = Fetch::get("https://example.com/").send().unwrap();
/// let effects = testing::effects();
/// let Effect::Request { to: testing::HTTP_CLIENT, reference, .. } = effects[0] else { panic!() };
/// testing::deliver_fetched(reference, Err("denied: not granted"));
/// assert_eq!(fetching.wait(exuvia::Wait::No), Err(FetchError::Denied("not granted".into())));
/// ```
pub fn deliver_fetched(reference: u64, came: Result<&http::Response, &str>) {
    let (tag, payload) = match came {
        Ok(response) => response.encode().unwrap_or_else(|error| panic!("{error}")),
        Err(text) => (tag::REFUSED, text.as_bytes().to_vec()),
    };
    deliver_reply(HTTP_CLIENT, reference, tag, payload);
}

/// Returns the response to the request with this reference and removes it from the effects.
/// [`Error::Timeout`] if there is none.
///
/// ```
/// use exuvia::{Error, testing};
/// assert_eq!(testing::response_to(7), Err(Error::Timeout));
/// ```
pub fn response_to(reference: u64) -> Result<http::Response, Error> {
    match reply(reference) {
        Some((tag, payload)) => http::Response::decode(tag, &payload),
        None => Err(Error::Timeout),
    }
}

/// Puts a request of HTTP into the mailbox whose body arrives in parts: from the socket that is returned, with
/// [`deliver_part`] and [`deliver_end`]. The reference is for [`response_to`].
///
/// ```
/// use exuvia::http::Request;
/// use exuvia::testing;
/// let (socket, reference) = testing::deliver_http_in_parts(&Request::new("PUT", "/"));
/// # let _ = (socket, reference);
/// ```
pub fn deliver_http_in_parts(request: &http::Request) -> (Socket, u64) {
    let socket = new_socket(false);
    let request = request.clone().with_rest(socket);
    let reference = deliver_asked(socket.pid(), tag::HTTP_REQUEST, encoded(&request));
    (socket, reference)
}

/// Puts the response to a request to the outside into the mailbox whose body arrives in parts: from the socket that is
/// returned. See [`Fetch::stream`](crate::http::Fetch::stream).
///
/// ```
/// use exuvia::http::{Fetch, Response};
/// use exuvia::testing::{self, Effect};
/// let _fetching = Fetch::get("https://example.com/").stream().unwrap();
/// let effects = testing::effects();
/// let Effect::Request { to: testing::HTTP_CLIENT, reference, .. } = effects[0] else { panic!() };
/// let socket = testing::deliver_fetched_in_parts(reference, &Response::new(200));
/// testing::deliver_part(socket, exuvia::socket::Event::End);
/// ```
pub fn deliver_fetched_in_parts(reference: u64, response: &http::Response) -> Socket {
    let socket = new_socket(false);
    let (_, payload) = response.encode().unwrap_or_else(|error| panic!("{error}"));
    deliver_reply(socket.pid(), reference, tag::HTTP_STREAM, payload);
    socket
}

/// Puts what came of [`Connect::send`](crate::socket::Connect::send) into the mailbox: a socket, which is returned, or the text
/// of an error as `guest-sdk/io.md` has it. The reference is in the [`Effect::Request`](super::Effect::Request) to
/// [`HTTP_CLIENT`].
///
/// ```
/// use exuvia::socket::Connect;
/// use exuvia::testing::{self, Effect};
/// let _connecting = Connect::to("tcp://10.0.0.7:1234").send().unwrap();
/// let effects = testing::effects();
/// let Effect::Request { to: testing::HTTP_CLIENT, reference, .. } = effects[0] else { panic!() };
/// let socket = testing::deliver_connected(reference, Ok("tcp"));
/// # let _ = socket;
/// ```
pub fn deliver_connected(reference: u64, came: Result<&str, &str>) -> Option<Socket> {
    // A socket that is read on request is one from the first request on.
    let opened = came.map(|kind| (kind, "127.0.0.1:1"));
    deliver_opened(reference, opened, true)
}

/// Puts into the mailbox that the body of a request may be sent ([`Fetch::upload`](crate::http::Fetch::upload)): to the socket that
/// is returned; or the text of an error as `guest-sdk/io.md` has it. The parts are in [`Effect::Request`](super::Effect::Request)s to
/// the socket, each to be replied to with [`deliver_reply`](super::deliver_reply).
///
/// ```
/// use exuvia::http::Fetch;
/// use exuvia::testing::{self, Effect};
/// let _uploading = Fetch::post("https://example.com/").upload(None).unwrap();
/// let effects = testing::effects();
/// let Effect::Request { to: testing::HTTP_CLIENT, reference, .. } = effects[0] else { panic!() };
/// let socket = testing::deliver_upload(reference, Ok(()));
/// # let _ = socket;
/// ```
pub fn deliver_upload(reference: u64, came: Result<(), &str>) -> Option<Socket> {
    let opened = came.map(|()| ("request", "example.com:443"));
    deliver_opened(reference, opened, false)
}

/// Has the response to a request arrive whose body was sent to the socket: the head, whose body follows with [`deliver_part`]
/// and [`deliver_end`]; or why there is none.
///
/// ```
/// # use exuvia::{http::{Fetch, Response}, testing::{self, Effect}, Wait};
/// # let uploading = Fetch::post("https://example.com/").upload(None).unwrap();
/// # let effects = testing::effects();
/// # let Effect::Request { reference, .. } = effects[0] else { panic!() };
/// let socket = testing::deliver_upload(reference, Ok(())).unwrap();
/// let upload = uploading.wait(Wait::No).unwrap();
/// testing::deliver_uploaded(socket, Ok(&Response::new(201)));
/// assert_eq!(upload.finish().unwrap().wait(Wait::No).unwrap().status, 201);
/// ```
pub fn deliver_uploaded(socket: Socket, came: Result<&http::Response, &str>) {
    let part = match came {
        Ok(response) => {
            let (_, payload) = response.encode().unwrap_or_else(|error| panic!("{error}"));
            (tag::HTTP_STREAM, payload)
        }
        Err(text) => (tag::REFUSED, text.into()),
    };
    arrive(socket, part);
}

/// Takes the datagrams that the guest has sent from a socket out of the effects: to whom, and their bytes. Those of
/// [`Socket::write_to`] are handed to the system at once.
///
/// ```
/// use exuvia::socket::Socket;
/// let socket = Socket::from_pid(exuvia::Pid::from_parts(1, 9));
/// socket.send_to("10.0.0.1:9".parse().unwrap(), b"hello").unwrap();
/// let sent = exuvia::testing::datagrams(socket);
/// assert_eq!(sent, [("10.0.0.1:9".parse().unwrap(), b"hello".to_vec())]);
/// ```
pub fn datagrams(socket: Socket) -> Vec<(SocketAddr, Vec<u8>)> {
    let of_socket = |effect: &mut Effect| match effect {
        Effect::Send { to, tag, .. } | Effect::Request { to, tag, .. } => {
            *to == socket.pid() && *tag == tag::SOCKET_DATAGRAM
        }
        _ => false,
    };
    let sent: Vec<Effect> = world(|world| world.effects.extract_if(.., of_socket).collect());
    let mut all = Vec::new();
    for effect in sent {
        let payload = match effect {
            Effect::Send { payload, .. } => payload,
            Effect::Request {
                payload, reference, ..
            } => {
                super::deliver_reply(reference, Ok(&()));
                payload
            }
            _ => continue,
        };
        all.push(socket::decode_datagram(&payload).unwrap_or_else(|error| panic!("{error}")));
    }
    all
}

/// Has something arrive at a socket of [`deliver_http_in_parts`], [`deliver_fetched_in_parts`] or [`deliver_connected`]: it
/// waits until the guest reads it, or comes to its `handle_socket`.
///
/// ```
/// use exuvia::http::Request;
/// use exuvia::socket::Event;
/// use exuvia::testing;
/// let (socket, _) = testing::deliver_http_in_parts(&Request::new("PUT", "/"));
/// testing::deliver_part(socket, Event::Data(b"one".to_vec()));
/// testing::deliver_part(socket, Event::End);
/// assert_eq!(testing::unread(socket), 2);
/// ```
pub fn deliver_part(socket: Socket, event: Event) {
    arrive(socket, socket::encode(event));
}

/// Has the body end with these trailers.
///
/// ```
/// # use exuvia::{http::Request, testing};
/// let (socket, _) = testing::deliver_http_in_parts(&Request::new("PUT", "/"));
/// testing::deliver_end(socket, &[("x-sum", "7")]);
/// ```
pub fn deliver_end(socket: Socket, trailers: &[(&str, &str)]) {
    arrive(socket, (tag::SOCKET_END, socket::encode_trailers(trailers)));
}

/// Returns how much has arrived at a socket that the guest has not read.
///
/// ```
/// # use exuvia::{http::Request, testing};
/// let (socket, _) = testing::deliver_http_in_parts(&Request::new("PUT", "/"));
/// assert_eq!(testing::unread(socket), 0);
/// ```
pub fn unread(socket: Socket) -> usize {
    world(|world| {
        world
            .arriving
            .get(&socket.pid())
            .map_or(0, |arriving| arriving.parts.len())
    })
}

/// Puts into the mailbox that a socket is open, of this kind and to this address, or why there is none.
fn deliver_opened(
    reference: u64,
    came: Result<(&str, &str), &str>,
    is_pushed: bool,
) -> Option<Socket> {
    match came {
        Ok((kind, peer)) => {
            let opened = Opened {
                kind: kind.to_owned(),
                peer: peer.to_owned(),
                reference: None,
            };
            let socket = new_socket(is_pushed);
            let (tag, payload) = socket::encode(Event::Open(opened));
            deliver_reply(socket.pid(), reference, tag, payload);
            Some(socket)
        }
        Err(text) => {
            deliver_reply(HTTP_CLIENT, reference, tag::REFUSED, text.into());
            None
        }
    }
}

fn new_socket(is_pushed: bool) -> Socket {
    world(|world| {
        let number = u32::try_from(world.next()).unwrap_or(u32::MAX);
        let pid = Pid::from_parts(1, FIRST.saturating_add(number).into());
        let arriving = Arriving {
            is_pushed,
            ..Arriving::default()
        };
        world.arriving.insert(pid, arriving);
        Socket::from_pid(pid)
    })
}

/// The pids of sockets are above those that tests make up.
const FIRST: u32 = 1 << 24;

fn arrive(socket: Socket, part: (u32, Vec<u8>)) {
    world(|world| {
        let arriving = world.arriving.entry(socket.pid()).or_default();
        arriving.parts.push_back(part);
    });
    pass_on(socket.pid());
}

/// Takes a SOCKET_READ of the guest: a message, or a request with this reference.
pub(super) fn read(to: Pid, reference: Option<u64>) {
    let is_known = world(|world| {
        let arriving = world.arriving.get_mut(&to);
        if let Some(arriving) = arriving {
            arriving.is_pushed = reference.is_none();
            arriving.readers.extend(reference);
            return true;
        }
        false
    });
    if is_known {
        pass_on(to);
    }
}

/// Hands on what has arrived to those who want it.
fn pass_on(pid: Pid) {
    loop {
        let next = world(|world| {
            let arriving = world.arriving.get_mut(&pid)?;
            let reader = match arriving.is_pushed {
                true => None,
                false => Some(*arriving.readers.front()?),
            };
            let part = arriving.parts.pop_front()?;
            if reader.is_some() {
                arriving.readers.pop_front();
            }
            Some((reader, part))
        });
        match next {
            None => return,
            Some((Some(reference), (tag, payload))) => deliver_reply(pid, reference, tag, payload),
            Some((None, (tag, payload))) => {
                deliver_asked(pid, tag, payload);
            }
        }
    }
}

fn encoded(request: &http::Request) -> Vec<u8> {
    request.encode().unwrap_or_else(|error| panic!("{error}"))
}

/// Puts a request into the mailbox. Returns its reference.
fn deliver_asked(sender: Pid, tag: u32, payload: Vec<u8>) -> u64 {
    let reference = world(World::next);
    deliver_as(Kind::Request, sender, reference, tag, payload);
    reference
}

fn deliver_reply(sender: Pid, reference: u64, tag: u32, payload: Vec<u8>) {
    deliver_as(Kind::Reply, sender, reference, tag, payload);
}

fn deliver_as(kind: Kind, sender: Pid, reference: u64, tag: u32, payload: Vec<u8>) {
    deliver(Message {
        kind,
        sender,
        reference,
        tag,
        reason: Reason::NORMAL,
        payload: Cow::Owned(payload),
    });
}
