//! Saving and loading the state, for modules without an actor. All functions work only inside
//! `save` and `load`.
//!
//! ```
//! use exuvia::{Kind, RunResult, Wait};
//! use serde::{Deserialize, Serialize};
//! use std::cell::RefCell;
//!
//! #[derive(Serialize, Deserialize, Default)]
//! struct Totals {
//!     messages: u64,
//! }
//!
//! thread_local! {
//!     static TOTALS: RefCell<Totals> = RefCell::default();
//! }
//!
//! /// Waits for messages forever, and returns when there is new code.
//! fn run() -> RunResult {
//!     while let Ok(message) = exuvia::receive_or_upgrade(Wait::Forever) {
//!         TOTALS.with_borrow_mut(|totals| match message.kind {
//!             Kind::Message => totals.messages += 1,
//!             Kind::Request => drop(message.reply(&totals.messages)),
//!             _ => {}
//!         });
//!     }
//!     RunResult::Rest
//! }
//!
//! fn save() -> bool {
//!     TOTALS.with_borrow(exuvia::state::save)
//! }
//!
//! fn load(from_schema: i32, length: usize) -> bool {
//!     exuvia::state::load(from_schema, length).map(|totals| TOTALS.set(totals)).is_some()
//! }
//!
//! exuvia::module!(run = run, schema = 1, save = save, load = load);
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Scratch, decode_naming};
use crate::{Error, sys};

/// Saves a value by its field names, inside `save`. Returns `false` after an error, which is
/// logged.
///
/// ```
/// fn save() -> bool {
///     exuvia::state::save(&("everything", 7))
/// }
/// # save();
/// ```
pub fn save<T: Serialize + ?Sized>(value: &T) -> bool {
    let mut scratch = Scratch::new();
    let saved = scratch.encode(value).and_then(|()| put(scratch.as_slice()));
    if let Err(error) = &saved {
        crate::error!("the state cannot be saved: {error}");
    }
    saved.is_ok()
}

/// Loads a value by its field names, inside `load`. Returns `None` after an error, which is
/// logged with the field; the host then shows it as the reason.
///
/// ```
/// fn load(from_schema: i32, length: usize) -> bool {
///     let state: Option<(String, u64)> = exuvia::state::load(from_schema, length);
///     state.is_some()
/// }
/// # load(1, 10);
/// ```
pub fn load<T: DeserializeOwned>(from_schema: i32, length: usize) -> Option<T> {
    load_with(from_schema, length, by_name)
}

pub(crate) fn load_with<T>(
    from_schema: i32,
    length: usize,
    read: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Option<T> {
    get(length)
        .map_err(String::from)
        .and_then(|bytes| read(&bytes))
        // The host quotes this line as the reason why the state was rejected.
        .inspect_err(|why| {
            crate::error!("the state of schema {from_schema} cannot be loaded: {why}");
        })
        .ok()
}

/// Decodes a state by its field names. The error names the field, and the fix if there is a
/// standard one. This is the default of [`Actor::migrate`](crate::Actor::migrate), for
/// implementations that only treat old schemas differently.
///
/// ```
/// # use serde::Deserialize;
/// #[derive(Debug, Deserialize)]
/// struct Counter {
///     count: u64,
/// }
/// let refused = exuvia::state::by_name::<Counter>(b"\x80").unwrap_err();
/// assert!(refused.contains("missing field `count`"), "{refused}");
/// ```
pub fn by_name<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    decode_naming(bytes).map_err(|error| {
        let why = match error {
            Error::Decode(why) => why,
            other => other.to_string(),
        };
        // serde's wording: there is no other way to find out what went wrong.
        let fix = if why.contains("missing field `") {
            "; give it `#[serde(default)]`, or its former name with `#[serde(alias = \"...\")]`"
        } else if why.contains("unknown variant `") {
            "; keep the variant for as long as a state may hold it, or convert it in `migrate`"
        } else {
            ""
        };
        format!("{why}{fix}")
    })
}

/// Saves the state as bytes: once, inside `save`.
///
/// ```
/// fn save() -> bool {
///     exuvia::state::put(b"everything").is_ok()
/// }
/// # save();
/// ```
pub fn put(bytes: &[u8]) -> Result<(), Error> {
    Error::check(sys::state_put(bytes))
}

/// Returns the saved state, inside `load`, which receives its length.
///
/// ```
/// fn load(_from_schema: i32, length: usize) -> bool {
///     exuvia::state::get(length).is_ok_and(|bytes| bytes.starts_with(b"every"))
/// }
/// # load(1, 10);
/// ```
pub fn get(length: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; length];
    let answer = sys::state_get(&mut bytes);
    Error::check(answer)?;
    bytes.truncate(usize::try_from(answer).unwrap_or(0));
    Ok(bytes)
}
