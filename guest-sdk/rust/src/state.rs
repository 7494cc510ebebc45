//! Handing the state over and taking it back, for modules without an actor.
//! Both are served only inside `save` and `load`.

use crate::{Error, sys};

/// Hands the state over: once, inside `save`.
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

/// Takes the state back, inside `load`, which is told its length.
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
