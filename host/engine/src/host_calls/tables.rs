//! Host calls about tables. A handler's changes in a transaction are applied at once, and undone if
//! it traps, unless another process has changed the row since.

use std::sync::Arc;

use exuvia_abi::{Code, table};
use exuvia_process::{Access, Payload, Put, SharedTable, TableError};
use wasmtime::{Caller, Linker};

use super::message::registered;
use super::{Answer, answer_with, served};
use crate::instance::store::{FrameData, View, bytes, view};
use crate::transaction::{on_rollback, transaction};

const MODULE: &str = exuvia_abi::MODULE;

/// Bytes that a TABLE message on its way is charged to the process that gave the table.
const TABLE_BYTES: u64 = 128;

pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    define_tables(linker)?;
    define_reads(linker)?;
    define_writes(linker)
}

fn define_tables(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "table_new",
        |mut caller: Caller<'_, FrameData>, name: i32, length: i32, access: i32, out: i32| {
            served(&mut caller, "table_new", |view| {
                Ok(create(view, name, length, access, out))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "table_find",
        |mut caller: Caller<'_, FrameData>, name: i32, length: i32, out: i32| {
            served(&mut caller, "table_find", |view| {
                Ok(find(view, name, length, out))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "table_info",
        |mut caller: Caller<'_, FrameData>, id: i64, what: i32| {
            let view = view(&mut caller, "table_info")?;
            let size = (view.host.system.tables).get(id.cast_unsigned());
            let answer = size.map_err(code).and_then(|its| {
                let (rows, bytes) = its.size();
                match what {
                    table::ROWS => Ok(rows as u64),
                    table::BYTES => Ok(bytes),
                    _ => Err(Code::BadArgument),
                }
            });
            Ok::<i64, wasmtime::Error>(match answer {
                Ok(number) => i64::try_from(number).unwrap_or(i64::MAX),
                Err(code) => i64::from(code as i32),
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "table_heir",
        |mut caller: Caller<'_, FrameData>, id: i64, pid: i32, tag: i32| {
            served(&mut caller, "table_heir", |view| {
                Ok(set_heir(view, id.cast_unsigned(), pid, tag))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "table_give",
        |mut caller: Caller<'_, FrameData>, id: i64, pid: i32, tag: i32| {
            served(&mut caller, "table_give", |view| {
                Ok(give(view, id.cast_unsigned(), pid, tag))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "table_end",
        |mut caller: Caller<'_, FrameData>, id: i64| {
            served(&mut caller, "table_end", |view| {
                view.close();
                let system = &view.host.system;
                let ended = system.tables.end(view.process.pid(), id.cast_unsigned());
                Ok(ended.map(|()| 0).map_err(code))
            })
        },
    )?;
    Ok(())
}

fn define_reads(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "table_get",
        |mut caller: Caller<'_, FrameData>,
         id: i64,
         key: i32,
         key_length: i32,
         buffer: i32,
         capacity: i32| {
            served(&mut caller, "table_get", |view| {
                Ok(get(view, id, (key, key_length), buffer, capacity))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "table_next",
        |mut caller: Caller<'_, FrameData>,
         id: i64,
         key: i32,
         key_length: i32,
         buffer: i32,
         capacity: i32| {
            served(&mut caller, "table_next", |view| {
                Ok(next(view, id, (key, key_length), buffer, capacity))
            })
        },
    )?;
    Ok(())
}

fn define_writes(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "table_put",
        |mut caller: Caller<'_, FrameData>,
         id: i64,
         key: i32,
         key_length: i32,
         value: i32,
         value_length: i32,
         flags: i32| {
            served(&mut caller, "table_put", |view| {
                let value = (value, value_length);
                Ok(put(view, id, (key, key_length), value, flags))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "table_delete",
        |mut caller: Caller<'_, FrameData>, id: i64, key: i32, key_length: i32| {
            served(&mut caller, "table_delete", |view| {
                Ok(delete(view, id, (key, key_length)))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "table_add",
        |mut caller: Caller<'_, FrameData>,
         id: i64,
         key: i32,
         key_length: i32,
         amount: i64,
         out: i32| {
            served(&mut caller, "table_add", |view| {
                Ok(add(view, id, (key, key_length), amount, out))
            })
        },
    )?;
    Ok(())
}

fn code(error: TableError) -> Code {
    match error {
        TableError::Unknown | TableError::Dead => Code::NoProc,
        TableError::Denied => Code::Denied,
        TableError::Taken => Code::NameTaken,
        TableError::Invalid => Code::BadArgument,
        TableError::Full => Code::Limit,
    }
}

fn create(view: &mut View<'_>, name: i32, length: i32, access: i32, out: i32) -> Answer {
    let access = match access {
        table::PROTECTED => Access::Protected,
        table::PRIVATE => Access::Private,
        table::PUBLIC => Access::Public,
        _ => return Err(Code::BadArgument),
    };
    view.check(out, 8)?;
    let name = match length {
        0 => None,
        _ => Some(registered(view, name, length)?),
    };
    let system = &view.host.system;
    let owner = view.process.pid();
    let id = system
        .new_table(owner, view.process.limits(), name, access)
        .map_err(code)?;
    on_rollback(view.process, system, move |process, system| {
        let _ = system.tables.end(process.pid(), id);
    });
    view.write(out, &id.to_le_bytes())?;
    Ok(Code::Ok as i32)
}

fn find(view: &mut View<'_>, name: i32, length: i32, out: i32) -> Answer {
    view.check(out, 8)?;
    let name = registered(view, name, length)?;
    let id = view.host.system.tables.find(name).ok_or(Code::NoProc)?;
    view.write(out, &id.to_le_bytes())?;
    Ok(Code::Ok as i32)
}

fn set_heir(view: &mut View<'_>, id: u64, pid: i32, tag: i32) -> Answer {
    // A null pointer: no heir.
    let heir = match pid {
        0 => None,
        _ => Some((view.pid(pid)?, tag.cast_unsigned())),
    };
    let system = &view.host.system;
    let before = (system.tables)
        .set_heir(view.process.pid(), id, heir)
        .map_err(code)?;
    on_rollback(view.process, system, move |process, system| {
        let _ = system.tables.set_heir(process.pid(), id, before);
    });
    Ok(Code::Ok as i32)
}

fn give(view: &mut View<'_>, id: u64, pid: i32, tag: i32) -> Answer {
    let to = view.pid(pid)?;
    if to == view.process.pid() {
        return Err(Code::BadArgument);
    }
    view.close();
    let charge = view.charge(TABLE_BYTES)?;
    let system = &view.host.system;
    system
        .give_table(
            view.process.pid(),
            id,
            to,
            tag.cast_unsigned(),
            Some(charge),
        )
        .map_err(code)?;
    Ok(Code::Ok as i32)
}

/// Returns the table with this number, after checking that the key is in the guest's memory.
fn table_for(view: &View<'_>, id: i64, key: (i32, i32)) -> Result<Arc<SharedTable>, Code> {
    view.read(key.0, key.1)?;
    let found = view.host.system.tables.get(id.cast_unsigned());
    found.map_err(code)
}

fn get(view: &mut View<'_>, id: i64, key: (i32, i32), buffer: i32, capacity: i32) -> Answer {
    view.check(buffer, capacity.cast_unsigned())?;
    let table = table_for(view, id, key)?;
    let key = view.read(key.0, key.1)?;
    let found = table.get(view.process.pid(), key).map_err(code)?;
    answer_with(
        view,
        found.as_ref().map(Payload::as_slice),
        buffer,
        capacity,
    )
}

fn next(view: &mut View<'_>, id: i64, key: (i32, i32), buffer: i32, capacity: i32) -> Answer {
    view.check(buffer, capacity.cast_unsigned())?;
    let table = table_for(view, id, key)?;
    let key = view.read(key.0, key.1)?;
    let found = table.next(view.process.pid(), key).map_err(code)?;
    answer_with(view, found.as_deref(), buffer, capacity)
}

fn put(view: &mut View<'_>, id: i64, key: (i32, i32), value: (i32, i32), flags: i32) -> Answer {
    if flags & !table::NEW != 0 {
        return Err(Code::BadArgument);
    }
    let replace = flags & table::NEW == 0;
    let value = view.payload(value.0, value.1)?;
    let table = table_for(view, id, key)?;
    let key = bytes(view.memory, key.0, key.1).ok_or(Code::BadPointer)?;
    let put = table
        .put_undoably(view.process.pid(), key, &value, replace)
        .map_err(code)?;
    let before = match put {
        Put::There(_) => return Ok(1),
        Put::Stored(before) => before,
    };
    let was = before.was_there();
    if transaction(view.process).is_some() {
        let key: Box<[u8]> = key.into();
        on_rollback(view.process, &view.host.system, move |_, _| {
            table.undo(&key, before);
        });
    }
    Ok(i32::from(was))
}

fn delete(view: &mut View<'_>, id: i64, key: (i32, i32)) -> Answer {
    let table = table_for(view, id, key)?;
    let key = bytes(view.memory, key.0, key.1).ok_or(Code::BadPointer)?;
    let me = view.process.pid();
    if transaction(view.process).is_none() {
        let before = table.remove(me, key).map_err(code)?;
        return Ok(i32::from(before.is_some()));
    }
    let Some(removed) = table.remove_undoably(me, key).map_err(code)? else {
        return Ok(0);
    };
    on_rollback(view.process, &view.host.system, move |_, _| removed.undo());
    Ok(1)
}

fn add(view: &mut View<'_>, id: i64, key: (i32, i32), amount: i64, out: i32) -> Answer {
    view.check(out, 8)?;
    let table = table_for(view, id, key)?;
    let key = bytes(view.memory, key.0, key.1).ok_or(Code::BadPointer)?;
    let (before, sum) = table.add(view.process.pid(), key, amount).map_err(code)?;
    if transaction(view.process).is_some() {
        let key: Box<[u8]> = key.into();
        on_rollback(view.process, &view.host.system, move |_, _| {
            table.undo_add(&key, amount, before);
        });
    }
    view.write(out, &sum.to_le_bytes())?;
    Ok(Code::Ok as i32)
}
