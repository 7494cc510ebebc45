//! Message payloads.

use std::fmt;
use std::sync::Arc;

/// Longest payload, in bytes, that is stored inside the message itself.
const INLINE: usize = 22;

/// Immutable bytes. A short payload is stored inline, so that a small message needs no allocation;
/// a long one is shared, so that a message that is forwarded or published inside the host is not
/// copied.
#[derive(Clone)]
pub struct Payload(Repr);

#[derive(Clone)]
enum Repr {
    Inline { length: u8, bytes: [u8; INLINE] },
    Shared(Arc<[u8]>),
}

impl Payload {
    /// Returns a payload with a copy of the bytes.
    pub fn new(bytes: &[u8]) -> Payload {
        if let (Ok(length), true) = (u8::try_from(bytes.len()), bytes.len() <= INLINE) {
            let mut inline = [0; INLINE];
            inline[..bytes.len()].copy_from_slice(bytes);
            Payload(Repr::Inline {
                length,
                bytes: inline,
            })
        } else {
            Payload(Repr::Shared(Arc::from(bytes)))
        }
    }

    /// Returns an empty payload.
    pub const fn empty() -> Payload {
        Payload(Repr::Inline {
            length: 0,
            bytes: [0; INLINE],
        })
    }

    /// Returns the bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Repr::Shared(bytes) => bytes,
        }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        if bytes.len() <= INLINE {
            Payload::new(&bytes)
        } else {
            Payload(Repr::Shared(bytes.into()))
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}
