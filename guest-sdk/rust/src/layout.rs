//! Fingerprints of types, so that new code may reuse a process's memory as it is.
//!
//! A swap can *reuse* the state of a process: its memory is applied to the new version, and
//! nothing is decoded. That is only sound if both versions interpret it in the same way. The
//! host itself compares data, globals, memory limits and tables; the meaning of the bytes on
//! the heap is known only to the SDK, which provides it as one number: a hash of the names,
//! order, offsets and types of all fields reachable from the state, of the compiler that laid
//! them out, and of the SDK version that stores them.
//!
//! Left out deliberately: types behind `dyn`, function pointers, and types that contain
//! themselves (their fingerprint would, too). They have no [`Layout`], so an upgrade uses
//! `save` and `load`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::rc::Rc;
use std::time::Duration;

use crate::http::Responder;
use crate::socket::Socket;
use crate::{Address, Bytes, Caller, Pending, Pid};

/// A type with a fingerprint of its memory layout. Derive it.
///
/// The fingerprint of an actor's state promises that everything else in the module's memory has
/// the same meaning, too: with `#[exuvia::actor(layout)]`, keep no mutable statics or thread
/// locals of your own.
///
/// ```
/// use exuvia::Layout;
///
/// mod before {
///     #[derive(exuvia::Layout)]
///     pub struct Point { pub x: u64, pub y: u64 }
/// }
/// mod after {
///     #[derive(exuvia::Layout)]
///     pub struct Point { pub y: u64, pub x: u64 }
/// }
/// assert_ne!(before::Point::HASH, after::Point::HASH);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no layout fingerprint",
    note = "derive `exuvia::Layout` for your own type; for one of another crate, or one that contains itself, leave `layout` out of `#[exuvia::actor(...)]`: its state is then always migrated by field names"
)]
pub trait Layout {
    /// The fingerprint.
    const HASH: u64;
}

/// The size of the custom section `exuvia.layout`, in bytes.
pub const SECTION_SIZE: usize = 16;

/// Returns the contents of the custom section for a state: the SDK, then the fingerprint.
pub const fn section<T: Layout>() -> [u8; SECTION_SIZE] {
    /// The SDK and the format of its section.
    const MAKER: [u8; 8] = *b"rust\0\0\0\x01";
    let hash = Hash::new("state")
        .text(env!("CARGO_PKG_VERSION"))
        .text(env!("EXUVIA_COMPILER"))
        .text(env!("EXUVIA_TARGET"))
        // The allocator is the SDK's, or the standard library's, whose version is the
        // compiler's; a module with its own must not use `layout`.
        .text(if cfg!(feature = "heap") {
            "heap"
        } else {
            "std"
        })
        .number(T::HASH)
        .finish()
        .to_le_bytes();
    let mut section = [0; SECTION_SIZE];
    let mut at = 0;
    while at < 8 {
        section[at] = MAKER[at];
        section[8 + at] = hash[at];
        at += 1;
    }
    section
}

/// Returns a text as an array for a section. `N` is its length.
#[doc(hidden)]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = text.as_bytes()[at];
        at += 1;
    }
    bytes
}

/// FNV-1a with 64 bits: simple enough to run at compile time. A fingerprint of one's own types
/// is not attacked, so it need not be cryptographic.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Hash(u64);

impl Hash {
    /// Starts a hash with the kind of what is hashed.
    pub const fn new(kind: &str) -> Hash {
        // FNV's offset basis.
        Hash(0xcbf2_9ce4_8422_2325).text(kind)
    }

    const fn byte(self, byte: u8) -> Hash {
        // FNV's prime.
        Hash((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }

    /// Adds text with its length, so that `"ab", "c"` differs from `"a", "bc"`.
    pub const fn text(self, text: &str) -> Hash {
        let bytes = text.as_bytes();
        let mut hash = self.number(bytes.len() as u64);
        let mut at = 0;
        while at < bytes.len() {
            hash = hash.byte(bytes[at]);
            at += 1;
        }
        hash
    }

    /// Adds a number: an offset, a size, another fingerprint.
    pub const fn number(self, number: u64) -> Hash {
        let bytes = number.to_le_bytes();
        let mut hash = self;
        let mut at = 0;
        while at < bytes.len() {
            hash = hash.byte(bytes[at]);
            at += 1;
        }
        hash
    }

    /// Adds the size and alignment of a type.
    pub const fn size_of<T>(self) -> Hash {
        self.number(size_of::<T>() as u64)
            .number(align_of::<T>() as u64)
    }

    /// Returns the fingerprint.
    pub const fn finish(self) -> u64 {
        self.0
    }
}

macro_rules! plain {
    ($($type:ty),+ $(,)?) => {$(
        impl Layout for $type {
            const HASH: u64 = Hash::new(stringify!($type)).size_of::<$type>().finish();
        }
    )+};
}

plain!(
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    bool,
    char,
    (),
    String,
    Duration,
    Pid,
    Bytes,
    Responder,
    Socket,
);

macro_rules! generic {
    ($($type:ident<$($parameter:ident),+>),+ $(,)?) => {$(
        impl<$($parameter: Layout),+> Layout for $type<$($parameter),+> {
            const HASH: u64 = Hash::new(stringify!($type))
                .size_of::<Self>()
                $(.number($parameter::HASH))+
                .finish();
        }
    )+};
}

generic!(
    Vec<T>,
    VecDeque<T>,
    LinkedList<T>,
    BinaryHeap<T>,
    BTreeSet<T>,
    BTreeMap<K, V>,
    Option<T>,
    Result<T, E>,
    Box<T>,
    Rc<T>,
    Cell<T>,
    RefCell<T>,
);

// The hasher's keys are part of the value, and its type is part of the layout; the standard one
// is covered by the compiler's version.
impl<K: Layout, V: Layout> Layout for HashMap<K, V> {
    const HASH: u64 = Hash::new("HashMap")
        .size_of::<Self>()
        .number(K::HASH)
        .number(V::HASH)
        .finish();
}

impl<T: Layout> Layout for HashSet<T> {
    const HASH: u64 = Hash::new("HashSet")
        .size_of::<Self>()
        .number(T::HASH)
        .finish();
}

impl<T> Layout for PhantomData<T> {
    const HASH: u64 = Hash::new("PhantomData").finish();
}

/// The type of the reply does not matter: only the pid and the reference are stored.
impl<R> Layout for Caller<R> {
    const HASH: u64 = Hash::new("Caller").size_of::<Self>().finish();
}

impl<M, Q, R> Layout for Address<M, Q, R> {
    const HASH: u64 = Hash::new("Address").size_of::<Self>().finish();
}

impl<R> Layout for Pending<R> {
    const HASH: u64 = Hash::new("Pending").size_of::<Self>().finish();
}

impl<T: Layout, const N: usize> Layout for [T; N] {
    const HASH: u64 = Hash::new("array").number(N as u64).number(T::HASH).finish();
}

macro_rules! tuple {
    ($($parameter:ident $index:tt),+) => {
        impl<$($parameter: Layout),+> Layout for ($($parameter,)+) {
            const HASH: u64 = Hash::new("tuple")
                .size_of::<Self>()
                $(.number(std::mem::offset_of!(Self, $index) as u64).number($parameter::HASH))+
                .finish();
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

#[cfg(test)]
mod tests;
