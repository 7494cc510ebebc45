//! Fingerprints of types, so that a process's memory may be handed to new code
//! as it is.
//!
//! A swap can *carry* a process: its memory is applied to the new version, and
//! nothing is decoded. That is only sound if both versions mean the same by it.
//! The host compares data, globals, memory limits and tables by itself; what the
//! bytes of the heap mean is for the SDK to say, and this is how: one number
//! from the names, order, offsets and types of all fields that can be reached
//! from the state, the compiler that laid them out, and the SDK that keeps them.
//!
//! Left out on purpose: types behind `dyn`, function pointers, and types that
//! contain themselves (their fingerprint would, too). They have no [`Layout`],
//! so that the swap goes by `save` and `load`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::rc::Rc;
use std::time::Duration;

use crate::{Address, Bytes, Caller, Pending, Pid};

/// A type with a fingerprint of how it lies in memory. Derive it.
///
/// The fingerprint of an actor's state promises that whatever else is in the
/// module's memory means the same as well: with `#[exuvia::actor(layout)]`, keep
/// no changing statics or thread locals of your own.
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
    message = "`{Self}` has no fingerprint of how it lies in memory",
    note = "derive `exuvia::Layout` for your own type; for one of another crate, or one that contains itself, leave `layout` out of `#[exuvia::actor(...)]`: its state then always crosses by field names"
)]
pub trait Layout {
    /// The fingerprint.
    const HASH: u64;
}

/// Bytes of the custom section `exuvia.layout`.
pub const SECTION_SIZE: usize = 16;

/// The contents of the custom section for a state: who made it, then the
/// fingerprint.
pub const fn section<T: Layout>() -> [u8; SECTION_SIZE] {
    /// Which SDK, and which format of its section.
    const MAKER: [u8; 8] = *b"rust\0\0\0\x01";
    let hash = Hash::new("state")
        .text(env!("CARGO_PKG_VERSION"))
        .text(env!("EXUVIA_COMPILER"))
        .text(env!("EXUVIA_TARGET"))
        // The allocator is the SDK's, or the standard library's, whose version
        // is the compiler's; a module with its own must not use `layout`.
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

/// A text as what a section can hold. `N` is its length.
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

/// FNV-1a with 64 bits: simple enough to run while compiling. Nobody attacks a
/// fingerprint of their own types, so that it need not be a strong one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Hash(u64);

impl Hash {
    /// Begins with what kind of thing is hashed.
    pub const fn new(kind: &str) -> Hash {
        // FNV's offset basis.
        Hash(0xcbf2_9ce4_8422_2325).text(kind)
    }

    const fn byte(self, byte: u8) -> Hash {
        // FNV's prime.
        Hash((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }

    /// Text with its length, so that `"ab", "c"` is not `"a", "bc"`.
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

    /// A number: an offset, a size, another fingerprint.
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

    /// Size and alignment of a type.
    pub const fn size_of<T>(self) -> Hash {
        self.number(size_of::<T>() as u64)
            .number(align_of::<T>() as u64)
    }

    /// The fingerprint.
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

// The hasher's keys are part of the value, and its type part of the layout; the
// standard one is covered by the compiler's version.
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

/// What it is answered with is of no weight: only the pid and the reference lie
/// in memory.
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
