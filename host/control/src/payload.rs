//! Payloads between people and processes. People write JSON, text or hex;
//! processes read bytes, which the SDKs take for MessagePack.

use std::fmt::{self, Write as _};

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::error::{Failure, code};

/// The tag under which the SDKs send typed values as MessagePack.
pub const TYPED_TAG: u32 = 0;

/// The tag of a reply that says, as text, why a request was not understood.
pub const REFUSED_TAG: u32 = u32::MAX;

/// How deep a reply is followed before it counts as no MessagePack: what is
/// deeper could not be shown in a useful way.
const MAX_DEPTH: usize = 64;

/// A payload as a person writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// No bytes at all.
    #[default]
    Empty,
    /// A value, which becomes MessagePack with field names.
    Msgpack(Value),
    /// A value, which stays JSON: for processes that read JSON themselves.
    Json(Value),
    /// UTF-8.
    Text(String),
    /// Two digits for each byte; white space is skipped.
    Hex(String),
}

impl Payload {
    /// The bytes that the process gets.
    pub fn into_bytes(self) -> Result<Vec<u8>, Failure> {
        let unencodable = |what: &str, error: &dyn fmt::Display| {
            Failure::new(
                code::BAD_REQUEST,
                format!("the payload cannot be written as {what}: {error}"),
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
                Failure::new(code::BAD_REQUEST, format!("the payload is not hex: {why}"))
                    .help("write two digits for each byte, as in `0a ff`")
            }),
        }
    }
}

/// A payload as it can be shown: the first of these that fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "encoding", content = "payload", rename_all = "snake_case")]
pub enum Shown {
    /// No bytes.
    Empty,
    /// It was one MessagePack value. Bytes inside it are shown as `0x..`.
    Msgpack(Value),
    /// It was readable text.
    Text(String),
    /// It was anything else.
    Hex(String),
}

impl Shown {
    /// How to show a payload that came under this tag.
    pub fn new(tag: u32, bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        let text = || {
            std::str::from_utf8(bytes)
                .ok()
                .filter(|text| readable(text))
        };
        if tag != REFUSED_TAG
            && let Some(value) = from_msgpack(bytes)
        {
            return Self::Msgpack(value);
        }
        match text() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Hex(to_hex(bytes)),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Msgpack(value) => fmt::Display::fmt(value, f),
            Self::Text(text) | Self::Hex(text) => f.write_str(text),
        }
    }
}

/// Text without control characters, which would be numbers that happen to be
/// valid UTF-8.
fn readable(text: &str) -> bool {
    text.chars()
        .all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

/// One MessagePack value that fills the bytes, as JSON.
fn from_msgpack(bytes: &[u8]) -> Option<Value> {
    let mut reader = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut reader);
    deserializer.set_max_depth(MAX_DEPTH);
    let value = Loose::deserialize(&mut deserializer).ok()?;
    reader.is_empty().then_some(value.0)
}

/// Any MessagePack value. JSON has no bytes and only text as keys; those are
/// written as text, since this is for people to read.
struct Loose(Value);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor).map(Loose)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // JSON has neither infinities nor NaN.
        Ok(Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(format!("0x{}", to_hex(value)).into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        // The length that is claimed is not to be trusted with memory.
        let mut values = Vec::new();
        while let Some(Loose(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((Loose(key), Loose(value))) = map.next_entry()? {
            let key = match key {
                Value::String(key) => key,
                other => other.to_string(),
            };
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
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
            .ok_or_else(|| format!("`{}` is no digit", c.escape_debug()))?;
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err("the last byte has one digit only".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Payload, REFUSED_TAG, Shown, TYPED_TAG};

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
                .message
        };
        assert!(why("0a1").contains("one digit only"));
        assert!(why("zz").contains("`z` is no digit"));
    }

    #[test]
    fn a_reply_is_shown_in_the_first_form_that_fits() {
        let shown = |bytes: &[u8]| Shown::new(TYPED_TAG, bytes);
        assert_eq!(shown(b""), Shown::Empty);
        assert_eq!(shown(b"\x2a"), Shown::Msgpack(json!(42)));
        assert_eq!(shown(b"hello"), Shown::Text("hello".to_owned()));
        // Eight bytes of a number: valid UTF-8, but nothing to read.
        assert_eq!(
            shown(&5u64.to_le_bytes()),
            Shown::Hex("0500000000000000".to_owned())
        );
        assert_eq!(shown(b"\xff\xfe"), Shown::Hex("fffe".to_owned()));
    }

    #[test]
    fn a_refusal_is_text_even_if_it_could_be_a_value() {
        assert_eq!(Shown::new(REFUSED_TAG, b"5"), Shown::Text("5".to_owned()));
    }

    #[test]
    fn what_json_lacks_is_shown_as_text() {
        // {1: bytes [1, 2], "x": infinity}
        let bytes = b"\x82\x01\xc4\x02\x01\x02\xa1x\xcb\x7f\xf0\0\0\0\0\0\0";
        assert_eq!(
            Shown::new(TYPED_TAG, bytes),
            Shown::Msgpack(json!({"1": "0x0102", "x": "inf"}))
        );
    }

    #[test]
    fn values_that_never_end_do_not_exhaust_anything() {
        let deep = [0x91; 10_000];
        assert!(matches!(Shown::new(TYPED_TAG, &deep), Shown::Hex(_)));
        // A list that claims 4 G elements.
        let long = b"\xdd\xff\xff\xff\xff";
        assert!(matches!(Shown::new(TYPED_TAG, long), Shown::Hex(_)));
    }

    #[test]
    fn the_wire_form_names_the_encoding() {
        assert_eq!(
            serde_json::to_value(Shown::Msgpack(json!({"a": 1}))).unwrap(),
            json!({"encoding": "msgpack", "payload": {"a": 1}})
        );
        assert_eq!(
            serde_json::to_value(Shown::Empty).unwrap(),
            json!({"encoding": "empty"})
        );
    }

    proptest! {
        #[test]
        fn hex_survives(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = super::to_hex(&bytes);
            prop_assert_eq!(super::from_hex(&text).unwrap(), bytes);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Shown::new(TYPED_TAG, &bytes));
        }
    }
}
