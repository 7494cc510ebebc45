//! What the compiler turns into the code that runs when a module is instantiated. It is one
//! function, of which the module has no code: each active data segment, each entry of most element
//! segments and each constant expression that is more than a constant becomes a part of it.

use wasmparser::{ConstExpr, ElementItems, ElementKind, Operator, OperatorsReader, TableInit};

use crate::data::Merged;
use crate::error::InstrumentError;
use crate::parse::{Parsed, internal};

/// Returns the size of that function in steps: copies of segments, entries that are set, and
/// operators of constant expressions.
pub(crate) fn steps(parsed: &Parsed<'_>, data: &Merged<'_>) -> Result<u64, InstrumentError> {
    let mut steps = data.copied() as u64;
    for segment in &parsed.data {
        if let wasmparser::DataKind::Active { offset_expr, .. } = &segment.kind {
            steps += operators(offset_expr)?;
        }
    }
    for global in &parsed.globals {
        steps += operators(&global.init_expr)?;
    }
    for table in &parsed.tables {
        if let TableInit::Expr(expression) = &table.init {
            steps += operators(expression)?;
        }
    }
    for element in &parsed.elements {
        let offset = match &element.kind {
            ElementKind::Active { offset_expr, .. } => operators(offset_expr)?,
            ElementKind::Passive => 0,
            ElementKind::Declared => continue,
        };
        steps += offset;
        match &element.items {
            // Plain functions at a constant place are no code.
            ElementItems::Functions(functions) => {
                let passive = matches!(element.kind, ElementKind::Passive);
                if passive || offset > 0 {
                    steps += u64::from(functions.count());
                }
            }
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions.clone() {
                    steps += 1 + operators(&expression.map_err(internal)?)?;
                }
            }
        }
    }
    Ok(steps)
}

/// Returns the number of operators of an expression, without its end; 0 for a single constant,
/// which the compiler evaluates itself.
fn operators(expression: &ConstExpr<'_>) -> Result<u64, InstrumentError> {
    let mut reader: OperatorsReader<'_> = expression.get_operators_reader();
    let mut count = 0;
    let mut plain = true;
    loop {
        match reader.read().map_err(internal)? {
            Operator::End => break,
            Operator::I32Const { .. }
            | Operator::I64Const { .. }
            | Operator::F32Const { .. }
            | Operator::F64Const { .. }
            | Operator::V128Const { .. }
            | Operator::RefNull { .. } => {}
            _ => plain = false,
        }
        count += 1;
    }
    Ok(if plain && count == 1 { 0 } else { count })
}
