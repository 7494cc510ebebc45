//! Event streams of the client: server-sent events, read as they arrive. A stream of the node's
//! events continues over a new connection when its connection breaks; the node then sends what
//! has happened since the last event that arrived, or says how much is lost.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::Client;
use super::connection::with_causes;
use crate::error::ClientError;
use crate::event::EventLine;
use crate::problem::code;
use crate::sse::Parser;

/// How often a broken stream connects again before it gives up, without an event in between.
const RECONNECTS: u32 = 5;

/// How long to wait before connecting again, unless the node says otherwise.
const RETRY: Duration = Duration::from_secs(1);

/// The longest wait that a node may ask for.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// A stream of events.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    /// The open connection, or why it broke.
    body: Result<Incoming, String>,
    parser: Parser,
    /// The path to continue at if the connection breaks; none for a stream that cannot.
    resume: Option<&'static str>,
    /// Attempts to connect again since the last event.
    attempts: u32,
    /// When the next attempt may be made.
    next_attempt: Instant,
}

impl EventStream {
    pub(super) fn new(
        client: Client,
        response: Response<Incoming>,
        resume: Option<&'static str>,
    ) -> Self {
        Self {
            client,
            body: Ok(response.into_body()),
            parser: Parser::default(),
            resume,
            attempts: 0,
            next_attempt: Instant::now(),
        }
    }

    /// Returns the next event, or `None` when the node has closed the stream. Nothing is lost if
    /// the future is dropped before it completes.
    pub async fn next(&mut self) -> Result<Option<EventLine>, ClientError> {
        loop {
            if let Some(data) = self.parser.next_event() {
                self.attempts = 0;
                return serde_json::from_str(&data)
                    .map(Some)
                    .map_err(|error| ClientError::Nonsense(error.to_string()));
            }
            let frame = match &mut self.body {
                Ok(body) => body.frame().await,
                Err(_) => {
                    self.resume().await?;
                    continue;
                }
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.parser.push(data).map_err(ClientError::Nonsense)?;
                    }
                }
                Some(Err(error)) => self.body = Err(with_causes(&error)),
            }
        }
    }

    /// Connects again after the last event. Fails with the reason for which the connection
    /// broke if that is not possible.
    async fn resume(&mut self) -> Result<(), ClientError> {
        let path = self.resume.filter(|_| self.attempts < RECONNECTS);
        let Some(path) = path else {
            return Err(self.broken());
        };
        // The first attempt is made at once: most likely the connection alone broke.
        tokio::time::sleep_until(self.next_attempt).await;
        let opened = self.client.open(path, self.parser.last_id()).await;
        self.attempts += 1;
        let pause = self.parser.retry().unwrap_or(RETRY).min(MAX_RETRY);
        self.next_attempt = Instant::now() + pause;
        match opened {
            Ok(response) => {
                self.body = Ok(response.into_body());
                self.parser.reconnected();
                Ok(())
            }
            // `next` tries again.
            Err(ClientError::Broken(_)) => Ok(()),
            Err(ClientError::Node(problem)) if problem.code == code::BUSY => Ok(()),
            // The node is gone, or does not want the client.
            Err(_) => {
                self.attempts = RECONNECTS;
                Err(self.broken())
            }
        }
    }

    fn broken(&self) -> ClientError {
        let why = self.body.as_ref().err().cloned();
        ClientError::Broken(why.unwrap_or_default())
    }
}
