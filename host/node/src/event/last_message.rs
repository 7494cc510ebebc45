//! The message that a process was handling when it failed.

use exuvia_process::Envelope;
use serde::Serialize;

use crate::render::Rendered;

/// The message that a process was handling when it failed. Of a long one only the start is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastMessage {
    /// `message`, `request`, `timer` and so on.
    pub kind: String,
    /// The sender.
    pub from: String,
    /// Its tag.
    pub tag: u32,
    /// Its payload.
    #[serde(flatten)]
    pub payload: Rendered,
}

impl LastMessage {
    pub(crate) fn new(message: &Envelope) -> LastMessage {
        LastMessage {
            kind: message.kind.name().to_owned(),
            from: message.sender.to_string(),
            tag: message.tag,
            payload: Rendered::new(message.tag, message.payload.as_slice()),
        }
    }
}
