//! What a function of WASI costs, and what of it is more than one call does.

use exuvia_abi::wasi::{Function, PARTS, RANDOM};
use wasmtime::Caller;

use crate::host_calls::view::memory;
use crate::instance::store::FrameData;

/// Reductions for each call, beside what the guest pays for the instruction.
const COST: u32 = 4;

/// Returns what a function costs beside the call itself, in reductions, given what it has to copy
/// and do. Returns `None` if the guest asks for more than one call does.
pub(super) fn price(
    caller: &mut Caller<'_, FrameData>,
    function: &Function,
    [_, second, third, ..]: [u32; 5],
) -> wasmtime::Result<Option<u32>> {
    let price = match function.name {
        // On a slow machine, about as many as the guest would use in that time.
        "random_get" if second > RANDOM => return Ok(None),
        "random_get" => second / 64,
        "poll_oneoff" if third > PARTS => return Ok(None),
        "poll_oneoff" => third.saturating_mul(4),
        "fd_read" | "fd_pread" | "fd_write" | "fd_pwrite" => {
            if third > PARTS {
                return Ok(None);
            }
            let memory = memory(caller)?;
            let parts = parts(memory.data(&*caller), second, third);
            u32::try_from(parts / 256).unwrap_or(u32::MAX)
        }
        _ => 0,
    };
    Ok(Some(price.saturating_add(COST)))
}

/// Returns the lengths of the paths that a function is given, in bytes.
pub(super) fn paths(
    function: &Function,
    [_, second, third, fourth, last]: [u32; 5],
) -> impl Iterator<Item = u32> {
    let lengths = match function.name {
        "path_open" | "path_filestat_get" | "path_filestat_set_times" => [fourth, 0],
        "path_create_directory"
        | "path_readlink"
        | "path_remove_directory"
        | "path_unlink_file" => [third, 0],
        "path_link" => [fourth, last],
        "path_rename" => [third, last],
        "path_symlink" => [second, last],
        _ => [0, 0],
    };
    lengths.into_iter()
}

/// Returns the size in bytes of the first non-empty part of a read or write: the functions use no
/// other.
fn parts(memory: &[u8], at: u32, count: u32) -> u64 {
    let parts = memory.get(at as usize..).unwrap_or_default();
    let lengths = parts.as_chunks::<8>().0.iter().take(count as usize);
    lengths
        .map(|part| u64::from(u32::from_le_bytes([part[4], part[5], part[6], part[7]])))
        .find(|length| *length > 0)
        .unwrap_or(0)
}
