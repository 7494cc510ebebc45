//! Which imports get a shim: a function that is called in place of the import. Also the function
//! that enters `run`.

use exuvia_abi::{HostCall, MODULE, OPTIONAL_MODULE, exports, wasi};
use wasmparser::{TypeRef, ValType};

use crate::analyse;
use crate::error::InstrumentError;
use crate::parse::Parsed;
use crate::plan::{Added, Plan};

/// The host call with a specific shim, and the parameters that the shim expects. The
/// loader rejects a module that imports the call with other parameters.
const RECEIVE: &str = "receive";
const RECEIVE_PARAMS: [ValType; 6] = [
    ValType::I32,
    ValType::I32,
    ValType::I32,
    ValType::I64,
    ValType::I32,
    ValType::I64,
];

/// Adds a shim for each import that may return [`exuvia_abi::SUSPEND`], and for each
/// WASI import that returns.
pub(crate) fn find_shims(parsed: &Parsed<'_>, plan: &mut Plan) -> Result<(), InstrumentError> {
    let functions = parsed
        .imports
        .iter()
        .filter(|import| matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
    for (import, index) in functions.zip(0u32..) {
        let ty = parsed.function_type(index)?;
        let added = match import.module {
            MODULE | OPTIONAL_MODULE
                if HostCall::find(import.name).is_some_and(|call| call.blocks) =>
            {
                if import.name == RECEIVE && ty.params() == RECEIVE_PARAMS {
                    Added::Receive(index)
                } else {
                    Added::Blocking(index)
                }
            }
            wasi::MODULE => match wasi::find(import.name) {
                Some(number) if wasi::FUNCTIONS[number].act != wasi::Act::Ends => Added::Wasi {
                    import: index,
                    number: number as u32,
                    shown: shown(ty.params()),
                },
                _ => continue,
            },
            _ => continue,
        };
        if ty.results() != [ValType::I32] {
            return Err(InstrumentError::BlockingSignature {
                module: import.module.to_owned(),
                name: import.name.to_owned(),
                found: analyse::function_type(ty)?.to_string(),
            });
        }
        plan.shims
            .insert(index, plan.yield_function + plan.added.len() as u32);
        plan.added.push(added);
    }
    Ok(())
}

/// Returns the arguments that the host gets, see [`Added::Wasi`].
fn shown(params: &[ValType]) -> [Option<u32>; 5] {
    let last = params.len().checked_sub(1);
    [Some(0), Some(1), Some(2), Some(3), last].map(|at| {
        let at = at.filter(|at| params.get(*at) == Some(&ValType::I32))?;
        u32::try_from(at).ok()
    })
}

/// Adds the function that enters `run`. A wrong type of the export is reported by the
/// loader, not by this pass.
pub(crate) fn find_run(parsed: &Parsed<'_>, plan: &mut Plan) -> Result<(), InstrumentError> {
    let run = parsed.exports.iter().find(|export| {
        export.name == exports::RUN && export.kind == wasmparser::ExternalKind::Func
    });
    if let Some(run) = run {
        let ty = parsed.function_type(run.index)?;
        if ty.params().is_empty() && ty.results() == [ValType::I32] {
            plan.added.push(Added::Enter(plan.redirect(run.index)));
        }
    }
    Ok(())
}
