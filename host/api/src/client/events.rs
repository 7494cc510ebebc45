//! Event streams of the client: server-sent events, read as they arrive. A stream of the node's
//! events continues over a new connection when its connection breaks; the node then sends what
//! has happened since the last event that arrived, or says how much is lost.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;

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
    body: Incoming,
    parser: Parser,
    /// The path to continue at if the connection breaks; none for a stream that cannot.
    resume: Option<&'static str>,
    /// Connections that broke since the last event.
    broken: u32,
}

impl EventStream {
    pub(super) fn new(
        client: Client,
        response: Response<Incoming>,
        resume: Option<&'static str>,
    ) -> Self {
        Self {
            client,
            body: response.into_body(),
            parser: Parser::default(),
            resume,
            broken: 0,
        }
    }

    /// Returns the next event, or `None` when the node has closed the stream.
    pub async fn next(&mut self) -> Result<Option<EventLine>, ClientError> {
        loop {
            if let Some(data) = self.parser.next_event() {
                self.broken = 0;
                return serde_json::from_str(&data)
                    .map(Some)
                    .map_err(|error| ClientError::Nonsense(error.to_string()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.parser.push(data).map_err(ClientError::Nonsense)?;
                    }
                }
                Some(Err(error)) => {
                    self.resume(ClientError::Broken(with_causes(&error)))
                        .await?;
                }
            }
        }
    }

    /// Connects again after the last event. Fails with `why` if that is not possible.
    async fn resume(&mut self, why: ClientError) -> Result<(), ClientError> {
        let Some(path) = self.resume else {
            return Err(why);
        };
        while self.broken < RECONNECTS {
            // The first attempt is made at once: most likely the connection alone broke.
            if self.broken > 0 {
                let pause = self.parser.retry().unwrap_or(RETRY);
                tokio::time::sleep(pause.min(MAX_RETRY)).await;
            }
            self.broken += 1;
            match self.client.open(path, self.parser.last_id()).await {
                Ok(response) => {
                    self.body = response.into_body();
                    self.parser.reconnected();
                    return Ok(());
                }
                Err(ClientError::Broken(_)) => {}
                Err(ClientError::Node(problem)) if problem.code == code::BUSY => {}
                // The node is gone, or does not want the client.
                Err(_) => return Err(why),
            }
        }
        Err(why)
    }
}
