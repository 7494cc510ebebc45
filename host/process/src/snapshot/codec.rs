//! The bytes of a snapshot. Decoding is total: whatever the bytes are, it returns a snapshot or an
//! error, and allocates no more than a small multiple of their length.
//!
//! Format, version 2 (numbers little-endian):
//!
//! ```text
//!   8 bytes   magic, "exuviaps"
//!   2 bytes   format version
//!   8 bytes   length of the body
//!   body      the fields of `ProcessSnapshot` in their order
//!  16 bytes   BLAKE3 of all that precedes, truncated
//! ```
//!
//! In the body, integers are LEB128 (signed ones zigzag), a text or a list is its length and its
//! items, an option is a 0, or a 1 and the value. Each snapshot has one encoding. A change of a field's type, order or meaning is a
//! new format version.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use exuvia_abi::{Kind, Pid, Priority};

use super::{
    Flags, GuestSnapshot, LinkSnapshot, MonitorSnapshot, ProcessSnapshot, StayReason,
    StaysOnVersion, TimerSnapshot,
};
use crate::grants::{Destination, Folder, Grants};
use crate::limits::Limits;
use crate::payload::Payload;
use crate::signal::Envelope;

const MAGIC: [u8; 8] = *b"exuviaps";
const VERSION: u16 = 3;
/// Magic, version and length.
const HEAD: usize = 8 + 2 + 8;
/// Bytes of the checksum: enough to find any damage.
const CHECKSUM: usize = 16;

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They do not begin as a snapshot does.
    NoSnapshot,
    /// The snapshot has this format version, which this host does not know.
    UnknownVersion(u16),
    /// They are not as long as the snapshot says.
    Length {
        /// What it says, bytes.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The checksum is wrong: they were damaged.
    Damaged,
    /// This part has an impossible value, although the checksum is right.
    Invalid(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::NoSnapshot => f.write_str("this is no snapshot of a process"),
            DecodeError::UnknownVersion(version) => write!(
                f,
                "the snapshot has format version {version}, and this host reads version {VERSION}"
            ),
            DecodeError::Length { expected, found } => write!(
                f,
                "the snapshot is incomplete or too long: it has {found} bytes and should have {expected}"
            ),
            DecodeError::Damaged => f.write_str("the snapshot is damaged: its checksum is wrong"),
            DecodeError::Invalid(what) => write!(f, "the snapshot has an invalid {what}"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl ProcessSnapshot {
    /// Returns the bytes of the snapshot, to be read with [`ProcessSnapshot::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let state = self.guest.state.as_ref().map_or(0, Vec::len);
        let mut bytes = Vec::with_capacity(256 + state);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        self.write(&mut bytes);
        let length = (bytes.len() - HEAD) as u64;
        bytes[HEAD - 8..HEAD].copy_from_slice(&length.to_le_bytes());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    ///
    /// Returns a [`DecodeError`] if the bytes are anything but one whole snapshot.
    pub fn from_bytes(bytes: &[u8]) -> Result<ProcessSnapshot, DecodeError> {
        let (head, rest) = bytes
            .split_at_checked(HEAD)
            .ok_or(DecodeError::NoSnapshot)?;
        let (magic, head) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(DecodeError::NoSnapshot);
        }
        let (version, length) = head.split_at(2);
        let version = u16::from_le_bytes(array(version));
        if version != VERSION {
            return Err(DecodeError::UnknownVersion(version));
        }
        let length = u64::from_le_bytes(array(length));
        let expected = length.saturating_add((HEAD + CHECKSUM) as u64);
        let found = bytes.len() as u64;
        if expected != found {
            return Err(DecodeError::Length { expected, found });
        }
        let (body, sum) = rest.split_at(rest.len() - CHECKSUM);
        if checksum(&bytes[..HEAD + body.len()]) != sum {
            return Err(DecodeError::Damaged);
        }
        let mut reader = Reader(body);
        let snapshot = ProcessSnapshot::read(&mut reader)?;
        match reader.0 {
            [] => Ok(snapshot),
            _ => Err(DecodeError::Invalid("end")),
        }
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    array(&blake3::hash(bytes).as_bytes()[..CHECKSUM])
}

/// Returns the first `N` bytes; zeros follow if there are fewer.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    let length = bytes.len().min(N);
    array[..length].copy_from_slice(&bytes[..length]);
    array
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let parts = self.0.split_at_checked(count);
        let (taken, rest) = parts.ok_or(DecodeError::Invalid("length"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// Reads bytes after their length.
    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = u64::read(self)?;
        self.take(usize::try_from(count).map_err(|_| DecodeError::Invalid("length"))?)
    }
}

fn write_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    (bytes.len() as u64).write(to);
    to.extend_from_slice(bytes);
}

/// A value that a snapshot consists of. Each takes at least one byte, so that a list has no more
/// items than there are bytes.
trait Item: Sized {
    fn write(&self, to: &mut Vec<u8>);
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

impl Item for u64 {
    fn write(&self, to: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            to.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        to.push(rest.to_le_bytes()[0]);
    }

    fn read(from: &mut Reader<'_>) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = from.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // One number has one encoding.
                let is_shortest = shift == 0 || bits != 0;
                return is_shortest
                    .then_some(number)
                    .ok_or(DecodeError::Invalid("number"));
            }
        }
        Err(DecodeError::Invalid("number"))
    }
}

impl Item for u32 {
    fn write(&self, to: &mut Vec<u8>) {
        u64::from(*self).write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<u32, DecodeError> {
        u32::try_from(u64::read(from)?).map_err(|_| DecodeError::Invalid("number"))
    }
}

impl Item for i32 {
    fn write(&self, to: &mut Vec<u8>) {
        ((*self << 1) ^ (*self >> 31)).cast_unsigned().write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<i32, DecodeError> {
        let zigzag = u32::read(from)?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }
}

impl Item for u8 {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(*self);
    }

    fn read(from: &mut Reader<'_>) -> Result<u8, DecodeError> {
        from.byte()
    }
}

impl Item for bool {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn read(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid("flag")),
        }
    }
}

impl Item for [u8; 32] {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }

    fn read(from: &mut Reader<'_>) -> Result<[u8; 32], DecodeError> {
        from.take(32).map(array)
    }
}

impl Item for String {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), to);
    }

    fn read(from: &mut Reader<'_>) -> Result<String, DecodeError> {
        let text = std::str::from_utf8(from.bytes()?);
        text.map(Into::into)
            .map_err(|_| DecodeError::Invalid("text"))
    }
}

impl Item for PathBuf {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(self.as_os_str().as_encoded_bytes(), to);
    }

    fn read(from: &mut Reader<'_>) -> Result<PathBuf, DecodeError> {
        use std::os::unix::ffi::OsStrExt;
        Ok(std::ffi::OsStr::from_bytes(from.bytes()?).into())
    }
}

impl Item for Destination {
    fn write(&self, to: &mut Vec<u8>) {
        self.to_string().write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Destination, DecodeError> {
        let text = String::read(from)?;
        text.parse()
            .map_err(|_| DecodeError::Invalid("destination"))
    }
}

impl Item for Payload {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(self.as_slice(), to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Payload, DecodeError> {
        from.bytes().map(Payload::new)
    }
}

/// The bytes of an image: read at once, not one by one.
struct State(Vec<u8>);

impl Item for State {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(&self.0, to);
    }

    fn read(from: &mut Reader<'_>) -> Result<State, DecodeError> {
        from.bytes().map(|bytes| State(bytes.into()))
    }
}

impl<T: Item> Item for Vec<T> {
    fn write(&self, to: &mut Vec<u8>) {
        (self.len() as u64).write(to);
        self.iter().for_each(|item| item.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        // Grows as items are read: the length may be anything.
        let mut items = Vec::new();
        for _ in 0..u64::read(from)? {
            items.push(T::read(from)?);
        }
        Ok(items)
    }
}

impl<T: Item> Item for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Option<T>, DecodeError> {
        bool::read(from)?.then(|| T::read(from)).transpose()
    }
}

impl<A: Item, B: Item> Item for (A, B) {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<(A, B), DecodeError> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

impl Item for BTreeMap<String, String> {
    fn write(&self, to: &mut Vec<u8>) {
        (self.len() as u64).write(to);
        for (name, value) in self {
            name.write(to);
            value.write(to);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = BTreeMap::new();
        for (name, value) in Vec::<(String, String)>::read(from)? {
            // One map has one encoding.
            if map.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(DecodeError::Invalid("order of names"));
            }
            map.insert(name, value);
        }
        Ok(map)
    }
}

impl Item for Pid {
    fn write(&self, to: &mut Vec<u8>) {
        self.node.write(to);
        self.local.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Pid, DecodeError> {
        Ok(Pid {
            node: u64::read(from)?,
            local: u64::read(from)?,
        })
    }
}

impl Item for Kind {
    fn write(&self, to: &mut Vec<u8>) {
        (*self as u32).write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Kind, DecodeError> {
        let number = u32::read(from)?;
        let kinds = [
            Kind::Init,
            Kind::Message,
            Kind::Request,
            Kind::Reply,
            Kind::Exit,
            Kind::Down,
            Kind::Timer,
            Kind::Table,
        ];
        let kind = kinds.into_iter().find(|kind| *kind as u32 == number);
        kind.ok_or(DecodeError::Invalid("kind of message"))
    }
}

impl Item for Priority {
    fn write(&self, to: &mut Vec<u8>) {
        (*self as u32).write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Priority, DecodeError> {
        Priority::new(u32::read(from)?).ok_or(DecodeError::Invalid("priority"))
    }
}

impl Item for GuestSnapshot {
    fn write(&self, to: &mut Vec<u8>) {
        self.module.write(to);
        self.digest.write(to);
        self.state.is_some().write(to);
        if let Some(state) = &self.state {
            write_bytes(state, to);
        }
        self.has_run.write(to);
        self.upgrades.write(to);
        self.stays.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Result<GuestSnapshot, DecodeError> {
        Ok(GuestSnapshot {
            module: Item::read(from)?,
            digest: Item::read(from)?,
            state: Option::<State>::read(from)?.map(|state| state.0),
            has_run: Item::read(from)?,
            upgrades: Item::read(from)?,
            stays: Item::read(from)?,
        })
    }
}

impl Item for StayReason {
    fn write(&self, to: &mut Vec<u8>) {
        let (number, text) = match self {
            StayReason::Exempt => (0, None),
            StayReason::Failed(text) => (1, Some(text)),
            StayReason::Reverted(text) => (2, Some(text)),
        };
        to.push(number);
        if let Some(text) = text {
            text.write(to);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<StayReason, DecodeError> {
        match from.byte()? {
            0 => Ok(StayReason::Exempt),
            1 => Ok(StayReason::Failed(Item::read(from)?)),
            2 => Ok(StayReason::Reverted(Item::read(from)?)),
            _ => Err(DecodeError::Invalid("reason to stay on a version")),
        }
    }
}

impl Item for Arc<Grants> {
    fn write(&self, to: &mut Vec<u8>) {
        Grants::write(self, to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Arc<Grants>, DecodeError> {
        Grants::read(from).map(Arc::new)
    }
}

/// Implements [`Item`] for a struct: its fields, in this order.
macro_rules! fields {
    ($name:ident: $($field:ident),+) => {
        impl Item for $name {
            fn write(&self, to: &mut Vec<u8>) {
                let $name { $($field),+ } = self;
                $($field.write(to);)+
            }

            fn read(from: &mut Reader<'_>) -> Result<$name, DecodeError> {
                $(let $field = Item::read(from)?;)+
                Ok($name { $($field),+ })
            }
        }
    };
}

fields!(ProcessSnapshot: pid, guest, inbox, links, monitors, watchers, parent, arguments, starter,
    counted, timers, names, groups, limits, flags, reductions);
fields!(StaysOnVersion: current, because);
fields!(LinkSnapshot: to, unlinking);
fields!(MonitorSnapshot: reference, of, awaits_reply);
fields!(TimerSnapshot: reference, remaining, to, envelope);
fields!(Flags: trap_exit, starting, suspended, priority, pinned_to);
fields!(Envelope: sender, reference, payload, tag, reason, kind);
fields!(Limits: memory, mailbox_messages, mailbox_bytes, message_bytes, children, descendants,
    tables, priority, files, grants);
fields!(Grants: folders, env, args, terminal, connect);
fields!(Folder: guest, host, below, write);

#[cfg(all(test, not(loom)))]
mod tests;
