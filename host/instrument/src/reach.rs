//! Which functions can run after the start function has ended. What only start does need not be
//! possible in a frame that serves several processes.

use crate::analyse::{self, Constant};
use crate::error::InstrumentError;
use crate::parse::Parsed;

/// Returns, for each function, whether it may run after start has ended: all that can
/// be reached from an export, an element segment or a global. A function that takes a
/// reference to another counts as its caller. The start section itself is no root,
/// since it runs once.
pub(crate) fn reachable(
    parsed: &Parsed<'_>,
    edges: &[Vec<u32>],
) -> Result<Vec<bool>, InstrumentError> {
    let mut later = vec![false; parsed.functions.len()];
    let mut work: Vec<u32> = Vec::new();
    for export in &parsed.exports {
        if matches!(
            export.kind,
            wasmparser::ExternalKind::Func | wasmparser::ExternalKind::FuncExact
        ) {
            work.push(export.index);
        }
    }
    for element in &parsed.elements {
        analyse::element_functions(element, |_, item| {
            if let Constant::Function(function) = item {
                work.push(function);
            }
        })?;
    }
    for global in &parsed.globals {
        work.extend(analyse::constant_functions(&global.init_expr)?);
    }
    while let Some(function) = work.pop() {
        let seen = &mut later[function as usize];
        if std::mem::replace(seen, true) {
            continue;
        }
        if let Some(body) = function.checked_sub(parsed.imported_functions) {
            work.extend(&edges[body as usize]);
        }
    }
    Ok(later)
}
