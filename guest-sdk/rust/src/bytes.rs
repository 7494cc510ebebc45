//! Bytes as one MessagePack binary instead of a list of numbers.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Owned bytes. A `Vec<u8>` is encoded as a list of numbers, which takes up to two bytes per
/// element and a call for each; this is encoded as one binary.
///
/// ```
/// let bytes = exuvia::Bytes(vec![0xff; 100]);
/// assert_eq!(exuvia::encode(&bytes).unwrap().len(), 102);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(
    /// The bytes.
    pub Vec<u8>,
);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor).map(Bytes)
    }
}

/// Reads bytes from a binary, from text, and from a list of numbers, since JSON has no
/// binaries.
pub(crate) struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        // The claimed length is not trusted: it may come from a hostile sender.
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;
    use crate::{decode, encode};

    #[test]
    fn bytes_are_read_from_a_binary_and_from_a_list() {
        let value = Bytes(vec![1, 2, 200]);
        assert_eq!(decode::<Bytes>(&encode(&value).unwrap()).unwrap(), value);
        assert_eq!(decode::<Bytes>(&encode(&value.0).unwrap()).unwrap(), value);
    }
}
