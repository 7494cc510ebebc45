//! The code that the pass adds: the checks inside guest functions, and whole
//! helper functions for everything longer.

use exuvia_abi::{Code, SUSPEND, receive, wasi};
use wasm_encoder::{BlockType, Function, InstructionSink, ValType};

use crate::plan::Added;
use crate::{
    BULK_CHUNK, BYTES_PER_REDUCTION, ENTRIES_PER_REDUCTION, GROW_COST, MAIL_UNKNOWN, SLICE,
    SLOT_WAIT, SLOT_WASI_BEGIN, SLOT_WASI_END, SLOT_YIELD, THROW_COST,
};

/// Indices in the output of the items that the added code uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indices {
    /// The global of the reduction counter.
    pub(crate) reductions: u32,
    /// The global of the known message count, [`crate::EXPORT_MAIL`].
    pub(crate) mail: u32,
    /// The table of host functions.
    pub(crate) host: u32,
    /// The type `() -> ()`.
    pub(crate) plain: u32,
    /// The types of the functions that are called before and after a WASI
    /// function, if the module uses WASI.
    pub(crate) around: Option<(u32, u32)>,
    /// [`Added::Yield`].
    pub(crate) yield_function: u32,
}

/// Returns the name of an added function for backtraces.
pub(crate) fn name(added: Added, import: Option<&str>) -> String {
    match (added, import) {
        (Added::Yield, _) => "exuvia yield".to_owned(),
        (Added::Blocking(_) | Added::Receive(_), Some(import)) => format!("exuvia {import}"),
        (Added::Blocking(index) | Added::Receive(index), None) => format!("exuvia import {index}"),
        (Added::Wasi { number, .. }, _) => {
            let function = wasi::FUNCTIONS.get(number as usize);
            format!(
                "exuvia {}",
                function.map_or("wasi", |function| function.name)
            )
        }
        (Added::Fill, _) => "exuvia memory.fill".to_owned(),
        (Added::Copy, _) => "exuvia memory.copy".to_owned(),
        (Added::Grow, _) => "exuvia memory.grow".to_owned(),
        (
            Added::ChargeBytes | Added::ChargeEntries | Added::ChargeGrown | Added::ChargeThrow,
            _,
        ) => "exuvia charge".to_owned(),
        (Added::Enter(_), _) => "exuvia enter".to_owned(),
    }
}

/// Returns the parameters and results of an added function. `None`: it is a shim,
/// which has the type of its import.
pub(crate) fn signature(added: Added) -> Option<(&'static [ValType], &'static [ValType])> {
    const I32: ValType = ValType::I32;
    match added {
        Added::Yield | Added::ChargeThrow => Some((&[], &[])),
        Added::Enter(_) => Some((&[I32], &[I32, I32])),
        Added::Blocking(_) | Added::Receive(_) | Added::Wasi { .. } => None,
        Added::Fill | Added::Copy => Some((&[I32, I32, I32], &[])),
        Added::Grow | Added::ChargeGrown | Added::ChargeBytes | Added::ChargeEntries => {
            Some((&[I32], &[I32]))
        }
    }
}

/// Writes the general check, which works everywhere: it charges one reduction and
/// yields below zero. Returns the position of its `if` in `sink`.
///
/// The counter is read again after the write: Cranelift forwards the stored
/// value, and no local is needed.
pub(crate) fn check(sink: &mut Vec<u8>, at: Indices) -> usize {
    let mut code = InstructionSink::new(sink);
    code.global_get(at.reductions).i32_const(1);
    spend(&mut code, at);
    yield_if_negative(sink, at, None)
}

/// Writes the load of the local on which the check of a loop without calls works.
pub(crate) fn preload(sink: &mut Vec<u8>, at: Indices, counter: u32) {
    InstructionSink::new(sink)
        .global_get(at.reductions)
        .local_set(counter);
}

/// Writes the check at the head of a loop in which nothing else changes the
/// counter. Returns the position of its `if` in `sink`.
///
/// Each iteration stores the global but never reads it, so that it does not wait
/// for the store of the previous iteration.
pub(crate) fn cached_check(sink: &mut Vec<u8>, at: Indices, counter: u32) -> usize {
    InstructionSink::new(sink)
        .local_get(counter)
        .i32_const(1)
        .i32_sub()
        .local_tee(counter)
        .global_set(at.reductions)
        .local_get(counter);
    yield_if_negative(sink, at, Some(counter))
}

/// Subtracts the amount on the stack from the counter's value below it, stores the
/// difference and leaves it on the stack.
fn spend(code: &mut InstructionSink<'_>, at: Indices) {
    code.i32_sub()
        .global_set(at.reductions)
        .global_get(at.reductions);
}

/// Yields if the value on the stack is negative, and then reloads the local
/// `counter` if there is one. Returns the position of the `if` in `sink`.
fn yield_if_negative(sink: &mut Vec<u8>, at: Indices, counter: Option<u32>) -> usize {
    InstructionSink::new(sink).i32_const(0).i32_lt_s();
    let position = sink.len();
    let mut code = InstructionSink::new(sink);
    code.if_(BlockType::Empty).call(at.yield_function);
    if let Some(counter) = counter {
        code.global_get(at.reductions).local_set(counter);
    }
    code.end();
    position
}

/// Charges `local / unit` reductions and yields below zero. `unit` is a power of two.
fn charge(code: &mut InstructionSink<'_>, at: Indices, local: u32, unit: u32) {
    code.global_get(at.reductions)
        .local_get(local)
        .i32_const(unit.trailing_zeros() as i32)
        .i32_shr_u();
    spend(code, at);
    finish_charge(code, at);
}

/// Charges the cost of one chunk and yields below zero.
fn charge_chunk(code: &mut InstructionSink<'_>, at: Indices) {
    code.global_get(at.reductions)
        .i32_const((BULK_CHUNK / BYTES_PER_REDUCTION) as i32);
    spend(code, at);
    finish_charge(code, at);
}

fn finish_charge(code: &mut InstructionSink<'_>, at: Indices) {
    code.i32_const(0)
        .i32_lt_s()
        .if_(BlockType::Empty)
        .call(at.yield_function)
        .end();
}

/// Returns the body of an added function. `params` is the number of parameters.
pub(crate) fn body(added: Added, at: Indices, params: u32) -> Function {
    match added {
        Added::Yield => host_call(at),
        Added::Blocking(import) => blocking(import, at, params),
        Added::Receive(import) => receive(import, at),
        Added::Wasi {
            import,
            number,
            shown,
        } => around(import, number, shown, at, params),
        Added::Fill => fill(at),
        Added::Copy => copy(at),
        Added::Grow => grow(at),
        Added::ChargeGrown => charge_grown(at),
        Added::ChargeThrow => charge_throw(at),
        Added::ChargeBytes => pass_on(at, BYTES_PER_REDUCTION),
        Added::ChargeEntries => pass_on(at, ENTRIES_PER_REDUCTION),
        Added::Enter(run) => enter(run, at),
    }
}

/// Returns the function that enters `run` with a whole slice and the known message
/// count. If `run` returns with no reductions left, the function yields before it
/// returns: the process may have sent to a congested process and reached no check
/// since.
fn enter(run: u32, at: Indices) -> Function {
    let mut function = Function::new([]);
    function
        .instructions()
        .local_get(0)
        .global_set(at.mail)
        .i32_const(SLICE)
        .global_set(at.reductions)
        .call(run)
        .i32_const(MAIL_UNKNOWN)
        .global_set(at.mail)
        .global_get(at.reductions)
        .i32_const(0)
        .i32_le_s()
        .if_(BlockType::Empty)
        .call(at.yield_function)
        .end()
        .global_get(at.reductions)
        .end();
    function
}

fn host_call(at: Indices) -> Function {
    let mut function = Function::new([]);
    function
        .instructions()
        .i32_const(MAIL_UNKNOWN)
        .global_set(at.mail)
        .i32_const(SLOT_YIELD as i32)
        .call_indirect(at.host, at.plain)
        .end();
    function
}

fn pass_on(at: Indices, unit: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    charge(&mut code, at, 0, unit);
    code.local_get(0).end();
    function
}

/// Charges for an exception: the host makes it, and walks the stack for who catches it.
fn charge_throw(at: Indices) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.global_get(at.reductions).i32_const(THROW_COST as i32);
    spend(&mut code, at);
    finish_charge(&mut code, at);
    code.end();
    function
}

/// Charges for growing a table, which takes time even if it fails.
fn charge_grown(at: Indices) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.global_get(at.reductions)
        .local_get(0)
        .i32_const(ENTRIES_PER_REDUCTION.trailing_zeros() as i32)
        .i32_shr_u()
        .i32_const(GROW_COST as i32)
        .i32_add();
    spend(&mut code, at);
    finish_charge(&mut code, at);
    code.local_get(0).end();
    function
}

/// Grows the memory, and charges for it: a growth takes time even if it fails, and the host
/// clears the added pages.
fn grow(at: Indices) -> Function {
    const PAGE: u32 = 64 * 1024;
    let (pages, answer) = (0, 1);
    let mut function = Function::new([(1, ValType::I32)]);
    let mut code = function.instructions();
    code.global_get(at.reductions)
        .local_get(pages)
        .memory_grow(0)
        .local_tee(answer)
        .i32_const(-1)
        .i32_eq()
        .if_(BlockType::Result(ValType::I32))
        .i32_const(GROW_COST as i32)
        .else_()
        .local_get(pages)
        .i32_const((PAGE / BYTES_PER_REDUCTION) as i32)
        .i32_mul()
        .i32_const(GROW_COST as i32)
        .i32_add()
        .end();
    spend(&mut code, at);
    finish_charge(&mut code, at);
    code.local_get(answer).end();
    function
}

/// Calls the import with the same arguments until it returns something other
/// than [`SUSPEND`]. Between two calls the host's wait function runs.
fn blocking(import: u32, at: Indices, params: u32) -> Function {
    let answer = params;
    let mut function = Function::new([(1, ValType::I32)]);
    let mut code = function.instructions();
    code.loop_(BlockType::Empty);
    for param in 0..params {
        code.local_get(param);
    }
    code.call(import)
        .local_tee(answer)
        .i32_const(SUSPEND)
        .i32_ne()
        .if_(BlockType::Empty)
        .local_get(answer)
        .return_()
        .end();
    wait(&mut code, at);
    code.br(0).end().unreachable().end();
    function
}

/// Waits in the host. Afterwards the message count is unknown, since messages may
/// have arrived.
fn wait(code: &mut InstructionSink<'_>, at: Indices) {
    code.i32_const(MAIL_UNKNOWN)
        .global_set(at.mail)
        .i32_const(SLOT_WAIT as i32)
        .call_indirect(at.host, at.plain);
}

/// Does the same as [`blocking`] for `receive`: it also counts the messages taken,
/// and returns EMPTY without a host call if no message is left and the call takes
/// any message and does not wait.
fn receive(import: u32, at: Indices) -> Function {
    let params = 6;
    let (timeout, mode, answer) = (3, 4, params);
    let mut function = Function::new([(1, ValType::I32)]);
    let mut code = function.instructions();
    code.global_get(at.mail)
        .local_get(mode)
        .i32_const(receive::ANY)
        .i32_xor()
        .i32_or()
        .i32_eqz()
        .local_get(timeout)
        .i64_eqz()
        .i32_and()
        .if_(BlockType::Empty)
        .i32_const(Code::Empty as i32)
        .return_()
        .end();
    code.loop_(BlockType::Empty);
    for param in 0..params {
        code.local_get(param);
    }
    code.call(import)
        .local_tee(answer)
        .i32_eqz()
        .if_(BlockType::Empty)
        .global_get(at.mail)
        .i32_const(1)
        .i32_sub()
        .global_set(at.mail)
        .else_()
        .local_get(answer)
        .i32_const(SUSPEND)
        .i32_eq()
        .if_(BlockType::Empty);
    wait(&mut code, at);
    code.br(2).end().end().local_get(answer).return_();
    code.end().unreachable().end();
    function
}

/// The bits of an error number of WASI. The host answers a bit above them when it has performed a call
/// itself, without an error.
const ERRNO: i32 = 0xffff;

/// Calls a WASI function, and notifies the host before and after. An error other
/// than 0 from the first notification is returned in place of the call.
fn around(import: u32, number: u32, shown: [Option<u32>; 5], at: Indices, params: u32) -> Function {
    let answer = params;
    let mut function = Function::new([(1, ValType::I32)]);
    let mut code = function.instructions();
    let Some((before, after)) = at.around else {
        code.unreachable().end();
        return function;
    };
    code.i32_const(number as i32);
    for argument in shown {
        match argument {
            Some(at) => code.local_get(at),
            None => code.i32_const(-1),
        };
    }
    code.i32_const(SLOT_WASI_BEGIN as i32)
        .call_indirect(at.host, before)
        .local_tee(answer)
        .if_(BlockType::Empty)
        .local_get(answer)
        .i32_const(ERRNO)
        .i32_and()
        .return_()
        .end();
    for param in 0..params {
        code.local_get(param);
    }
    code.call(import)
        .i32_const(number as i32)
        .i32_const(SLOT_WASI_END as i32)
        .call_indirect(at.host, after)
        .end();
    function
}

/// Opens an `if` that runs when `size` is more than `limit`.
fn if_more(code: &mut InstructionSink<'_>, size: u32, limit: u32) {
    code.local_get(size)
        .i32_const(limit as i32)
        .i32_gt_u()
        .if_(BlockType::Empty);
}

/// Opens an `if` that runs when `size` bytes from the address on the stack lie in
/// memory. Otherwise one instruction performs the whole operation, and traps
/// before it has written anything.
fn if_in_bounds(code: &mut InstructionSink<'_>, size: u32) {
    code.i64_extend_i32_u()
        .local_get(size)
        .i64_extend_i32_u()
        .i64_add()
        .memory_size(0)
        .i64_extend_i32_u()
        .i64_const(16)
        .i64_shl()
        .i64_le_u()
        .if_(BlockType::Empty);
}

/// Adds `BULK_CHUNK` to a local, or subtracts it.
fn step(code: &mut InstructionSink<'_>, local: u32, up: bool) {
    code.local_get(local).i32_const(BULK_CHUNK as i32);
    if up {
        code.i32_add();
    } else {
        code.i32_sub();
    }
    code.local_set(local);
}

/// Ends a loop over chunks: charges, and repeats while more than one chunk is left.
fn next_chunk(code: &mut InstructionSink<'_>, at: Indices, size: u32) {
    charge_chunk(code, at);
    code.local_get(size)
        .i32_const(BULK_CHUNK as i32)
        .i32_gt_u()
        .br_if(0)
        .end();
}

fn fill(at: Indices) -> Function {
    let (to, value, size) = (0, 1, 2);
    let mut function = Function::new([]);
    let mut code = function.instructions();
    // Most operations are small and cost only this comparison.
    if_more(&mut code, size, BYTES_PER_REDUCTION - 1);
    if_more(&mut code, size, BULK_CHUNK);
    code.local_get(to);
    if_in_bounds(&mut code, size);
    code.loop_(BlockType::Empty)
        .local_get(to)
        .local_get(value)
        .i32_const(BULK_CHUNK as i32)
        .memory_fill(0);
    step(&mut code, to, true);
    step(&mut code, size, false);
    next_chunk(&mut code, at, size);
    code.end().end();
    charge(&mut code, at, size, BYTES_PER_REDUCTION);
    code.end()
        .local_get(to)
        .local_get(value)
        .local_get(size)
        .memory_fill(0)
        .end();
    function
}

/// Copies upwards if the target lies at or below the source, otherwise downwards,
/// so that no chunk overwrites bytes that a later chunk still reads.
fn copy(at: Indices) -> Function {
    let (to, from, size) = (0, 1, 2);
    let mut function = Function::new([]);
    let mut code = function.instructions();
    if_more(&mut code, size, BYTES_PER_REDUCTION - 1);
    if_more(&mut code, size, BULK_CHUNK);
    // The higher of the two addresses decides whether both ranges are in bounds.
    code.local_get(to)
        .local_get(from)
        .local_get(to)
        .local_get(from)
        .i32_gt_u()
        .select();
    if_in_bounds(&mut code, size);
    code.local_get(to)
        .local_get(from)
        .i32_le_u()
        .if_(BlockType::Empty);
    code.loop_(BlockType::Empty)
        .local_get(to)
        .local_get(from)
        .i32_const(BULK_CHUNK as i32)
        .memory_copy(0, 0);
    step(&mut code, to, true);
    step(&mut code, from, true);
    step(&mut code, size, false);
    next_chunk(&mut code, at, size);
    code.else_().loop_(BlockType::Empty);
    step(&mut code, size, false);
    code.local_get(to)
        .local_get(size)
        .i32_add()
        .local_get(from)
        .local_get(size)
        .i32_add()
        .i32_const(BULK_CHUNK as i32)
        .memory_copy(0, 0);
    next_chunk(&mut code, at, size);
    code.end().end().end();
    charge(&mut code, at, size, BYTES_PER_REDUCTION);
    code.end()
        .local_get(to)
        .local_get(from)
        .local_get(size)
        .memory_copy(0, 0)
        .end();
    function
}
