//! The line of a message that is traced.

use std::fmt::Write;

use exuvia_api::Rendered;
use exuvia_node::{Direction, Traced};
use serde_json::json;

/// Returns the line of a traced message; its payload is `None` if it is too long to be shown.
pub(super) fn message(traced: &Traced, payload: Option<&Rendered>) -> String {
    let kind = traced.kind.name();
    let mut line = match traced.direction {
        Direction::Received => format!("received {kind} from {}", traced.peer),
        Direction::Sent => format!("sent {kind} to {}", traced.peer),
    };
    // Writing to a String cannot fail.
    let _ = write!(line, "  tag {}  {} B", traced.tag, traced.bytes);
    let text = match payload {
        Some(Rendered::Empty) => String::new(),
        Some(Rendered::Msgpack(value)) => value.to_string(),
        Some(Rendered::Text(text)) => json!(text).to_string(),
        Some(Rendered::Hex(hex)) => format!("0x{hex}"),
        None => "(too long to be shown)".to_owned(),
    };
    if !text.is_empty() {
        line += "  ";
        line += &text;
    }
    if traced.missed > 0 {
        let _ = write!(line, "  ({} before it were dropped)", traced.missed);
    }
    line
}
