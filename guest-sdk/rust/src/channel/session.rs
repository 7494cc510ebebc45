//! The session: what a client has joined, and what it has not seen yet. It outlives the connection.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::frame::{self, Frame, Request as Asked};
use super::shown::Shown;
use super::{
    ACKNOWLEDGE_WITHIN_MS, BURST, Json, MAX_TOPICS, MAX_UNSEEN, MAX_UNSEEN_BYTES,
    REQUESTS_PER_SECOND, Refusal, group,
};
use crate::http::{Request, Response};
use crate::socket::{self, Socket};
use crate::{Actor, Context, Error, Info, Kind, Layout, Reason, tag};

/// The codes with which a session closes a WebSocket; `docs/channels.md` has them.
mod code {
    /// Another connection of the same client has taken over.
    pub(super) const REPLACED: u16 = 4000;
    /// The client has not said hello.
    pub(super) const NO_HELLO: u16 = 4001;
    /// What the client has missed cannot be sent.
    pub(super) const MISSED: u16 = 4002;
}

/// An actor that is the session of a client. Its handlers for HTTP, sockets and infos pass on what arrives: see the
/// [example](crate::channel).
pub trait Channel: Actor {
    /// Returns the session, which is a field of the state.
    fn session(&mut self) -> &mut Session;

    /// The client wants to join a topic. It hears what is published there from this moment on, before the reply as well;
    /// after a refusal it hears no more.
    fn join(&mut self, topic: &str, params: Json, cx: &mut Context) -> Result<Joined, Refusal>;

    /// The client has pushed something to a topic that it has joined. Return the reply, or keep [`Push::id`], return `None`,
    /// and reply later with [`Session::reply`].
    fn push(&mut self, push: Push, cx: &mut Context) -> Option<Result<Json, Refusal>> {
        let _ = cx;
        Some(Err(format!("there is no event `{}`", push.event).into()))
    }

    /// A client begins: the first one, or later one that does not resume and may be somebody else, as it has the key but not the
    /// token. Topics of the former one have been left. Reset what the state has about it.
    fn begun(&mut self, cx: &mut Context) {
        let _ = cx;
    }

    /// The client has left a topic, or has begun anew. It is not called when the process ends, and not when the client has been
    /// away and has missed too much.
    fn left(&mut self, topic: &str, cx: &mut Context) {
        let _ = (topic, cx);
    }
}

/// A join that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is returned by `Channel::join`"]
pub struct Joined {
    reply: Json,
    presence: Option<(String, String, Json)>,
}

impl Joined {
    /// Accepts; the client gets `null`.
    #[expect(
        clippy::new_without_default,
        reason = "it says that something was joined"
    )]
    pub fn new() -> Joined {
        Joined {
            reply: Json::null(),
            presence: None,
        }
    }

    /// Sets what the client gets.
    pub fn reply<T: Serialize + ?Sized>(mut self, reply: &T) -> Result<Joined, Error> {
        self.reply = Json::of(reply)?;
        Ok(self)
    }

    /// Has the client be present under a key, such as the name or the number of its user, with something about it for all to
    /// see. `keeper` is the registered name of the process that has the [`Presence`](super::Presence).
    pub fn present<T: Serialize + ?Sized>(
        mut self,
        keeper: &str,
        key: &str,
        meta: &T,
    ) -> Result<Joined, Error> {
        self.presence = Some((keeper.to_owned(), key.to_owned(), Json::of(meta)?));
        Ok(self)
    }
}

/// What a client has pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The topic.
    pub topic: String,
    /// The event.
    pub event: String,
    /// The payload.
    pub payload: Json,
    /// Identifies it, for a reply that is given later.
    pub id: PushId,
}

/// Identifies a push. It may be kept in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Layout)]
pub struct PushId {
    number: u64,
    /// Of which life of the session: after the client has begun anew, nobody waits for the reply.
    life: u64,
}

/// The session of a client: a field of an actor that implements [`Channel`].
#[derive(Debug, Default, Serialize, Deserialize, Layout)]
#[serde(default)]
pub struct Session {
    /// What the client has to know to resume; empty before its first hello.
    token: String,
    /// How often a client has begun anew.
    life: u64,
    socket: Option<Socket>,
    topics: BTreeMap<String, Topic>,
    /// The number of the last frame to the client.
    sent: u64,
    /// The number of the last request of the client.
    received: u64,
    /// The last frames, up to `sent`, of which it is not known whether the client has seen them.
    unseen: VecDeque<String>,
    unseen_bytes: usize,
    /// Whether frames are missing that a client without a connection has not got.
    missed: bool,
    /// Milliseconds of the node's clock at which the client has last acknowledged something.
    acknowledged_at: u64,
    budget: Budget,
    /// Topics that were left, of which the keeper has not heard, as its mailbox was full.
    leaving: BTreeMap<String, Shown>,
}

/// A topic that the client has joined.
#[derive(Debug, Serialize, Deserialize, Layout)]
struct Topic {
    presence: Option<Shown>,
}

/// How many requests the client may make at the moment.
#[derive(Debug, Serialize, Deserialize, Layout)]
struct Budget {
    /// In thousandths of a request.
    left: u64,
    /// Milliseconds of the node's clock at which it was so.
    at: u64,
}

/// Milliseconds of the node's clock.
fn now() -> u64 {
    u64::try_from(crate::monotonic().as_millis()).unwrap_or(u64::MAX)
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            left: u64::from(BURST) * 1000,
            at: 0,
        }
    }
}

impl Budget {
    /// Takes one request; returns `false` if there is none left.
    fn take(&mut self) -> bool {
        let now = now();
        let more = now
            .saturating_sub(self.at)
            .saturating_mul(REQUESTS_PER_SECOND.into());
        self.left = self.left.saturating_add(more).min(u64::from(BURST) * 1000);
        self.at = now;
        match self.left.checked_sub(1000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl Session {
    /// Returns whether the client is connected at the moment.
    pub fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns the topics that the client has joined.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str)
    }

    /// Sends an event to the client, if it has joined the topic; returns whether it has.
    pub fn send<T: Serialize + ?Sized>(
        &mut self,
        topic: &str,
        event: &str,
        payload: &T,
    ) -> Result<bool, Error> {
        let payload = Json::of(payload)?;
        let has_joined = self.topics.contains_key(topic);
        if has_joined {
            self.event(topic, event, &payload);
        }
        Ok(has_joined)
    }

    /// Replies to a push that was kept.
    pub fn reply(&mut self, id: PushId, reply: &Result<Json, Refusal>) {
        if id.life == self.life {
            self.answer(id.number, reply);
        }
    }

    /// Changes what others see of the client in a topic in which it is present; does nothing in others.
    pub fn show<T: Serialize + ?Sized>(&mut self, topic: &str, meta: &T) -> Result<(), Error> {
        let meta = Json::of(meta)?;
        if let Some(shown) = self.shown(topic) {
            shown.change(topic, meta);
        }
        Ok(())
    }

    /// Has the client leave a topic. It is told why, with the event `left`.
    pub fn leave(&mut self, topic: &str, why: &str) {
        if self.topics.contains_key(topic) {
            self.event(topic, "left", &Json(frame::quoted(why)));
            self.forget(topic);
        }
    }

    fn shown(&mut self, topic: &str) -> Option<&mut Shown> {
        self.topics.get_mut(topic)?.presence.as_mut()
    }

    fn event(&mut self, topic: &str, event: &str, payload: &Json) {
        let text = frame::event(self.sent + 1, topic, event, payload);
        self.put(text);
    }

    fn answer(&mut self, number: u64, reply: &Result<Json, Refusal>) {
        let reply = reply.as_ref().map_err(|refusal| refusal.0.as_str());
        let text = frame::reply(self.sent + 1, number, reply);
        if !self.put(text) {
            self.put(frame::reply(
                self.sent + 1,
                number,
                Err("the reply is too large"),
            ));
        }
    }

    /// Sends a frame with the next number, and keeps it until it is known that it has arrived. Returns `false` if it is too large
    /// to be sent; the number is then that of the next one.
    fn put(&mut self, text: String) -> bool {
        if self.missed {
            return true;
        }
        if self.write(&text) == Err(Error::MessageTooLarge) {
            crate::error!(
                "dropped a frame of {} bytes: see `message_bytes`",
                text.len()
            );
            return false;
        }
        self.sent += 1;
        self.unseen_bytes += text.len();
        self.unseen.push_back(text);
        let mut has_overflowed = false;
        while self.unseen.len() > MAX_UNSEEN || self.unseen_bytes > MAX_UNSEEN_BYTES {
            self.drop_first();
            // With a connection it is on its way. Without one, nobody will ever get it.
            self.missed |= self.socket.is_none();
            has_overflowed = true;
        }
        if has_overflowed && now().saturating_sub(self.acknowledged_at) > ACKNOWLEDGE_WITHIN_MS {
            // Perhaps nobody is there. If the client is, it comes back.
            self.cut("acknowledges nothing");
        }
        if self.missed {
            self.unseen = VecDeque::new();
            self.unseen_bytes = 0;
            for (topic, joined) in std::mem::take(&mut self.topics) {
                self.quit(&topic, joined);
            }
        }
        true
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.unseen.pop_front() {
            self.unseen_bytes -= first.len();
        }
    }

    /// Writes to the client, if there is a connection. One that takes no more is cut.
    fn write(&mut self, text: &str) -> Result<(), Error> {
        let Some(socket) = self.socket else {
            return Ok(());
        };
        let written = socket.send(text);
        if written == Err(Error::MailboxFull) {
            // The client reads too slowly, and the socket does not even take a close. The client comes back and gets what is
            // kept for it.
            self.cut("reads too slowly");
        }
        written
    }

    fn cut(&mut self, why: &str) {
        if let Some(socket) = self.socket.take() {
            crate::debug!("a client that {why} is cut off");
            let _ = socket.pid().kill();
        }
    }

    /// The client has seen frames up to this one.
    fn saw(&mut self, seen: u64) {
        let seen = seen.min(self.sent);
        if self.sent - (self.unseen.len() as u64) < seen || self.unseen.is_empty() {
            self.acknowledged_at = now();
        }
        while self.sent - (self.unseen.len() as u64) < seen {
            self.drop_first();
        }
        if self.unseen.is_empty() {
            // An empty queue needs no memory in the image of a process at rest.
            self.unseen = VecDeque::new();
        }
    }

    /// Why a client with this token cannot resume.
    fn lost(&self, token: &str, seen: u64) -> Option<&'static str> {
        if self.token.is_empty() || self.token != token {
            return Some("unknown");
        }
        let first = self.sent - self.unseen.len() as u64;
        (self.missed || seen < first || seen > self.sent).then_some("missed")
    }

    /// Sends the client what it has not seen.
    fn resume(&mut self) {
        let welcome = frame::welcome(&self.token, true, self.received, None);
        let _ = self.write(&welcome);
        let unseen = std::mem::take(&mut self.unseen);
        for text in &unseen {
            // It was kept when its size was not known to be too much: the client begins anew.
            self.missed |= self.write(text) == Err(Error::MessageTooLarge);
        }
        self.unseen = unseen;
        if self.missed
            && let Some(socket) = self.socket.take()
        {
            crate::error!("a frame is too large to be sent: see `message_bytes`");
            let _ = socket.close(code::MISSED, "a frame is too large");
        }
    }

    fn forget(&mut self, topic: &str) {
        if let Some(joined) = self.topics.remove(topic) {
            self.quit(topic, joined);
        }
    }

    /// Leaves a topic.
    fn quit(&mut self, topic: &str, joined: Topic) {
        // It is no member only if it could not become one.
        let _ = group(topic).leave(crate::me());
        if let Some(shown) = joined.presence {
            self.hide(topic, shown);
        }
    }

    /// Tells the keeper that the client is present no more: later, if its mailbox is full.
    fn hide(&mut self, topic: &str, mut shown: Shown) {
        if shown.end(topic) {
            return;
        }
        if self.leaving.len() < MAX_TOPICS {
            self.leaving.insert(topic.to_owned(), shown);
        } else {
            shown.release();
            crate::warn!("who is present in {topic} has one too many: {MAX_TOPICS} leaves wait");
        }
    }
}

/// Responds to a request for the WebSocket of a session. Look at who asks before: cookies, `origins`.
pub fn accept(request: &Request) -> Response {
    match request.wants_websocket() {
        true => Response::websocket(),
        false => Response::new(426).header("upgrade", "websocket"),
    }
}

/// Handles what happens to a WebSocket of the session: [`Actor::handle_socket`] calls it.
pub fn handle_socket<A: Channel>(
    actor: &mut A,
    socket: Socket,
    event: socket::Event,
    cx: &mut Context,
) {
    match event {
        socket::Event::Text(text) => match Frame::read(&text) {
            Ok(frame) => handle_frame(actor, socket, frame, cx),
            Err(frame::Malformed { why, number }) => refuse(actor.session(), socket, &why, number),
        },
        socket::Event::Data(_) => refuse(actor.session(), socket, "a frame is text", None),
        socket::Event::Closed { code, .. } => {
            let session = actor.session();
            if session.socket == Some(socket) {
                session.socket = None;
                // The client has gone and will not come back: 1001 is a page that is left, 1005 a close without a code. All
                // other codes are accidents.
                if matches!(code, 1000 | 1001 | 1005) {
                    cx.stop(Reason::NORMAL);
                }
            }
        }
        socket::Event::Open(_) | socket::Event::Datagram { .. } | socket::Event::End => {}
    }
}

/// Says what is wrong with a frame. A client that floods the session is not told.
fn refuse(session: &mut Session, socket: Socket, why: &str, number: Option<u64>) {
    if session.budget.take() {
        let _ = socket.send(&frame::error(why, number));
    }
}

fn handle_frame<A: Channel>(actor: &mut A, socket: Socket, frame: Frame, cx: &mut Context) {
    let session = actor.session();
    if let Frame::Hello { token, seen } = frame {
        if session.socket == Some(socket) {
            return refuse(session, socket, "hello was said already", None);
        }
        return hello(actor, socket, token, seen, cx);
    }
    if session.socket != Some(socket) {
        let _ = socket.close(code::NO_HELLO, "say hello first");
        return;
    }
    match frame {
        Frame::Hello { .. } => {}
        Frame::Ack { seen } => {
            session.budget.take();
            session.saw(seen);
        }
        Frame::Ping { seen } => {
            session.saw(seen.unwrap_or(0));
            if session.budget.take() {
                let _ = session.write(frame::PONG);
            }
        }
        Frame::Request {
            number,
            topic,
            request,
            seen,
        } => {
            session.saw(seen.unwrap_or(0));
            let may = session.budget.take();
            // A client repeats what it has no reply to.
            if number <= session.received {
                return;
            }
            session.received = number;
            let reply = if may {
                ask(actor, number, topic, request, cx)
            } else {
                Some(Err(format!(
                    "more than {REQUESTS_PER_SECOND} requests in a second"
                )
                .into()))
            };
            if let Some(reply) = reply {
                actor.session().answer(number, &reply);
            }
        }
    }
}

fn hello<A: Channel>(
    actor: &mut A,
    socket: Socket,
    token: Option<String>,
    seen: u64,
    cx: &mut Context,
) {
    let session = actor.session();
    session.acknowledged_at = now();
    if let Some(replaced) = session.socket.replace(socket) {
        let _ = replaced.close(code::REPLACED, "connected again");
    }
    let lost = match &token {
        None => None,
        Some(token) => session.lost(token, seen),
    };
    if token.is_some() && lost.is_none() {
        session.saw(seen);
        session.resume();
        return;
    }
    let topics = std::mem::take(&mut session.topics);
    *session = Session {
        token: new_token(),
        life: session.life + 1,
        socket: Some(socket),
        budget: std::mem::take(&mut session.budget),
        acknowledged_at: session.acknowledged_at,
        leaving: std::mem::take(&mut session.leaving),
        ..Session::default()
    };
    let welcome = frame::welcome(&session.token, false, 0, lost);
    let _ = session.write(&welcome);
    for (topic, joined) in topics {
        actor.session().quit(&topic, joined);
        actor.left(&topic, cx);
    }
    actor.begun(cx);
}

/// 128 random bits.
fn new_token() -> String {
    format!("{:016x}{:016x}", crate::random_u64(), crate::random_u64())
}

fn ask<A: Channel>(
    actor: &mut A,
    number: u64,
    topic: String,
    request: Asked,
    cx: &mut Context,
) -> Option<Result<Json, Refusal>> {
    match request {
        Asked::Join(params) => Some(join(actor, &topic, params, cx)),
        Asked::Leave => {
            if actor.session().topics.contains_key(&topic) {
                actor.session().forget(&topic);
                actor.left(&topic, cx);
            }
            Some(Ok(Json::null()))
        }
        Asked::Push { event, payload } => {
            let session = actor.session();
            if !session.topics.contains_key(&topic) {
                return Some(Err("join the topic first".into()));
            }
            let life = session.life;
            let id = PushId { number, life };
            let push = Push {
                topic,
                event,
                payload,
                id,
            };
            actor.push(push, cx)
        }
    }
}

fn join<A: Channel>(
    actor: &mut A,
    topic: &str,
    params: Json,
    cx: &mut Context,
) -> Result<Json, Refusal> {
    let session = actor.session();
    if session.topics.contains_key(topic) {
        return Err("it has been joined already".into());
    }
    if session.topics.len() >= MAX_TOPICS {
        return Err(format!("{MAX_TOPICS} topics have been joined: leave one first").into());
    }
    // First, so that nothing is missed between a state that the reply has and the first event. What arrives waits in the
    // mailbox until this handler has returned.
    group(topic).join(crate::me())?;
    match actor.join(topic, params, cx) {
        Ok(joined) => {
            let presence = joined.presence.map(|(keeper, key, meta)| {
                let mut shown = Shown::new(keeper, key, meta);
                let leaving = &mut actor.session().leaving;
                if leaving
                    .get(topic)
                    .is_some_and(|left| left.is_of_same(&shown))
                    && let Some(mut left) = leaving.remove(topic)
                {
                    // That it joins anew says that it had left.
                    left.release();
                }
                shown.begin(topic);
                shown
            });
            let topics = &mut actor.session().topics;
            topics.insert(topic.to_owned(), Topic { presence });
            Ok(joined.reply)
        }
        Err(refusal) => {
            let _ = group(topic).leave(crate::me());
            Err(refusal)
        }
    }
}

/// Handles what a session gets from others: [`Actor::handle_info`] calls it. Returns what is not for the session.
pub fn handle_info<A: Channel>(actor: &mut A, info: Info, cx: &mut Context) -> Option<Info> {
    let _ = cx;
    let session = actor.session();
    match info {
        Info::Raw(message)
            if message.tag == tag::CHANNEL_EVENT && message.kind == Kind::Message =>
        {
            match message.decode::<super::Event>() {
                Ok(event) => {
                    let is_mine = event.except == Some(crate::me());
                    if session.topics.contains_key(&event.topic) && !is_mine {
                        session.event(&event.topic, &event.event, &event.payload);
                    }
                }
                Err(error) => crate::warn!("dropped an event from {}: {error}", message.sender),
            }
            None
        }
        Info::Timer(timer) if timer.tag == tag::CHANNEL_RETRY => {
            let topic = String::from_utf8_lossy(&timer.payload).into_owned();
            if let Some(shown) = session.shown(&topic) {
                shown.look_again(&topic, timer.reference);
            }
            if session
                .leaving
                .get(&topic)
                .is_some_and(|left| left.waits_for(timer.reference))
                && let Some(left) = session.leaving.remove(&topic)
            {
                session.hide(&topic, left);
            }
            None
        }
        Info::Down { reference, .. } => {
            let mut topics = session.topics.iter_mut();
            let is_its = topics.any(|(topic, joined)| {
                let shown = joined.presence.as_mut();
                shown.is_some_and(|shown| shown.is_down(topic, reference))
            });
            (!is_its).then_some(info)
        }
        other => Some(other),
    }
}
