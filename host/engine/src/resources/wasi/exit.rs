//! `proc_exit` of WASI, which ends a process as the host call `exit` does.

use exuvia_abi::Reason;
use exuvia_abi::wasi::MODULE;
use exuvia_process::ExitReason;
use exuvia_process::call::Ending;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::I32Exit;

use crate::instance::store::{FrameData, Mode, ProcessEnds};

/// WASI knows the statuses below this one.
const STATUSES: i32 = 126;

/// Replaces the linked function of that name, which no shim surrounds.
pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "proc_exit", exit)?;
    Ok(())
}

fn exit(mut caller: Caller<'_, FrameData>, status: i32) -> wasmtime::Result<()> {
    if !(0..STATUSES).contains(&status) {
        let text = format!("exit with invalid exit status outside of [0..{STATUSES})");
        return Err(wasmtime::Error::msg(text));
    }
    let data = caller.data_mut();
    if let Mode::Restricted(_) = data.mode {
        return Err(wasmtime::Error::new(I32Exit(status)));
    }
    data.exit = Some(Ending::Itself(reason(status)));
    Err(wasmtime::Error::new(ProcessEnds))
}

/// Returns the exit reason of a process that exits with this status.
fn reason(status: i32) -> ExitReason {
    match status {
        0 => ExitReason::new(Reason::NORMAL),
        _ => {
            let text = format!("it exited with the status {status}");
            ExitReason::with(Reason::GUEST + status, text.as_bytes())
        }
    }
}
