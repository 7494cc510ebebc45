//! The events of the node as its clients get them. One task renders each event once and keeps it
//! for a while; each client reads what is kept, at its own speed. So a client whose connection
//! broke can go on after the last event that it has got, and one that reads too slowly is told
//! how many events it missed. It never delays the node or other clients.
//!
//! An event's ID is the ID of this log and the event's number in it, so that a client of a former
//! node with the same socket is not taken for one of this. A stream begins with the ID of the
//! event before it, so that a client can go on there even if no event has arrived.
//!
//! The log ends when the node or the server does. A stream ends after the last event of the log.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::sse::Event;
use exuvia_api::EventLine;
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::host::Host;

/// The maximum number of events that are kept.
pub const MAX_KEPT_EVENTS: usize = 4_096;

/// The maximum number of bytes of the events that are kept.
pub const MAX_KEPT_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// How long a client whose connection broke should wait before it connects again.
const RETRY: Duration = Duration::from_secs(1);

/// The last events.
#[derive(Debug)]
pub(crate) struct EventLog {
    id: String,
    kept: Mutex<Kept>,
    newest: watch::Sender<Newest>,
}

#[derive(Debug)]
struct Kept {
    /// Events as they are sent, oldest first.
    events: VecDeque<Arc<str>>,
    /// The number of the first of them.
    first: u64,
    bytes: usize,
}

/// How far the log has got.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    /// The number of the last event; the first is 1.
    number: u64,
    /// Whether there will be no more.
    ended: bool,
}

/// What follows an event.
enum Next {
    /// The event with this number.
    Event(u64, Arc<str>),
    /// Some are not kept any more: how many, and the number of the last of them.
    Lost(u64, u64),
    Nothing,
}

impl EventLog {
    pub(crate) fn new() -> Arc<Self> {
        let random = RandomState::new().build_hasher().finish();
        Arc::new(Self {
            id: format!("{random:016x}"),
            kept: Mutex::new(Kept {
                events: VecDeque::new(),
                first: 1,
                bytes: 0,
            }),
            newest: watch::Sender::new(Newest::default()),
        })
    }

    /// Adds the events of a host until there are no more, or until `closed` completes. Then the
    /// log has ended.
    pub(crate) async fn collect<H: Host>(
        self: Arc<Self>,
        host: H,
        mut events: broadcast::Receiver<H::Event>,
        closed: impl Future<Output = ()>,
    ) {
        let _end = End(&self);
        let mut closed = pin!(closed);
        loop {
            let event = tokio::select! {
                // In this order: a node with many events does not delay the close.
                biased;
                () = &mut closed => break,
                event = events.recv() => event,
            };
            match event {
                Ok(event) => self.push(&host.event_line(&event)),
                Err(RecvError::Lagged(missed)) => self.push(&lagged(Some(missed))),
                Err(RecvError::Closed) => return,
            }
        }
        // What happened before the close is still sent.
        for _ in 0..events.len() {
            match events.try_recv() {
                Ok(event) => self.push(&host.event_line(&event)),
                Err(TryRecvError::Lagged(missed)) => self.push(&lagged(Some(missed))),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn push(&self, line: &EventLine) {
        let text: Arc<str> = encode(line).into();
        let mut kept = self.kept();
        kept.bytes += text.len();
        kept.events.push_back(text);
        while kept.events.len() > MAX_KEPT_EVENTS || kept.bytes > MAX_KEPT_EVENT_BYTES {
            let Some(oldest) = kept.events.pop_front() else {
                break;
            };
            kept.bytes -= oldest.len();
            kept.first += 1;
        }
        // While the lock is held: the number is that of the event that was added.
        self.newest.send_modify(|newest| newest.number += 1);
    }

    fn after(&self, number: u64) -> Next {
        let kept = self.kept();
        let wanted = number + 1;
        if wanted < kept.first {
            return Next::Lost(kept.first - wanted, kept.first - 1);
        }
        let index = usize::try_from(wanted - kept.first).unwrap_or(usize::MAX);
        match kept.events.get(index) {
            Some(event) => Next::Event(wanted, Arc::clone(event)),
            None => Next::Nothing,
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A panic in between leaves counters at most.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of an event of this log.
    fn number(&self, id: &str) -> Option<u64> {
        let (log, number) = id.split_once('-')?;
        let number = number.parse().ok()?;
        let known = log == self.id && number <= self.newest.borrow().number;
        known.then_some(number)
    }

    /// Returns an event that sets the ID of the last event, without data so far.
    fn position(&self, number: u64) -> Event {
        Event::default().id(format!("{}-{number}", self.id))
    }

    fn event(&self, number: u64, data: &str) -> Event {
        self.position(number).data(data)
    }
}

/// Ends the log when dropped, also when an event cannot be rendered: nobody waits for the next
/// one for ever.
struct End<'a>(&'a EventLog);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.newest.send_modify(|newest| newest.ended = true);
    }
}

/// A client that reads the log.
struct Follower {
    log: Arc<EventLog>,
    newest: watch::Receiver<Newest>,
    /// The number of the last event that it has got.
    after: u64,
    /// Sent before anything else.
    opening: VecDeque<Event>,
    /// Released when the client has gone.
    _permit: OwnedSemaphorePermit,
}

/// Returns the events after the one with the ID `last`, or from now on, until the log ends.
pub(crate) fn follow(
    log: &Arc<EventLog>,
    last: Option<&str>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
    let now = log.newest.borrow().number;
    let after = last.map_or(Some(now), |id| log.number(id));
    let opening = match after {
        Some(after) => VecDeque::from([log.position(after).retry(RETRY)]),
        // The ID comes with the loss, so that a client which has the one knows of the other.
        None => VecDeque::from([
            Event::default().retry(RETRY),
            log.event(now, &encode(&lagged(None))),
        ]),
    };
    let follower = Follower {
        newest: log.newest.subscribe(),
        log: Arc::clone(log),
        after: after.unwrap_or(now),
        opening,
        _permit: permit,
    };
    stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    })
}

impl Follower {
    /// Waits for the next event; `None`: there are no more.
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.opening.pop_front() {
            return Some(event);
        }
        loop {
            // Before the look at the log, so that nothing is missed in between.
            let ended = self.newest.borrow_and_update().ended;
            match self.log.after(self.after) {
                Next::Event(number, data) => {
                    self.after = number;
                    return Some(self.log.event(number, &data));
                }
                Next::Lost(missed, last) => {
                    self.after = last;
                    return Some(self.log.event(last, &encode(&lagged(Some(missed)))));
                }
                Next::Nothing if ended => return None,
                Next::Nothing => {}
            }
            self.newest.changed().await.ok()?;
        }
    }
}

/// The event that says how many events are lost, if that is known.
fn lagged(missed: Option<u64>) -> EventLine {
    let line = match missed {
        Some(missed) => format!("lagged: {missed} events were dropped, this reader is too slow"),
        None => {
            "lagged: the node is not the one from before, its events until now are lost".to_owned()
        }
    };
    EventLine::now(line, json!({ "event": "lagged", "missed": missed }))
}

/// Returns the data of an event.
pub(crate) fn encode(line: &EventLine) -> String {
    // Texts and a value that is already JSON: they can always be written.
    serde_json::to_string(line).unwrap_or_else(|_| Value::Null.to_string())
}

#[cfg(test)]
mod tests;
