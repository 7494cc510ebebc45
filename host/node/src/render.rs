//! Renders payloads for display. Processes send bytes, which the SDKs interpret as MessagePack.

use std::fmt::{self, Write as _};

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// The tag under which the SDKs send typed values as MessagePack.
pub const TYPED_TAG: u32 = 0;

/// The tag of a reply that gives, as text, the reason why a request was not understood.
pub const REFUSED_TAG: u32 = u32::MAX;

/// The maximum nesting of a MessagePack value; a deeper one could not be shown in a useful way.
const MAX_DEPTH: usize = 64;

/// A payload for display, in the first of these forms that fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl Rendered {
    /// Renders a payload that was sent with `tag`.
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

/// Returns whether a text has no control characters. One that has is more likely a number that
/// happens to be valid UTF-8.
fn readable(text: &str) -> bool {
    text.chars()
        .all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

/// Returns the bytes as JSON if they are exactly one MessagePack value.
fn from_msgpack(bytes: &[u8]) -> Option<Value> {
    let mut reader = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut reader);
    deserializer.set_max_depth(MAX_DEPTH);
    let value = Loose::deserialize(&mut deserializer).ok()?;
    reader.is_empty().then_some(value.0)
}

/// Any MessagePack value. JSON has no bytes, and only text as keys; both are converted to text,
/// since the result is for display.
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
        // The claimed length is untrusted, so nothing is allocated for it.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{REFUSED_TAG, Rendered, TYPED_TAG};

    #[test]
    fn a_reply_is_shown_in_the_first_form_that_fits() {
        let shown = |bytes: &[u8]| Rendered::new(TYPED_TAG, bytes);
        assert_eq!(shown(b""), Rendered::Empty);
        assert_eq!(shown(b"\x2a"), Rendered::Msgpack(json!(42)));
        assert_eq!(shown(b"hello"), Rendered::Text("hello".to_owned()));
        // The eight bytes of a number: valid UTF-8, but not readable.
        assert_eq!(
            shown(&5u64.to_le_bytes()),
            Rendered::Hex("0500000000000000".to_owned())
        );
        assert_eq!(shown(b"\xff\xfe"), Rendered::Hex("fffe".to_owned()));
    }

    #[test]
    fn a_refusal_is_shown_as_text_even_if_it_parses_as_a_value() {
        assert_eq!(
            Rendered::new(REFUSED_TAG, b"5"),
            Rendered::Text("5".to_owned())
        );
    }

    #[test]
    fn values_without_a_json_form_are_shown_as_text() {
        // {1: bytes [1, 2], "x": infinity}
        let bytes = b"\x82\x01\xc4\x02\x01\x02\xa1x\xcb\x7f\xf0\0\0\0\0\0\0";
        assert_eq!(
            Rendered::new(TYPED_TAG, bytes),
            Rendered::Msgpack(json!({"1": "0x0102", "x": "inf"}))
        );
    }

    #[test]
    fn deeply_nested_values_exhaust_nothing() {
        let deep = [0x91; 10_000];
        assert!(matches!(Rendered::new(TYPED_TAG, &deep), Rendered::Hex(_)));
        // A list that claims 4 G elements.
        let long = b"\xdd\xff\xff\xff\xff";
        assert!(matches!(Rendered::new(TYPED_TAG, long), Rendered::Hex(_)));
    }

    #[test]
    fn the_wire_form_names_the_encoding() {
        assert_eq!(
            serde_json::to_value(Rendered::Msgpack(json!({"a": 1}))).unwrap(),
            json!({"encoding": "msgpack", "payload": {"a": 1}})
        );
        assert_eq!(
            serde_json::to_value(Rendered::Empty).unwrap(),
            json!({"encoding": "empty"})
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Rendered::new(TYPED_TAG, &bytes));
        }
    }
}
