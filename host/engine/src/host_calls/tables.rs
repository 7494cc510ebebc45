//! Host calls about tables.

use exuvia_abi::Code;
use exuvia_process::Payload;
use exuvia_process::call::CallResult;

use super::view::View;

pub(super) fn table_new(
    view: &mut View<'_>,
    name: i32,
    length: i32,
    access: i32,
    table_out: i32,
) -> CallResult<i32> {
    let (mut memory, mut caller) = view.split();
    memory.check(table_out, 8)?;
    let id = caller.table_new(memory.read(name, length)?, access)?;
    memory.write(table_out, &id.to_le_bytes())?;
    Ok(0)
}

pub(super) fn table_find(
    view: &mut View<'_>,
    name: i32,
    length: i32,
    table_out: i32,
) -> CallResult<i32> {
    let (mut memory, mut caller) = view.split();
    memory.check(table_out, 8)?;
    let id = caller.table_find(memory.read(name, length)?)?;
    memory.write(table_out, &id.to_le_bytes())?;
    Ok(0)
}

pub(super) fn table_put(
    view: &mut View<'_>,
    table: i64,
    key: i32,
    key_length: i32,
    value: i32,
    value_length: i32,
    flags: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    let key = memory.read(key, key_length)?;
    let value = memory.read(value, value_length)?;
    let was = caller.table_put(table.cast_unsigned(), key, value, flags)?;
    Ok(i32::from(was))
}

pub(super) fn table_get(
    view: &mut View<'_>,
    table: i64,
    key: i32,
    key_length: i32,
    buffer: i32,
    capacity: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    memory.check(buffer, capacity.cast_unsigned())?;
    let found = caller.table_get(table.cast_unsigned(), memory.read(key, key_length)?)?;
    view.return_bytes(found.as_ref().map(Payload::as_slice), buffer, capacity)
}

pub(super) fn table_next(
    view: &mut View<'_>,
    table: i64,
    key: i32,
    key_length: i32,
    buffer: i32,
    capacity: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    memory.check(buffer, capacity.cast_unsigned())?;
    let found = caller.table_next(table.cast_unsigned(), memory.read(key, key_length)?)?;
    view.return_bytes(found.as_deref(), buffer, capacity)
}

pub(super) fn table_delete(
    view: &mut View<'_>,
    table: i64,
    key: i32,
    key_length: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    let was = caller.table_delete(table.cast_unsigned(), memory.read(key, key_length)?)?;
    Ok(i32::from(was))
}

pub(super) fn table_add(
    view: &mut View<'_>,
    table: i64,
    key: i32,
    key_length: i32,
    amount: i64,
    sum_out: i32,
) -> CallResult<i32> {
    let (mut memory, mut caller) = view.split();
    memory.check(sum_out, 8)?;
    let key = memory.read(key, key_length)?;
    let sum = caller.table_add(table.cast_unsigned(), key, amount)?;
    memory.write(sum_out, &sum.to_le_bytes())?;
    Ok(0)
}

pub(super) fn table_info(view: &mut View<'_>, table: i64, what: i32) -> CallResult<i64> {
    let number = view.caller().table_info(table.cast_unsigned(), what)?;
    Ok(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn table_heir(view: &mut View<'_>, table: i64, pid: i32, tag: i32) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    // A null pointer: no heir.
    let heir = match pid {
        0 => None,
        _ => Some((memory.pid(pid)?, tag.cast_unsigned())),
    };
    caller.table_heir(table.cast_unsigned(), heir)?;
    Ok(0)
}

pub(super) fn table_give(view: &mut View<'_>, table: i64, pid: i32, tag: i32) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    caller.table_give(table.cast_unsigned(), memory.pid(pid)?, tag.cast_unsigned())?;
    Ok(0)
}

pub(super) fn table_end(view: &mut View<'_>, table: i64) -> CallResult<i32> {
    view.caller().table_end(table.cast_unsigned())?;
    Ok(0)
}

impl View<'_> {
    /// Copies what was found into the guest's buffer if it fits, and returns its length in bytes in
    /// any case. Returns [`Code::Empty`] if nothing was found.
    pub(super) fn return_bytes(
        &mut self,
        found: Option<&[u8]>,
        buffer: i32,
        capacity: i32,
    ) -> CallResult<i32> {
        let found = found.ok_or(Code::Empty)?;
        let length = i32::try_from(found.len()).map_err(|_| Code::Limit)?;
        if found.len() <= capacity.cast_unsigned() as usize {
            self.memory().write(buffer, found)?;
            self.debt.copied(found.len());
        }
        Ok(length)
    }
}
