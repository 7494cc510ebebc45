//! The stream of a node's events, and its subscribers.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use tokio::sync::broadcast;

use super::{Event, ExternalEvent};

/// The number of events that a slow subscriber may lag before it loses the oldest.
const BACKLOG: usize = 4096;

/// The source of a node's events. It is made before the node and given to it, so that it can have
/// subscribers before anything happens. A subscriber may lag 4,096 events; one that lags further
/// loses the oldest, and learns how many.
#[derive(Clone, Debug)]
pub struct Events {
    plain: broadcast::Sender<Event>,
    timed: broadcast::Sender<TimedEvent>,
}

impl Default for Events {
    fn default() -> Events {
        Events {
            plain: broadcast::Sender::new(BACKLOG),
            timed: broadcast::Sender::new(BACKLOG),
        }
    }
}

/// An event with the time at which it happened, for display: a subscriber may receive it late.
#[derive(Clone, Debug)]
pub struct TimedEvent {
    /// The time by the system's clock.
    pub at: SystemTime,
    /// The event.
    pub event: Arc<Event>,
}

impl TimedEvent {
    /// Returns an event that happens now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the wall clock is for people, and nothing is decided by it"
    )]
    pub fn now(event: Event) -> TimedEvent {
        TimedEvent {
            at: SystemTime::now(),
            event: Arc::new(event),
        }
    }
}

impl Serialize for TimedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.event.serialize(serializer)
    }
}

impl Events {
    /// Subscribes to the events from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.plain.subscribe()
    }

    /// Subscribes to the events from now on, each with its time.
    pub fn listen_timed(&self) -> broadcast::Receiver<TimedEvent> {
        self.timed.subscribe()
    }

    /// Publishes an event of a part around the node.
    pub fn publish(&self, event: impl ExternalEvent) {
        self.send(Event::External(Arc::new(event)));
    }

    pub(crate) fn send(&self, event: Event) {
        // Having no subscriber is not an error.
        if self.timed.receiver_count() > 0 {
            let _ = self.timed.send(TimedEvent::now(event.clone()));
        }
        if self.plain.receiver_count() > 0 {
            let _ = self.plain.send(event);
        }
    }

    pub(crate) fn heard(&self) -> bool {
        self.timed.receiver_count() > 0 || self.plain.receiver_count() > 0
    }
}
