//! Bodies that arrive in parts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Octets, Response};
use crate::socket::{Part, Socket};
use crate::{Error, Wait};

/// A body that is read in parts: of a request whose route has `stream = true` ([`Request::body_stream`](super::Request::body_stream)),
/// or of a response to a [`Fetch`](super::Fetch). Each part is asked for, so that as much of the body is in memory as the handler
/// holds, and the other side waits when the handler does.
///
/// ```
/// use exuvia::http::{BodyError, Request};
/// async fn count(request: &Request) -> Result<usize, BodyError> {
///     let mut body = request.body_stream();
///     let mut bytes = 0;
///     while let Some(part) = body.next().await? {
///         bytes += part.len();
///     }
///     Ok(bytes)
/// }
/// # let _ = count;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyStream {
    /// What is here already.
    first: Option<Vec<u8>>,
    /// Where the rest comes from.
    rest: Option<Socket>,
    /// A part was asked for and is not here.
    is_reading: bool,
    /// Why it is not complete.
    failed: Option<BodyError>,
    trailers: Vec<(String, Vec<u8>)>,
}

/// Why a body cannot be read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyError {
    /// It has more bytes than were allowed.
    TooLarge,
    /// It was cut off: the other side has gone, was too slow, or has sent something invalid.
    Incomplete(String),
    /// No part has come in time.
    Timeout,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge => f.write_str("the body is too large"),
            BodyError::Incomplete(why) => write!(f, "the body is incomplete: {why}"),
            BodyError::Timeout => f.write_str("no part of the body has come in time"),
        }
    }
}

impl std::error::Error for BodyError {}

/// The response that tells a client what is wrong with its body.
impl From<BodyError> for Response {
    fn from(error: BodyError) -> Response {
        let status = match &error {
            BodyError::TooLarge => 413,
            BodyError::Incomplete(_) => 400,
            BodyError::Timeout => 408,
        };
        Response::error(status, error)
    }
}

impl From<Error> for BodyError {
    fn from(error: Error) -> BodyError {
        match error {
            Error::Timeout => BodyError::Timeout,
            error => BodyError::Incomplete(error.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct Ended {
    #[serde(default)]
    trailers: Vec<(String, Octets)>,
}

fn trailers(payload: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let ended: Ended = crate::decode(payload)?;
    let all = ended.trailers.into_iter();
    Ok(all.map(|(name, value)| (name, value.0)).collect())
}

impl BodyStream {
    pub(crate) fn new(first: Vec<u8>, rest: Option<Socket>) -> BodyStream {
        BodyStream {
            first: (!first.is_empty()).then_some(first),
            rest,
            is_reading: false,
            failed: None,
            trailers: Vec::new(),
        }
    }

    /// Returns the next part when it is there, and `None` when the body is complete. If this is dropped before, the part may be
    /// lost, and the body is incomplete from then on.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        while let Some(socket) = self.ask()? {
            let read = match socket.read() {
                Ok(reading) => reading.part().await,
                Err(error) => Err(error),
            };
            if let Some(next) = self.took(read) {
                return next;
            }
        }
        Ok(None)
    }

    /// Does the same on the stack of the handler, for handlers that are not `async`.
    pub fn wait(&mut self, limit: impl Into<Wait>) -> Result<Option<Vec<u8>>, BodyError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let limit = limit.into();
        while let Some(socket) = self.ask()? {
            let read = match socket.read() {
                Ok(reading) => reading.wait_for_part(limit),
                Err(error) => Err(error),
            };
            if let Some(next) = self.took(read) {
                return next;
            }
        }
        Ok(None)
    }

    /// Returns where a part is to be asked for; from nobody if the body is complete.
    fn ask(&mut self) -> Result<Option<Socket>, BodyError> {
        if self.is_reading && self.failed.is_none() {
            let why = "a part was not awaited".to_owned();
            self.failed = Some(BodyError::Incomplete(why));
        }
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.is_reading = self.rest.is_some();
        Ok(self.rest)
    }

    /// Takes what has come of a request for a part. Returns `None` if there was nothing in it.
    fn took(&mut self, read: Result<Part, Error>) -> Option<Result<Option<Vec<u8>>, BodyError>> {
        self.is_reading = false;
        let failed = match read {
            Ok(Part::Text(part) | Part::Data(part)) if part.is_empty() => return None,
            Ok(Part::Text(part) | Part::Data(part)) => return Some(Ok(Some(part))),
            Ok(Part::End(payload)) => match trailers(&payload) {
                Ok(trailers) => {
                    self.trailers = trailers;
                    self.rest = None;
                    return Some(Ok(None));
                }
                Err(error) => error.into(),
            },
            Ok(Part::Closed { code: 1009, .. }) => BodyError::TooLarge,
            Ok(Part::Closed { reason, .. }) => BodyError::Incomplete(reason),
            // The part may still come: another one must not be asked for.
            Err(error) => error.into(),
        };
        self.failed = Some(failed.clone());
        Some(Err(failed))
    }

    /// Returns the rest of the body when all of it is there, or [`BodyError::TooLarge`] as soon as it has more than `most`
    /// bytes.
    pub async fn collect(mut self, most: usize) -> Result<Vec<u8>, BodyError> {
        let mut all = Vec::new();
        while let Some(part) = self.next().await? {
            if all.len() + part.len() > most {
                return Err(BodyError::TooLarge);
            }
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    /// Returns the first trailer with this name, in any case, if it is text. They come with the end of the body.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        let found = (self.trailers.iter()).find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Returns the process from which the rest comes, if there is more than is here: [`Socket::activate`] has it arrive in
    /// [`Actor::handle_socket`](crate::Actor::handle_socket).
    pub fn socket(&self) -> Option<Socket> {
        self.rest
    }
}
