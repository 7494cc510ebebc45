//! The message header that `receive` and `call` write.

use crate::{Kind, Pid};

/// Size of the header in version 1, bytes.
pub const HEADER_SIZE: u32 = 48;

/// The metadata of a message.
///
/// In guest memory, little-endian:
///
/// | offset | type | field |
/// | --- | --- | --- |
/// | 0 | u32 | size: before the call the bytes available for the header, after it the bytes written |
/// | 4 | u32 | kind |
/// | 8 | u64, u64 | sender: node, local |
/// | 24 | u64 | reference of the request, monitor or timer; 0 for none |
/// | 32 | u32 | tag |
/// | 36 | u32 | length of the payload, bytes |
/// | 40 | i32 | reason of an `EXIT`, a `DOWN` or a failed call |
/// | 44 | u32 | reserved, 0; before a `receive` with `PEEK`: an offset in the payload |
///
/// A later version appends fields. The host writes as many bytes as the smaller of the two
/// sizes, so that old guests run on new hosts and new guests on old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of message.
    pub kind: Kind,
    /// The process that sent it; [`Pid::NONE`] for the host or a source outside the node.
    pub sender: Pid,
    /// Reference of the request, monitor or timer; 0 for none.
    pub reference: u64,
    /// The sender's tag.
    pub tag: u32,
    /// Length of the payload in bytes.
    pub length: u32,
    /// The code of the exit reason, for `EXIT`, `DOWN` and a failed call.
    pub reason: i32,
}

impl Header {
    /// Returns the header as it is stored in guest memory.
    pub fn to_bytes(self) -> [u8; HEADER_SIZE as usize] {
        let mut bytes = [0; HEADER_SIZE as usize];
        bytes[0..4].copy_from_slice(&HEADER_SIZE.to_le_bytes());
        bytes[4..8].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[8..24].copy_from_slice(&self.sender.to_bytes());
        bytes[24..32].copy_from_slice(&self.reference.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.tag.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.length.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.reason.to_le_bytes());
        bytes
    }
}
