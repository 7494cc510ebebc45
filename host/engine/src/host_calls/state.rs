//! Host calls that hand a state over from `save` to `load`.

use exuvia_abi::{Code, limits};
use exuvia_process::call::CallResult;

use super::view::RestrictedView;
use crate::instance::store::Mode;

pub(super) fn state_put(view: &mut RestrictedView<'_>, data: i32, length: i32) -> CallResult<i32> {
    let state = view.memory.read(data, length)?;
    let Mode::Restricted(restricted) = &mut view.data.mode else {
        return Err(Code::BadArgument.into());
    };
    if restricted.what != "`save`" || restricted.state.is_some() {
        return Err(Code::BadArgument.into());
    }
    if state.len() > limits::STATE as usize {
        return Err(Code::Limit.into());
    }
    restricted.state = Some(state.to_vec());
    view.data.debt.copied(state.len());
    Ok(0)
}

pub(super) fn state_get(
    view: &mut RestrictedView<'_>,
    buffer: i32,
    capacity: i32,
) -> CallResult<i32> {
    let buffer = view.memory.read_mut(buffer, capacity)?;
    let Mode::Restricted(restricted) = &view.data.mode else {
        return Err(Code::BadArgument.into());
    };
    let state = restricted.state.as_ref();
    let state = state.filter(|_| restricted.what == "`load`");
    let state = state.ok_or(Code::BadArgument)?;
    let length = state.len();
    buffer
        .get_mut(..length)
        .ok_or(Code::TooBig)?
        .copy_from_slice(state);
    view.data.debt.copied(length);
    // No state is longer than `limits::STATE`.
    Ok(i32::try_from(length).unwrap_or(i32::MAX))
}
