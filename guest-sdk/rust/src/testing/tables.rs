//! Tables of the in-memory host. All of them belong to the process under test.

use std::collections::BTreeMap;
use std::ops::Bound;

use exuvia_abi::{Code, table as flags};

use super::host::{answer_with, is_name};
use super::{Effect, ME, world};
use crate::test::current;
use crate::{Error, Pid, Reason};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug)]
pub(super) struct Tables {
    names: BTreeMap<String, u64>,
    rows: BTreeMap<u64, Rows>,
}

impl Tables {
    pub(super) const fn new() -> Tables {
        Tables {
            names: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }
}

/// Bytes that a row counts beside its key and value.
const ROW: usize = 96;

fn is_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= exuvia_abi::limits::TABLE_KEY as usize
}

fn rows(table: u64, with: impl FnOnce(&mut Rows) -> i32) -> i32 {
    world(|world| match world.tables.rows.get_mut(&table) {
        Some(rows) => with(rows),
        None => Code::NoProc as i32,
    })
}

pub(crate) fn table_new(name: &str, access: i32) -> Result<u64, Error> {
    if let Some(node) = current() {
        return node
            .call("table_new", |q| {
                q.bytes(name.as_bytes()).number(access.into())
            })
            .reference();
    }
    if !(flags::PROTECTED..=flags::PUBLIC).contains(&access) || !(name.is_empty() || is_name(name))
    {
        return Err(Error::BadArgument);
    }
    world(|world| {
        if world.tables.names.contains_key(name) {
            return Err(Error::NameTaken);
        }
        let table = world.next();
        if !name.is_empty() {
            world.tables.names.insert(name.to_owned(), table);
        }
        world.tables.rows.insert(table, Rows::new());
        Ok(table)
    })
}

pub(crate) fn table_find(name: &str) -> Result<u64, Error> {
    if let Some(node) = current() {
        return node
            .call("table_find", |q| q.bytes(name.as_bytes()))
            .reference();
    }
    if !is_name(name) {
        return Err(Error::BadArgument);
    }
    let table = world(|world| world.tables.names.get(name).copied());
    table.ok_or(Error::NoProc(Reason::NOPROC))
}

pub(crate) fn table_put(table: u64, key: &[u8], value: &[u8], how: i32) -> i32 {
    if let Some(node) = current() {
        return node
            .call("table_put", |q| {
                let q = q.reference(table).bytes(key);
                q.bytes(value).number(how.into())
            })
            .code();
    }
    if how & !flags::NEW != 0 {
        return Code::BadArgument as i32;
    }
    rows(table, |rows| {
        if !is_key(key) {
            return Code::BadArgument as i32;
        }
        let was = rows.contains_key(key);
        if !was || how & flags::NEW == 0 {
            rows.insert(key.to_vec(), value.to_vec());
        }
        i32::from(was)
    })
}

pub(crate) fn table_get(table: u64, key: &[u8], room: &mut [u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("table_get", |q| q.reference(table).bytes(key))
            .into_room(room);
    }
    rows(table, |rows| {
        answer_with(rows.get(key).map(Vec::as_slice), room)
    })
}

pub(crate) fn table_delete(table: u64, key: &[u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("table_delete", |q| q.reference(table).bytes(key))
            .code();
    }
    rows(table, |rows| i32::from(rows.remove(key).is_some()))
}

pub(crate) fn table_next(table: u64, key: &[u8], room: &mut [u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("table_next", |q| q.reference(table).bytes(key))
            .into_room(room);
    }
    rows(table, |rows| {
        let behind = (Bound::Excluded(key), Bound::Unbounded);
        let next = rows.range::<[u8], _>(behind).next();
        answer_with(next.map(|(key, _)| key.as_slice()), room)
    })
}

pub(crate) fn table_add(table: u64, key: &[u8], amount: i64) -> Result<i64, Error> {
    if let Some(node) = current() {
        return node
            .call("table_add", |q| {
                q.reference(table).bytes(key).number(amount)
            })
            .reference()
            .map(u64::cast_signed);
    }
    let mut sum = amount;
    let answer = rows(table, |rows| {
        if !is_key(key) {
            return Code::BadArgument as i32;
        }
        if let Some(value) = rows.get(key) {
            let Ok(bytes) = value.as_slice().try_into() else {
                return Code::BadArgument as i32;
            };
            sum = i64::from_le_bytes(bytes).wrapping_add(amount);
        }
        rows.insert(key.to_vec(), sum.to_le_bytes().to_vec());
        Code::Ok as i32
    });
    Error::check(answer).map(|()| sum)
}

pub(crate) fn table_info(table: u64, what: i32) -> i64 {
    if let Some(node) = current() {
        return node
            .call("table_info", |q| q.reference(table).number(what.into()))
            .long();
    }
    let number = rows(table, |rows| {
        let bytes = |(key, value): (&Vec<u8>, &Vec<u8>)| key.len() + value.len() + ROW;
        let number = match what {
            flags::ROWS => rows.len(),
            flags::BYTES => rows.iter().map(bytes).sum(),
            _ => return Code::BadArgument as i32,
        };
        i32::try_from(number).unwrap_or(i32::MAX)
    });
    i64::from(number)
}

pub(crate) fn table_heir(table: u64, heir: Option<Pid>, tag: u32) -> i32 {
    if let Some(node) = current() {
        return node
            .call("table_heir", |q| {
                let q = q.reference(table).pid(heir.unwrap_or(Pid::NONE));
                q.number(tag.into())
            })
            .code();
    }
    rows(table, |_| Code::Ok as i32)
}

pub(crate) fn table_give(table: u64, to: Pid, tag: u32) -> i32 {
    if let Some(node) = current() {
        return node
            .call("table_give", |q| {
                q.reference(table).pid(to).number(tag.into())
            })
            .code();
    }
    if to == ME {
        return Code::BadArgument as i32;
    }
    let given = table_end(table);
    if given == Code::Ok as i32 {
        world(|world| world.effects.push(Effect::GiveTable { table, to, tag }));
    }
    given
}

pub(crate) fn table_end(table: u64) -> i32 {
    if let Some(node) = current() {
        return node.call("table_end", |q| q.reference(table)).code();
    }
    world(|world| {
        world.tables.names.retain(|_, named| *named != table);
        match world.tables.rows.remove(&table) {
            Some(_) => Code::Ok as i32,
            None => Code::NoProc as i32,
        }
    })
}
