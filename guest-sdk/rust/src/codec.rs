//! MessagePack with field names, and the scratch buffer that values are encoded into.

use exuvia_abi::Code;
use std::fmt;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Buffer, Error};

/// Encodes a value as MessagePack with field names, like every SDK.
///
/// ```
/// let bytes = exuvia::encode(&("answer", 42)).unwrap();
/// let back: (String, u32) = exuvia::decode(&bytes).unwrap();
/// assert_eq!(back.1, 42);
/// ```
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut scratch = Scratch::new();
    scratch.encode(value)?;
    Ok(scratch.as_slice().to_vec())
}

/// Decodes a value from MessagePack. An empty payload and an encoded `()` stand for `()`,
/// `None` or a structure whose fields all have a default: a process that was spawned without
/// arguments receives them.
///
/// ```
/// assert_eq!(exuvia::decode::<Option<u8>>(&[]).unwrap(), None);
/// assert!(exuvia::decode::<u8>(b"\xc3").is_err());
/// ```
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    /// MessagePack for nil, and for an empty map.
    const NIL: &[u8] = &[0xc0];
    const EMPTY_MAP: &[u8] = &[0x80];
    let result = if bytes.is_empty() || bytes == NIL {
        rmp_serde::from_slice(NIL).or_else(|_| rmp_serde::from_slice(EMPTY_MAP))
    } else {
        rmp_serde::from_slice(bytes)
    };
    result.map_err(|error| Error::Decode(error.to_string()))
}

/// Like [`decode`], but the error names the field: slower, and used where people read the
/// error.
pub(crate) fn decode_naming<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        Error::Decode(if path == "." {
            cause.to_string()
        } else {
            format!("field `{path}`: {cause}")
        })
    })
}

/// Returns the bytes that a host call writes. The call returns their length and writes them
/// only if they fit. Returns `None` for EMPTY.
pub(crate) fn fetch(mut call: impl FnMut(&mut [u8]) -> i32) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = vec![0; 256];
    loop {
        let answer = call(&mut bytes);
        if answer == Code::Empty as i32 {
            return Ok(None);
        }
        Error::check(answer)?;
        let length = answer.unsigned_abs() as usize;
        let fits = length <= bytes.len();
        bytes.resize(length, 0);
        if fits {
            return Ok(Some(bytes));
        }
        // Retry with the new size: the value may also have grown since.
    }
}

/// A buffer for encoding: on the stack while the bytes fit into a [`Buffer`], so that a small
/// message does not touch the heap.
pub(crate) struct Scratch {
    stack: Buffer,
    /// Contains all bytes as soon as it contains any.
    heap: Vec<u8>,
}

impl Scratch {
    #[inline]
    pub(crate) fn new() -> Scratch {
        Scratch {
            stack: Buffer::new(),
            heap: Vec::new(),
        }
    }

    pub(crate) fn encode<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        rmp_serde::encode::write_named(self, value)
            .map_err(|error| Error::Encode(error.to_string()))
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.heap.is_empty() {
            self.stack.as_slice()
        } else {
            &self.heap
        }
    }

    #[inline]
    fn push(&mut self, data: &[u8]) {
        if self.heap.is_empty() && self.stack.push(data) {
            return;
        }
        self.push_to_heap(data);
    }

    #[cold]
    fn push_to_heap(&mut self, data: &[u8]) {
        if self.heap.is_empty() {
            self.heap.extend_from_slice(self.stack.as_slice());
        }
        self.heap.extend_from_slice(data);
    }
}

impl io::Write for Scratch {
    #[inline]
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.push(data);
        Ok(data.len())
    }

    #[inline]
    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.push(data);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Write for Scratch {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::{Scratch, decode, decode_naming, encode};
    use crate::{Buffer, Error, Pid};

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Inner {
        depth: u8,
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Outer {
        name: String,
        inner: Inner,
        from: Option<Pid>,
    }

    #[test]
    fn values_survive_with_their_field_names() {
        let value = Outer {
            name: "a".to_owned(),
            inner: Inner { depth: 3 },
            from: Some(Pid::from_parts(7, 9)),
        };
        let bytes = encode(&value).unwrap();
        assert!(bytes.windows(5).any(|window| window == b"inner"));
        assert_eq!(decode::<Outer>(&bytes).unwrap(), value);
    }

    #[test]
    fn large_values_spill_to_the_heap_unharmed() {
        let value: Vec<u32> = (0..Buffer::SIZE as u32).collect();
        let bytes = encode(&value).unwrap();
        assert!(bytes.len() > Buffer::SIZE);
        assert_eq!(decode::<Vec<u32>>(&bytes).unwrap(), value);
    }

    #[test]
    fn values_that_fit_exactly_stay_on_the_stack() {
        let mut scratch = Scratch::new();
        scratch.push(&[1; Buffer::SIZE]);
        assert!(scratch.heap.is_empty());
        scratch.push(&[2]);
        assert_eq!(scratch.as_slice().len(), Buffer::SIZE + 1);
        assert_eq!(scratch.as_slice()[Buffer::SIZE], 2);
    }

    #[test]
    fn an_empty_payload_is_the_unit_value() {
        #[derive(Deserialize, Debug, PartialEq)]
        struct AllDefault {
            #[serde(default)]
            start: u64,
        }
        decode::<()>(&[]).unwrap();
        assert_eq!(decode::<AllDefault>(&[]).unwrap(), AllDefault { start: 0 });
        let unit = encode(&()).unwrap();
        assert_eq!(
            decode::<AllDefault>(&unit).unwrap(),
            AllDefault { start: 0 }
        );
        assert!(matches!(decode::<Inner>(&[]), Err(Error::Decode(_))));
    }

    #[test]
    fn the_failing_field_is_named() {
        let bytes = encode(&serde_like(5)).unwrap();
        let Err(Error::Decode(why)) = decode_naming::<Outer>(&bytes) else {
            panic!("a number is no structure");
        };
        assert!(why.contains("field `inner`"), "{why}");
        let bytes = encode(&Inner { depth: 1 }).unwrap();
        let Err(Error::Decode(why)) = decode_naming::<Outer>(&bytes) else {
            panic!("fields are missing");
        };
        assert!(why.contains("missing field `name`"), "{why}");
    }

    fn serde_like(inner: u64) -> impl Serialize {
        #[derive(Serialize)]
        struct Other {
            name: &'static str,
            inner: u64,
        }
        Other { name: "x", inner }
    }
}
