//! How a state is saved, as a text: the section `exuvia.state` (`guest-sdk/abi.md`, section 2).
//!
//! With it, `exuvia check OLD NEW` compares the states of two modules without running either. The
//! text says what is in the MessagePack, by the names of serde, so that it is the same in all
//! languages.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::marker::PhantomData;
use std::time::Duration;

use crate::{Address, Bytes, Caller, Pending, Pid, Table};

/// A type that says how serde saves it. Derive it, for the state of an actor and for your own types
/// in it: the module then describes its state, and `exuvia check OLD NEW` tells which field would be
/// lost or refused, before anything runs.
///
/// Fields whose types do not derive it are compared by the names of their types. So leave it out of
/// a type that contains itself, and of one with a serde attribute that the derive does not know.
///
/// ```
/// use exuvia::Saved;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Saved)]
/// struct Counter {
///     count: u64,
///     #[serde(default, alias = "by")]
///     step: u64,
///     owner: Option<String>,
/// }
/// assert_eq!(Counter::TYPE.as_str(), "{count: int, step|by?: int, owner: Option<text>}");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it is saved",
    note = "derive `exuvia::Saved` for your own type"
)]
pub trait Saved {
    /// Its type in the words of the section.
    const TYPE: TypeText;
}

/// The most bytes of a description.
const MOST_BYTES: usize = 4096;

/// A text that is put together when a module is compiled.
#[derive(Clone, Copy)]
pub struct TypeText {
    bytes: [u8; MOST_BYTES],
    length: usize,
}

impl TypeText {
    /// Begins a text.
    pub const fn new(text: &str) -> TypeText {
        let empty = TypeText {
            bytes: [0; MOST_BYTES],
            length: 0,
        };
        empty.text(text)
    }

    /// Adds text.
    #[must_use]
    pub const fn text(mut self, text: &str) -> TypeText {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            self = self.byte(bytes[at]);
            at += 1;
        }
        self
    }

    /// Adds another text.
    #[must_use]
    pub const fn add(self, other: TypeText) -> TypeText {
        self.text(other.as_str())
    }

    /// Adds text as the next part of a list: after a comma, unless it is the first one.
    #[must_use]
    pub const fn next(self, text: &str) -> TypeText {
        match self.is_at_begin() {
            true => self.text(text),
            false => self.text(", ").text(text),
        }
    }

    /// Adds the fields of a record as the next ones, as `#[serde(flatten)]` does.
    #[must_use]
    pub const fn flat(self, record: TypeText) -> TypeText {
        let text = record.as_str().as_bytes();
        assert!(
            text[0] == b'{',
            "`Saved` flattens only a struct with names that derives it too: leave the derive out"
        );
        let (_, inner) = text.split_at(1);
        let (inner, _) = inner.split_at(inner.len() - 1);
        match std::str::from_utf8(inner) {
            Ok(inner) if !inner.is_empty() => self.next(inner),
            _ => self,
        }
    }

    const fn is_at_begin(&self) -> bool {
        matches!(self.bytes[self.length - 1], b'{' | b'<')
    }

    /// Adds a whole number.
    #[must_use]
    pub const fn number(self, number: i32) -> TypeText {
        let (mut text, mut rest) = match number < 0 {
            true => (self.text("-"), number.unsigned_abs()),
            false => (self, number.unsigned_abs()),
        };
        let mut power = 1;
        while rest / power >= 10 {
            power *= 10;
        }
        while power > 0 {
            text = text.byte(b'0' + (rest / power) as u8);
            rest %= power;
            power /= 10;
        }
        text
    }

    const fn byte(mut self, byte: u8) -> TypeText {
        assert!(
            self.length < MOST_BYTES,
            "the description of the state is too long: leave the derive `Saved` out of a type in it"
        );
        self.bytes[self.length] = byte;
        self.length += 1;
        self
    }

    /// Returns it as text.
    pub const fn as_str(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => panic!("only whole texts are added"),
        }
    }
}

impl std::fmt::Debug for TypeText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Asks a type for its description, if it has one: `Asked::<T>::TYPE` is that of [`Saved`] if `T` has
/// it, and else `None`, from [`Foreign`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Asked<T: ?Sized>(PhantomData<T>);

impl<T: Saved + ?Sized> Asked<T> {
    #[doc(hidden)]
    pub const TYPE: Option<TypeText> = Some(T::TYPE);
}

#[doc(hidden)]
pub trait Foreign {
    #[doc(hidden)]
    const TYPE: Option<TypeText> = None;
}

impl<T: ?Sized> Foreign for Asked<T> {}

/// Returns the description of a type, or else its name in quotes.
#[doc(hidden)]
pub const fn or_named(known: Option<TypeText>, name: &str) -> TypeText {
    match known {
        Some(text) => text,
        None => TypeText::new("'").text(name).text("'"),
    }
}

/// Returns the contents of the section: the schema, the state's type, and what `load` takes, as JSON.
/// Nothing if the type is not known.
#[doc(hidden)]
pub const fn section(schema: i32, loads: &str, ty: Option<TypeText>) -> TypeText {
    match ty {
        Some(ty) => TypeText::new("{\"schema\": ")
            .number(schema)
            .text(", \"loads\": ")
            .text(loads)
            .text(", \"type\": \"")
            .add(ty)
            .text("\"}\n"),
        None => TypeText::new(""),
    }
}

macro_rules! plain {
    ($($text:literal: $($type:ty),+;)+) => {$($(
        impl Saved for $type {
            const TYPE: TypeText = TypeText::new($text);
        }
    )+)+};
}

plain! {
    "nil": ();
    "bool": bool;
    "int": u8, u16, u32, u64, usize, i8, i16, i32, i64, isize;
    "float": f32, f64;
    "text": char, String;
    "bytes": Bytes;
    "pid": Pid;
    "{secs: int, nanos: int}": Duration;
}

macro_rules! generic {
    ($(<$($parameter:ident),+> $type:ty: $begin:literal $($inner:ident $after:literal)+;)+) => {$(
        impl<$($parameter: Saved),+> Saved for $type {
            const TYPE: TypeText = TypeText::new($begin)$(.add($inner::TYPE).text($after))+;
        }
    )+};
}

generic! {
    <T> Option<T>: "Option<" T ">";
    <T> Vec<T>: "List<" T ">";
    <T> VecDeque<T>: "List<" T ">";
    <T> LinkedList<T>: "List<" T ">";
    <T> BinaryHeap<T>: "List<" T ">";
    <T> BTreeSet<T>: "List<" T ">";
    <K, V> BTreeMap<K, V>: "Map<" K ", " V ">";
    <T, E> Result<T, E>: "Enum<Ok: " T ", Err: " E ">";
    <T> Box<T>: "" T "";
    <T> Cell<T>: "" T "";
    <T> RefCell<T>: "" T "";
    <A> (A,): "Tuple<" A ">";
    <A, B> (A, B): "Tuple<" A ", " B ">";
    <A, B, C> (A, B, C): "Tuple<" A ", " B ", " C ">";
    <A, B, C, D> (A, B, C, D): "Tuple<" A ", " B ", " C ", " D ">";
}

impl<K: Saved, V: Saved, S> Saved for HashMap<K, V, S> {
    const TYPE: TypeText = BTreeMap::<K, V>::TYPE;
}

impl<T: Saved, S> Saved for HashSet<T, S> {
    const TYPE: TypeText = Vec::<T>::TYPE;
}

impl<T: Saved, const N: usize> Saved for [T; N] {
    const TYPE: TypeText = Vec::<T>::TYPE;
}

impl<T: ?Sized> Saved for PhantomData<T> {
    const TYPE: TypeText = TypeText::new("nil");
}

impl<R> Saved for Caller<R> {
    const TYPE: TypeText = TypeText::new("{pid: pid, reference: int}");
}

impl<M, Q, R> Saved for Address<M, Q, R> {
    const TYPE: TypeText = Pid::TYPE;
}

impl<R> Saved for Pending<R> {
    const TYPE: TypeText = u64::TYPE;
}

/// A table is kept by its number; what is in it stays in the host.
impl<V> Saved for Table<V> {
    const TYPE: TypeText = u64::TYPE;
}

#[cfg(test)]
mod tests;
