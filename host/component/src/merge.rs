//! Rewrites the indices of one core module to those of the merged one.

use wasm_encoder::reencode::{Error, Reencode};
use wasmparser::{ConstExpr, Operator};

use crate::ComponentError;
use crate::module::Module;

/// A constant number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    I32(i32),
    I64(i64),
}

/// One core module that is merged, and where its items are in the merged module. The vectors are by its own indices.
#[derive(Default)]
pub(crate) struct Part<'a> {
    pub(crate) module: Module<'a>,
    pub(crate) functions: Vec<u32>,
    pub(crate) tables: Vec<u32>,
    pub(crate) globals: Vec<u32>,
    pub(crate) tags: Vec<u32>,
    /// The merged index of its first type, element segment and data segment.
    pub(crate) types: u32,
    pub(crate) elements: u32,
    pub(crate) data: u32,
}

/// A part's indices, and the values of those merged globals that are constant.
pub(crate) struct Indices<'a> {
    pub(crate) part: &'a Part<'a>,
    pub(crate) constants: &'a [Option<Number>],
    /// The merged functions that are named by `ref.func`.
    pub(crate) referenced: Vec<u32>,
}

impl Indices<'_> {
    /// The number that an expression is, if it is one that needs nothing but constant globals: an offset of a segment
    /// may be `__memory_base` and a number, and what was a global of another module is none that may be named there.
    pub(crate) fn number(&self, expression: &ConstExpr<'_>) -> Option<Number> {
        let mut stack = Vec::new();
        for operator in expression.get_operators_reader() {
            let next = match operator.ok()? {
                Operator::I32Const { value } => Number::I32(value),
                Operator::I64Const { value } => Number::I64(value),
                Operator::GlobalGet { global_index } => {
                    let merged = self.part.globals.get(global_index as usize)?;
                    (*self.constants.get(*merged as usize)?)?
                }
                Operator::I32Add => match (stack.pop()?, stack.pop()?) {
                    (Number::I32(b), Number::I32(a)) => Number::I32(a.wrapping_add(b)),
                    _ => return None,
                },
                Operator::I32Sub => match (stack.pop()?, stack.pop()?) {
                    (Number::I32(b), Number::I32(a)) => Number::I32(a.wrapping_sub(b)),
                    _ => return None,
                },
                Operator::I32Mul => match (stack.pop()?, stack.pop()?) {
                    (Number::I32(b), Number::I32(a)) => Number::I32(a.wrapping_mul(b)),
                    _ => return None,
                },
                Operator::End => return stack.pop(),
                _ => return None,
            };
            stack.push(next);
        }
        None
    }
}

fn merged(map: &[u32], index: u32) -> Result<u32, Error<ComponentError>> {
    let found = map.get(index as usize).copied();
    found.ok_or_else(|| {
        let text = format!("no definition with the index {index}");
        Error::UserError(ComponentError::Invalid(text))
    })
}

impl Reencode for Indices<'_> {
    type Error = ComponentError;

    fn type_index(&mut self, index: u32) -> Result<u32, Error<ComponentError>> {
        Ok(self.part.types + index)
    }
    fn function_index(&mut self, index: u32) -> Result<u32, Error<ComponentError>> {
        merged(&self.part.functions, index)
    }
    fn table_index(&mut self, index: u32) -> Result<u32, Error<ComponentError>> {
        merged(&self.part.tables, index)
    }
    fn memory_index(&mut self, _: u32) -> Result<u32, Error<ComponentError>> {
        Ok(0)
    }
    fn global_index(&mut self, index: u32) -> Result<u32, Error<ComponentError>> {
        merged(&self.part.globals, index)
    }
    fn tag_index(&mut self, index: u32) -> Result<u32, Error<ComponentError>> {
        merged(&self.part.tags, index)
    }
    fn element_index(&mut self, index: u32) -> Result<u32, Error<ComponentError>> {
        Ok(self.part.elements + index)
    }
    fn data_index(&mut self, index: u32) -> Result<u32, Error<ComponentError>> {
        Ok(self.part.data + index)
    }
    fn instruction<'b>(
        &mut self,
        operator: Operator<'b>,
    ) -> Result<wasm_encoder::Instruction<'b>, Error<ComponentError>> {
        if let Operator::RefFunc { function_index } = operator {
            let function = self.function_index(function_index)?;
            self.referenced.push(function);
        }
        wasm_encoder::reencode::utils::instruction(self, operator)
    }
    fn const_expr(
        &mut self,
        expression: ConstExpr<'_>,
    ) -> Result<wasm_encoder::ConstExpr, Error<ComponentError>> {
        match self.number(&expression) {
            Some(Number::I32(number)) => Ok(wasm_encoder::ConstExpr::i32_const(number)),
            Some(Number::I64(number)) => Ok(wasm_encoder::ConstExpr::i64_const(number)),
            None => wasm_encoder::reencode::utils::const_expr(self, expression),
        }
    }
}

impl From<Error<ComponentError>> for ComponentError {
    fn from(error: Error<ComponentError>) -> ComponentError {
        match error {
            Error::UserError(error) => error,
            other => ComponentError::Invalid(other.to_string()),
        }
    }
}
