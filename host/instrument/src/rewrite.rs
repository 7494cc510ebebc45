//! Rewrites one function body: copies the operators, applies the edits, and
//! records where each part of the output comes from.

use wasm_encoder::{Encode, InstructionSink, ValType};
use wasmparser::{BinaryReader, FunctionBody};

use crate::helpers::{self, Indices};
use crate::offsets::Run;
use crate::plan::{BodyPlan, Edit, What};

/// A rewritten body.
#[derive(Debug, Default)]
pub(crate) struct NewBody {
    /// Locals and code, without the length.
    pub(crate) bytes: Vec<u8>,
    /// Mapping to the input. [`Run::output`] counts from the start of `bytes`.
    pub(crate) runs: Vec<Run>,
    /// Offsets in `bytes` of the branches that are rarely taken.
    pub(crate) rare: Vec<u32>,
}

/// Rewrites `body`, which is part of the module `wasm`.
pub(crate) fn rewrite(
    wasm: &[u8],
    body: &FunctionBody<'_>,
    plan: &BodyPlan,
    at: Indices,
) -> wasmparser::Result<NewBody> {
    let range = body.range();
    let mut new = NewBody::default();
    new.bytes.reserve(range.len() + range.len() / 2 + 16);
    write_locals(wasm, body, plan, &mut new.bytes)?;
    new.runs.push(Run {
        output: new.bytes.len() as u32,
        input: plan.code,
        inserted: 0,
    });
    let mut copied = plan.code as usize;
    for edit in &plan.edits {
        new.bytes.extend(&wasm[copied..edit.at as usize]);
        copied = edit.at as usize;
        let start = new.bytes.len();
        apply(edit, plan, at, &mut new);
        if new.bytes.len() == start {
            continue;
        }
        copied = edit.end as usize;
        note(edit, start as u32, &mut new);
    }
    new.bytes.extend(&wasm[copied..range.end]);
    Ok(new)
}

/// Copies the declarations of locals, and appends the local for the counter.
fn write_locals(
    wasm: &[u8],
    body: &FunctionBody<'_>,
    plan: &BodyPlan,
    bytes: &mut Vec<u8>,
) -> wasmparser::Result<()> {
    let declarations = &wasm[body.range().start..plan.code as usize];
    if plan.counter.is_none() {
        bytes.extend(declarations);
        return Ok(());
    }
    let mut reader = BinaryReader::new(declarations, 0);
    let groups = reader.read_var_u32()?;
    (groups + 1).encode(bytes);
    bytes.extend(&declarations[reader.current_position()..]);
    1u32.encode(bytes);
    ValType::I32.encode(bytes);
    Ok(())
}

/// Writes the new code of one edit. Writes nothing for a preload that the loop does
/// not need.
fn apply(edit: &Edit, plan: &BodyPlan, at: Indices, new: &mut NewBody) {
    let sink = &mut new.bytes;
    let branch = match (edit.what, plan.counter) {
        (What::Entry, _) => Some(helpers::check(sink, at)),
        (What::Preload(number), counter) => {
            if let Some(counter) = counter
                && plan.is_preloaded(number)
            {
                helpers::preload(sink, at, counter);
            }
            None
        }
        (What::LoopHead(number), Some(counter)) if plan.is_cached(number) => {
            Some(helpers::cached_check(sink, at, counter))
        }
        (What::LoopHead(_), _) => Some(helpers::check(sink, at)),
        (What::Call(function), _) => {
            InstructionSink::new(sink).call(function);
            None
        }
        (What::ReturnCall(function), _) => {
            InstructionSink::new(sink).return_call(function);
            None
        }
        (What::RefFunc(function), _) => {
            InstructionSink::new(sink).ref_func(function);
            None
        }
    };
    new.rare.extend(branch.map(|branch| branch as u32));
}

/// Records what the bytes from `start` on represent.
fn note(edit: &Edit, start: u32, new: &mut NewBody) {
    let inserted = new.bytes.len() as u32 - start;
    let replaced = edit.end - edit.at;
    if inserted == replaced {
        // The offsets of the following bytes do not shift.
        return;
    }
    new.runs.push(Run {
        output: start,
        input: edit.at,
        inserted,
    });
    if replaced > 0 {
        new.runs.push(Run {
            output: start + inserted,
            input: edit.end,
            inserted: 0,
        });
    }
}
