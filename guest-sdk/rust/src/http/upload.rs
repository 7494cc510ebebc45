//! Requests to the outside whose bodies are sent in parts.

use std::pin::Pin;
use std::task::{self, Poll};

use super::{FetchError, Fetching, FetchingStream};
use crate::socket::Socket;
use crate::task::Answer;
use crate::{Error, Message, Pending, Wait, address};

/// A request that is about to begin; from [`Fetch::upload`](super::Fetch::upload).
#[must_use = "nothing waits before it is awaited"]
#[derive(Clone, Copy, Debug)]
pub struct Uploading(u64);

impl Uploading {
    pub(super) fn new(begun: Fetching) -> Uploading {
        Uploading(begun.0)
    }

    /// Waits on the stack of the handler until the body may be sent.
    pub fn wait(self, limit: impl Into<Wait>) -> Result<Upload, FetchError> {
        Upload::of(&address::reply(self.0, limit.into())?)
    }
}

impl IntoFuture for Uploading {
    type Output = Result<Upload, FetchError>;
    type IntoFuture = UploadAnswer;

    fn into_future(self) -> UploadAnswer {
        UploadAnswer(Answer::new(self.0))
    }
}

/// The beginning of a request, awaited. If it is dropped before, the request is given up.
#[must_use = "nothing waits before it is awaited"]
#[derive(Debug)]
pub struct UploadAnswer(Answer<()>);

impl Future for UploadAnswer {
    type Output = Result<Upload, FetchError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.poll_message().map(|reply| Upload::of(&reply))
    }
}

/// A request whose body is being sent. What is under way ends with this process, and with [`Upload::abort`]; not if this is
/// dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload(Socket);

impl Upload {
    fn of(reply: &Message<'_>) -> Result<Upload, FetchError> {
        reply.accepted()?;
        Ok(Upload(Socket::from_pid(reply.sender)))
    }

    /// Sends a part. The reply comes when the next one may be sent: await it, or [wait](Pending::wait) for it, to be no faster than
    /// the server. It is refused if the server takes no more: [`finish`](Upload::finish) has its response then, or says why there
    /// is none.
    pub fn write(&self, part: &[u8]) -> Result<Pending<()>, Error> {
        self.0.write(part)
    }

    /// Says that the body is complete. The response is awaited in an `async` handler, or waited for.
    pub fn finish(self) -> Result<FetchingStream, FetchError> {
        self.finish_with(&[])
    }

    /// Does the same with trailers, which a body without a stated length may have.
    pub fn finish_with(self, trailers: &[(&str, &str)]) -> Result<FetchingStream, FetchError> {
        match trailers {
            [] => self.0.end()?,
            trailers => self.0.end_with(trailers)?,
        }
        Ok(FetchingStream(Fetching(self.0.read()?.reference())))
    }

    /// Gives the request up: the server sees a body that is not complete.
    pub fn abort(self) -> Result<(), Error> {
        self.0.close(1000, "")
    }

    /// Returns the process that takes the body, to monitor it or to link to it.
    pub fn socket(&self) -> Socket {
        self.0
    }
}
