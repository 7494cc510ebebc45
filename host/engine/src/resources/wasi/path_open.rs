//! `path_open` of WASI, which refuses pipes. Opening a pipe waits for its other end, possibly for
//! ever, and would occupy one of the threads that all processes share for their files.
//!
//! So the file at the path is examined first, which costs two more round trips to such a thread. A
//! guest cannot create a pipe, so it cannot put one there in between.

use exuvia_abi::wasi::{MODULE, errno};
use wasmtime::{AsContextMut as _, Caller, Linker};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as functions, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

use super::Wasi;
use crate::host_calls::view::memory;
use crate::instance::store::FrameData;

/// The function's parameters.
type Arguments = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

/// Flags of an `open` that cannot wait for the other end of a pipe: a folder, and a new file.
const FOLDER: i32 = 1 << 1;
const EXCLUSIVE: i32 = 1 << 2;

/// Size in bytes of a `filestat`, and the offset of the type in it.
const STAT: usize = 64;
const STAT_TYPE: usize = 16;
/// The type of files that have no number of their own. Of those that can be in a folder, only pipes
/// have this type.
const UNKNOWN: u8 = 0;

/// Replaces the linked function of that name.
pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "path_open", |caller, arguments: Arguments| {
        Box::new(open(caller, arguments))
    })?;
    Ok(())
}

async fn open(mut caller: Caller<'_, FrameData>, arguments: Arguments) -> wasmtime::Result<i32> {
    let (folder, follow, path, length, how, base, inheriting, flags, result) = arguments;
    let memory = memory(&caller)?;
    // The limit on copied bytes; each call starts with the full amount.
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (memory, data) = memory.data_and_store_mut(&mut caller);
    let context = Wasi::context(data);
    context.set_hostcall_fuel(fuel);
    if how & (FOLDER | EXCLUSIVE) == 0
        && let Some(path) = part(memory, path, length)
        && is_pipe(context, folder, follow, path).await
    {
        return Ok(errno::NOTSUP);
    }
    context.set_hostcall_fuel(fuel);
    let mut memory = GuestMemory::Unshared(memory);
    let opened = functions::path_open(
        context,
        &mut memory,
        folder,
        follow,
        path,
        length,
        how,
        base,
        inheriting,
        flags,
        result,
    );
    opened.await
}

fn part(memory: &[u8], at: i32, length: i32) -> Option<Vec<u8>> {
    let (at, length) = (at.cast_unsigned() as usize, length.cast_unsigned() as usize);
    Some(memory.get(at..at.checked_add(length)?)?.to_vec())
}

/// Returns whether the file at a path is a pipe. Uses a scratch memory for the arguments and the
/// result.
async fn is_pipe(context: &mut WasiP1Ctx, folder: i32, follow: i32, path: Vec<u8>) -> bool {
    let Ok(length) = i32::try_from(path.len()) else {
        return false;
    };
    let mut memory = vec![0; STAT];
    memory.extend(path);
    let mut scratch = GuestMemory::Unshared(&mut memory);
    let asked = functions::path_filestat_get(
        context,
        &mut scratch,
        folder,
        follow,
        STAT as i32,
        length,
        0,
    );
    // The call fails for a socket, which cannot be opened anyway.
    asked.await.is_ok_and(|error| error == 0) && memory[STAT_TYPE] == UNKNOWN
}
