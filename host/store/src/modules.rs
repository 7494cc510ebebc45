//! Modules by digest, each in parts: a page of the file is a power of two, so a large value would take up to twice its
//! length.

use std::collections::{HashMap, HashSet};

use exuvia_code::Digest;
use redb::{Error, ReadTransaction, ReadableTable, WriteTransaction};

use crate::file::{MODULES, PARTS};

/// Bytes of a part: with its key it fills a page of a quarter of a megabyte.
const PART: usize = (256 << 10) - 1024;

/// Memory that is taken at once for a module, whatever the file says of its length.
const LONGEST: usize = 64 << 20;

/// Writes a module, unless it is there.
pub(crate) fn write(
    transaction: &WriteTransaction,
    digest: Digest,
    bytes: &[u8],
) -> Result<(), Error> {
    let mut modules = transaction.open_table(MODULES)?;
    let mut parts = transaction.open_table(PARTS)?;
    let is_there = modules.insert(digest.0, bytes.len() as u64)?.is_some();
    // One that is damaged is written again.
    if is_there && is_equal(&parts, digest, bytes)? {
        return Ok(());
    }
    parts.retain_in(of(digest), |_, _| false)?;
    for (part, number) in bytes.chunks(PART).zip(0..) {
        parts.insert((digest.0, number), part)?;
    }
    Ok(())
}

type Key = ([u8; 32], u32);

/// The keys of a module's parts.
fn of(digest: Digest) -> std::ops::RangeInclusive<Key> {
    (digest.0, 0)..=(digest.0, u32::MAX)
}

fn is_equal(
    parts: &impl ReadableTable<Key, &'static [u8]>,
    digest: Digest,
    bytes: &[u8],
) -> Result<bool, Error> {
    let mut rest = bytes;
    for part in parts.range(of(digest))? {
        let part = part?.1;
        match rest.strip_prefix(part.value()) {
            Some(after) => rest = after,
            None => return Ok(false),
        }
    }
    Ok(rest.is_empty())
}

fn joined(
    parts: &impl ReadableTable<Key, &'static [u8]>,
    digest: Digest,
    length: u64,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0).min(LONGEST));
    for part in parts.range(of(digest))? {
        bytes.extend_from_slice(part?.1.value());
    }
    Ok(bytes)
}

/// Reads a module, if it is there; its parts may be damaged.
pub(crate) fn read(
    transaction: &ReadTransaction,
    digest: Digest,
) -> Result<Option<Vec<u8>>, Error> {
    let modules = transaction.open_table(MODULES)?;
    let Some(length) = modules.get(digest.0)?.map(|length| length.value()) else {
        return Ok(None);
    };
    let parts = transaction.open_table(PARTS)?;
    joined(&parts, digest, length).map(Some)
}

/// Returns the lengths of all modules.
pub(crate) fn sizes(
    modules: &impl ReadableTable<[u8; 32], u64>,
) -> Result<HashMap<Digest, u64>, Error> {
    let mut sizes = HashMap::new();
    for module in modules.iter()? {
        let (digest, length) = module?;
        sizes.insert(Digest(digest.value()), length.value());
    }
    Ok(sizes)
}

/// Returns one of these modules that is not there, if there is one.
pub(crate) fn missing<'a>(
    modules: &impl ReadableTable<[u8; 32], u64>,
    digests: impl Iterator<Item = &'a Digest>,
) -> Result<Option<Digest>, Error> {
    for digest in digests {
        if modules.get(digest.0)?.is_none() {
            return Ok(Some(*digest));
        }
    }
    Ok(None)
}

/// Removes all modules but these.
pub(crate) fn keep(transaction: &WriteTransaction, used: &HashSet<Digest>) -> Result<(), Error> {
    let mut modules = transaction.open_table(MODULES)?;
    let mut unused = Vec::new();
    for module in modules.iter()? {
        let digest = module?.0.value();
        if !used.contains(&Digest(digest)) {
            unused.push(digest);
        }
    }
    let mut parts = transaction.open_table(PARTS)?;
    for digest in unused {
        modules.remove(digest)?;
        parts.retain_in(of(Digest(digest)), |_, _| false)?;
    }
    Ok(())
}
