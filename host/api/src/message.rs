//! Messages to processes, and payloads as people write and read them: JSON, text or hex. Processes read and send bytes,
//! which the SDKs encode as MessagePack.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::MAX_CALL_TIMEOUT;
use crate::problem::{Problem, code};

/// The tag under which the SDKs send typed values as MessagePack.
pub const TYPED_TAG: u32 = 0;

/// The tag of a reply that gives, as text, the reason why a request was not understood.
pub const REFUSED_TAG: u32 = u32::MAX;

/// A message to a process.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageRequest {
    /// The message's tag; by default 0, the tag of typed messages.
    #[serde(default)]
    pub tag: u32,
    /// The payload; empty by default.
    #[serde(default)]
    pub payload: Payload,
    /// Whether to observe the receiver for a moment, and to return what it logs as a warning
    /// or an error while it handles the message.
    #[serde(default)]
    pub observe: bool,
}

/// What became of a message: it is in the mailbox of its receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// What the receiver logged; empty if it was not observed.
    pub warnings: Vec<String>,
}

/// A request to a process, whose reply is waited for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// The message's tag; by default 0, the tag of typed messages.
    #[serde(default)]
    pub tag: u32,
    /// The payload; empty by default.
    #[serde(default)]
    pub payload: Payload,
    /// How long to wait for the reply, in milliseconds; by default 5,000, at most 600,000.
    #[serde(default = "five_seconds")]
    #[schemars(range(max = MAX_CALL_TIMEOUT.as_millis() as u64))]
    pub timeout_ms: u64,
}

/// The default timeout of Erlang's `gen_server:call`.
fn five_seconds() -> u64 {
    5_000
}

/// The reply to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// The tag of the reply.
    pub tag: u32,
    /// The size of the payload in bytes.
    pub bytes: u64,
    /// The payload, in the most readable form.
    #[serde(flatten)]
    pub payload: Rendered,
}

/// A payload for display, in the first of these forms that fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "encoding", content = "payload", rename_all = "snake_case")]
pub enum Rendered {
    /// No bytes.
    Empty,
    /// One MessagePack value. Bytes inside it are shown as `0x..`.
    Msgpack(Value),
    /// Readable text.
    Text(String),
    /// Anything else, in hexadecimal.
    Hex(String),
}

impl fmt::Display for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Msgpack(value) => fmt::Display::fmt(value, f),
            Self::Text(text) | Self::Hex(text) => f.write_str(text),
        }
    }
}

/// A payload as a person writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// No bytes at all.
    #[default]
    Empty,
    /// A value that is encoded as MessagePack with field names.
    Msgpack(Value),
    /// A value that stays JSON: for processes that read JSON themselves.
    Json(Value),
    /// UTF-8 text.
    Text(String),
    /// Two digits per byte; white space is skipped.
    Hex(String),
}

impl Payload {
    /// Returns the bytes that are sent to the process.
    pub fn into_bytes(self) -> Result<Vec<u8>, Problem> {
        let unencodable = |what: &str, error: &dyn fmt::Display| {
            Problem::new(
                code::BAD_REQUEST,
                format!("the payload cannot be encoded as {what}: {error}"),
            )
        };
        match self {
            Self::Empty => Ok(Vec::new()),
            Self::Msgpack(value) => {
                rmp_serde::to_vec_named(&value).map_err(|error| unencodable("MessagePack", &error))
            }
            Self::Json(value) => {
                serde_json::to_vec(&value).map_err(|error| unencodable("JSON", &error))
            }
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Hex(text) => from_hex(&text).map_err(|why| {
                Problem::new(code::BAD_REQUEST, format!("the payload is not hex: {why}"))
                    .help("write two digits for each byte, as in `0a ff`")
            }),
        }
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    let text = text.trim();
    for c in text.strip_prefix("0x").unwrap_or(text).chars() {
        if c.is_whitespace() {
            continue;
        }
        let digit = c
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or_else(|| format!("`{}` is not a hex digit", c.escape_debug()))?;
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err("the last byte has only one digit".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::Payload;

    #[test]
    fn json_becomes_messagepack_as_the_sdk_reads_it() {
        let bytes = Payload::Msgpack(json!({"Add": 5})).into_bytes().unwrap();
        assert_eq!(bytes, b"\x81\xa3Add\x05");
    }

    #[test]
    fn payloads_in_other_forms() {
        let bytes = |payload: Payload| payload.into_bytes().unwrap();
        assert_eq!(bytes(Payload::Empty), b"");
        assert_eq!(bytes(Payload::Text("ä".to_owned())), "ä".as_bytes());
        assert_eq!(bytes(Payload::Json(json!([1, 2]))), b"[1,2]");
        assert_eq!(bytes(Payload::Hex("0a FF\n00".to_owned())), [10, 255, 0]);
        assert_eq!(bytes(Payload::Hex("0x0a".to_owned())), [10]);
    }

    #[test]
    fn bad_hex_says_why() {
        let why = |text: &str| {
            Payload::Hex(text.to_owned())
                .into_bytes()
                .unwrap_err()
                .to_string()
        };
        assert!(why("0a1").contains("only one digit"));
        assert!(why("zz").contains("`z` is not a hex digit"));
    }

    proptest! {
        #[test]
        fn hex_survives(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(super::from_hex(&text).unwrap(), bytes);
        }
    }
}
