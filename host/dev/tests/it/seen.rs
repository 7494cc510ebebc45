//! The events of a node and those of development, as its tests match them.

use exuvia_node::Event;
use tokio::sync::broadcast;

use crate::guests;

/// An event in the node's stream.
pub(crate) enum Seen<'a> {
    Node(&'a Event),
    Dev(&'a exuvia_dev::Event),
}

/// Returns what `wanted` makes of the first event for which it returns something.
#[track_caller]
pub(crate) fn event<T>(
    events: &mut broadcast::Receiver<Event>,
    what: &str,
    mut wanted: impl FnMut(&Seen<'_>) -> Option<T>,
) -> T {
    guests::event(events, what, |event| {
        wanted(&match exuvia_dev::Event::of(event) {
            Some(event) => Seen::Dev(event),
            None => Seen::Node(event),
        })
    })
}
