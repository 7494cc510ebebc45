//! Formats why guest code failed: the guest's last error line, the trap, and the Wasm
//! backtrace with the names and offsets of the original module.

use std::fmt::Write;

use exuvia_abi::Reason;
use exuvia_process::ExitReason;
use wasmtime::{GcHeapOutOfMemory, ThrownException, Trap, WasmBacktrace};

use crate::instance::linear_memory::EXCEPTIONS;
use crate::instance::store::Denied;
use crate::module::info::Plan;

/// The number of backtrace frames that are kept.
const FRAMES: usize = 32;

/// Returns the exit reason for a trap.
pub(crate) fn reason(
    error: &wasmtime::Error,
    plan: &Plan,
    said: Option<String>,
    denied: Denied,
) -> ExitReason {
    let why = match denied {
        Denied::No => return ExitReason::with(Reason::TRAP.0, text(error, plan, said).as_bytes()),
        Denied::Limit => "memory could not grow: the process's memory limit is reached",
        Denied::System => "memory could not grow: the system is out of memory",
    };
    let said = match said {
        Some(said) => format!("{why}; {said}"),
        None => why.into(),
    };
    ExitReason::with(Reason::MEMORY.0, text(error, plan, Some(said)).as_bytes())
}

/// Returns one line that says what happened, then the frames, innermost first.
pub(crate) fn text(error: &wasmtime::Error, plan: &Plan, said: Option<String>) -> String {
    let cause = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None if error.is::<ThrownException>() => "an exception that nothing has caught".to_owned(),
        // One half of the heap is in use at a time.
        None if error.is::<GcHeapOutOfMemory<()>>() => format!(
            "more exceptions at once than fit into {} KiB",
            EXCEPTIONS >> 11
        ),
        None => error.root_cause().to_string(),
    };
    let mut text = match said {
        Some(said) => format!("{said} ({cause})"),
        None => cause,
    };
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return text;
    };
    let analysis = &plan.analysis;
    for frame in backtrace
        .frames()
        .iter()
        .filter(|frame| frame.func_index() < analysis.first_added_function)
        .take(FRAMES)
    {
        let offset = frame
            .module_offset()
            .and_then(|offset| u32::try_from(offset).ok())
            .and_then(|offset| analysis.offsets.original(offset));
        let name = match frame.func_name() {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", frame.func_index()),
        };
        let _ = write!(text, "\n    at {name}");
        let lines = plan.lines.as_ref().zip(offset);
        if let Some(line) = lines.and_then(|(lines, offset)| lines.find(offset)) {
            let _ = write!(text, " {line}");
        }
        if let Some(offset) = offset {
            let _ = write!(text, " ({offset:#x})");
        }
    }
    text
}
