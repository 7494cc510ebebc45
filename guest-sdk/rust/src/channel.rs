//! Channels: browsers join topics over one WebSocket, hear what is published there, see who is present, and miss nothing
//! when their connection is lost for a while.
//!
//! A *session* is the process that owns the WebSocket of one client. It is an actor with a [`Session`] in its state and an
//! implementation of [`Channel`], and gets its requests from a route with `per = "key"`. So it outlives the connection: it
//! rests, with what its client has missed, until the client comes back or the `idle` of the route is over. A *topic* is a
//! process group of sessions: whoever [publishes](publish) to it reaches all clients that have joined. Who is present in a
//! topic is known by the process that has a [`Presence`], usually the one that has the other state of the topic, too.
//!
//! What goes over the WebSocket is in `docs/channels.md`; `exuvia.js` there is a client for browsers.
//!
//! ```
//! use exuvia::channel::{self, Channel, Joined, Json, Push, Refusal, Session};
//! use exuvia::http::{Request, Responder, Response};
//! use exuvia::prelude::*;
//! use exuvia::socket::{Event, Socket};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Visitor {
//!     session: Session,
//!     name: String,
//! }
//!
//! #[exuvia::actor(schema = 1)]
//! impl Actor for Visitor {
//!     type Args = String;
//!
//!     fn init(_key: String, _: &mut Context) -> Result<Self, String> {
//!         Ok(Visitor { session: Session::default(), name: String::new() })
//!     }
//!
//!     fn handle_http(&mut self, request: Request, _: Responder, _: &mut Context) -> Option<Response> {
//!         Some(channel::accept(&request))
//!     }
//!
//!     fn handle_socket(&mut self, socket: Socket, event: Event, cx: &mut Context) {
//!         channel::handle_socket(self, socket, event, cx);
//!     }
//!
//!     fn handle_info(&mut self, info: Info, cx: &mut Context) {
//!         channel::handle_info(self, info, cx);
//!     }
//! }
//!
//! impl Channel for Visitor {
//!     fn session(&mut self) -> &mut Session {
//!         &mut self.session
//!     }
//!
//!     fn join(&mut self, topic: &str, params: Json, _: &mut Context) -> Result<Joined, Refusal> {
//!         if topic != "room:lobby" {
//!             return Err("there is no such room".into());
//!         }
//!         self.name = params.decode()?;
//!         // The process with this name has the `Presence`.
//!         Ok(Joined::new().present("room:lobby", &self.name, &())?)
//!     }
//!
//!     fn push(&mut self, push: Push, _: &mut Context) -> Option<Result<Json, Refusal>> {
//!         let said: String = match push.payload.decode() {
//!             Ok(said) => said,
//!             Err(refusal) => return Some(Err(refusal)),
//!         };
//!         let said = format!("{}: {said}", self.name);
//!         Some(match channel::publish(&push.topic, "said", &said) {
//!             Ok(_) => Ok(Json::null()),
//!             Err(error) => Err(error.into()),
//!         })
//!     }
//! }
//! ```

mod frame;
mod presence;
mod session;
mod shown;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub use self::presence::{Change, Presence, Present, What};
pub use self::session::{
    Channel, Joined, Push, PushId, Session, accept, handle_info, handle_socket,
};
use crate::{Error, Group, Layout, Pid, tag};

/// The version of what goes over the WebSocket.
pub const VERSION: u32 = 1;
/// Topics that a session may have joined at a time.
pub const MAX_TOPICS: usize = 100;
/// Bytes of the name of a topic.
pub const MAX_TOPIC_NAME: usize = 200;
/// Bytes of the name of an event.
pub const MAX_EVENT_NAME: usize = 100;
/// Frames that a session keeps for its client until it knows that they have arrived. A client that has missed more cannot
/// resume.
pub const MAX_UNSEEN: usize = 512;
/// Bytes of these frames.
pub const MAX_UNSEEN_BYTES: usize = 256 * 1024;
/// Requests (joins, pushes, leaves) of a client in a second, on average; more are refused.
pub const REQUESTS_PER_SECOND: u32 = 100;
/// Requests that may come at once after a pause. Other frames count, too.
pub const BURST: u32 = 200;
/// How long a connected client may acknowledge nothing, in milliseconds, when more has been sent than is kept for it.
pub const ACKNOWLEDGE_WITHIN_MS: u64 = 30_000;
/// Sessions that may be present in a topic.
pub const MAX_PRESENT: usize = 10_000;

/// A value as JSON text: what clients send, and what is sent to them. It passes through without being decoded: as a payload, or
/// a part of one, it is the value, and not a string. In formats such as that of the state it is a text.
///
/// ```
/// use exuvia::channel::Json;
/// let point = Json::of(&(3, 4)).unwrap();
/// assert_eq!(point.as_str(), "[3,4]");
/// assert_eq!(point.decode::<(u8, u8)>(), Ok((3, 4)));
/// assert!(point.decode::<String>().is_err());
/// assert_eq!(Json::of(&[&point]).unwrap().as_str(), "[[3,4]]");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Layout)]
pub struct Json(String);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        if !deserializer.is_human_readable() {
            return String::deserialize(deserializer).map(Json);
        }
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Json(raw.get().to_owned()))
    }
}

impl Json {
    /// Encodes a value. [`Error::Encode`]: it cannot be JSON, such as a map whose keys are no text.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Json, Error> {
        match serde_json::to_string(value) {
            Ok(text) => Ok(Json(text)),
            Err(error) => Err(Error::Encode(error.to_string())),
        }
    }

    /// Returns `null`: nothing to say.
    pub fn null() -> Json {
        Json("null".to_owned())
    }

    /// Decodes it. The error is the refusal that tells the client why.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let decoded = serde_json::from_str(&self.0);
        decoded.map_err(|error| Refusal(format!("the payload: {error}")))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a join or a push is refused, as the client is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl From<&str> for Refusal {
    fn from(why: &str) -> Refusal {
        Refusal(why.to_owned())
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal(why)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal(error.to_string())
    }
}

/// What is sent to sessions, with the tag [`tag::CHANNEL_EVENT`].
#[derive(Serialize, Deserialize)]
struct Event {
    topic: String,
    event: String,
    payload: Json,
    /// The session that does not hear it.
    #[serde(default)]
    except: Option<Pid>,
}

/// Sends an event to all clients that have joined a topic; any process may. Returns how many sessions have it; one whose mailbox
/// is full misses it.
///
/// ```
/// exuvia::channel::publish("room:lobby", "said", "hello").unwrap();
/// ```
pub fn publish<T: Serialize + ?Sized>(
    topic: &str,
    event: &str,
    payload: &T,
) -> Result<usize, Error> {
    publish_json(topic, event, Json::of(payload)?, None)
}

/// Like [`publish`], but this session does not hear it: its client knows already.
///
/// ```
/// use exuvia::channel;
/// channel::publish_except(exuvia::me(), "room:lobby", "typing", "anna").unwrap();
/// ```
pub fn publish_except<T: Serialize + ?Sized>(
    session: Pid,
    topic: &str,
    event: &str,
    payload: &T,
) -> Result<usize, Error> {
    publish_json(topic, event, Json::of(payload)?, Some(session))
}

fn publish_json(
    topic: &str,
    event: &str,
    payload: Json,
    except: Option<Pid>,
) -> Result<usize, Error> {
    let event = Event {
        topic: topic.to_owned(),
        event: event.to_owned(),
        payload,
        except,
    };
    group(topic).publish_bytes(tag::CHANNEL_EVENT, &crate::encode(&event)?)
}

/// Sends an event to the client of one session, if it has joined the topic; any process may.
///
/// ```
/// # fn example(session: exuvia::Pid) -> Result<(), exuvia::Error> {
/// exuvia::channel::send(session, "room:lobby", "history", &["hello"])
/// # }
/// ```
pub fn send<T: Serialize + ?Sized>(
    session: Pid,
    topic: &str,
    event: &str,
    payload: &T,
) -> Result<(), Error> {
    let event = Event {
        topic: topic.to_owned(),
        event: event.to_owned(),
        payload: Json::of(payload)?,
        except: None,
    };
    session.send_bytes(tag::CHANNEL_EVENT, &crate::encode(&event)?)
}

/// Returns the group of the sessions that have joined a topic.
fn group(topic: &str) -> Group<'static> {
    Group::new(format!("channel:{topic}"))
}
