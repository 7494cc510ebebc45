//! Requests of HTTP, and responses to them, as `guest-sdk/io.md` defines them.
//!
//! A route of `[[listen]]` in the manifest sends requests to a process. Its handlers are functions with `#[get]`, `#[post]`,
//! `#[put]`, `#[patch]` or `#[delete]` in a block with [`#[exuvia::http]`](macro@crate::http), whose arguments are taken from the
//! request:
//!
//! ```
//! use exuvia::http::{Json, Query};
//! use exuvia::prelude::*;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Cart {
//!     things: Vec<String>,
//! }
//!
//! #[derive(Deserialize)]
//! struct Page {
//!     from: usize,
//! }
//!
//! #[exuvia::actor(schema = 1, http)]
//! impl Actor for Cart {
//!     type Args = String;
//!
//!     fn init(_key: String, _: &mut Context) -> Result<Self, String> {
//!         Ok(Cart { things: Vec::new() })
//!     }
//! }
//!
//! #[exuvia::http]
//! impl Cart {
//!     #[get("/carts/{id}/things")]
//!     fn list(&self, Query(page): Query<Page>) -> Json<Vec<String>> {
//!         Json(self.things.iter().skip(page.from).cloned().collect())
//!     }
//!
//!     #[post("/carts/{id}/things")]
//!     fn add(&mut self, Json(thing): Json<String>) -> (u16, String) {
//!         self.things.push(thing);
//!         (201, self.things.len().to_string())
//!     }
//!
//!     #[delete("/carts/{id}/things/{index}")]
//!     fn remove(&mut self, index: usize) -> Option<Json<String>> {
//!         (index < self.things.len()).then(|| Json(self.things.remove(index)))
//!     }
//! }
//! ```
//!
//! An actor with one page needs none of that: [`Actor::handle_http`](crate::Actor::handle_http) gets every [`Request`].

mod body;
mod extract;
mod fetch;
mod handlers;
mod request;
mod response;
mod upload;

use std::fmt;
use std::io::Cursor;

use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::body::{BodyError, BodyStream};
pub use self::extract::{Form, FromRequest, IntoResponse, Json, Query};
pub use self::fetch::{
    Fetch, FetchAnswer, FetchError, Fetched, FetchedStream, Fetching, FetchingStream, StreamAnswer,
};
#[doc(hidden)]
pub use self::handlers::{Handlers, Paths, Place, find, header, header_if_any};
pub use self::request::Request;
pub(crate) use self::response::answer;
pub use self::response::{Responder, Response};
pub use self::upload::{Upload, UploadAnswer, Uploading};
use crate::Error;

/// The value of a header: text, or bytes that are not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Octets(Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Octets, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Octets;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Octets, E> {
                Ok(Octets(text.as_bytes().to_vec()))
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Octets, E> {
                Ok(Octets(bytes.to_vec()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Octets, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Octets(bytes))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Decodes the head; what follows it is the body.
pub(crate) fn head_and_body<T: DeserializeOwned>(payload: &[u8]) -> Result<(T, &[u8]), Error> {
    let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(payload));
    let head = T::deserialize(&mut deserializer);
    let head = head.map_err(|error| Error::Decode(error.to_string()))?;
    let begins = usize::try_from(deserializer.position()).unwrap_or(payload.len());
    Ok((head, payload.get(begins..).unwrap_or_default()))
}
