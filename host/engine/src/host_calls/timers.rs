//! Host calls about time: timers and sleep.

use exuvia_process::call::CallResult;

use super::view::View;
use crate::guest::WaitReason;

pub(super) fn send_after(
    view: &mut View<'_>,
    to: i32,
    tag: i32,
    data: i32,
    length: i32,
    delay: i64,
    reference_out: i32,
) -> CallResult<i32> {
    let (mut memory, mut caller) = view.split();
    if reference_out != 0 {
        memory.check(reference_out, 8)?;
    }
    let data = memory.read(data, length)?;
    let reference = caller.send_after(memory.pid(to)?, tag.cast_unsigned(), data, delay)?;
    if reference_out != 0 {
        memory.write(reference_out, &reference.to_le_bytes())?;
    }
    Ok(0)
}

pub(super) fn cancel_timer(view: &mut View<'_>, reference: i64) -> CallResult<i64> {
    let left = view.caller().cancel_timer(reference.cast_unsigned());
    Ok(left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX)))
}

pub(super) fn sleep(view: &mut View<'_>, time: i64) -> CallResult<i32> {
    if view.timed_out() {
        view.end_wait();
        return Ok(0);
    }
    if !view.caller().sleep(time)? {
        return Ok(0);
    }
    view.suspend(WaitReason::Nothing, time, false)
}
