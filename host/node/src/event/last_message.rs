//! The message that a process was handling when it failed.

use std::fmt;

use exuvia_process::Envelope;
use serde::Serialize;

use crate::render::Rendered;
use crate::text::excerpt;

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

impl fmt::Display for LastMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONG: usize = 200;
        let LastMessage {
            kind, from, tag, ..
        } = self;
        write!(f, "{kind} from {from}, tag {tag}")?;
        let payload = self.payload.to_string();
        match payload.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", excerpt(&payload, LONG)),
        }
    }
}
