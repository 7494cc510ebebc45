//! Collects the report on a module: everything in [`Instrumented`] besides the
//! output itself.

use std::collections::BTreeMap;

use exuvia_abi::exports;
use wasmparser::{
    ConstExpr, DataKind, Element, ElementItems, ElementKind, ExternalKind, FuncType, Operator,
    RefType, TypeRef, ValType,
};

use crate::MAX_DEBUG_BYTES;
use crate::emit::Output;
use crate::error::InstrumentError;
use crate::parse::{Parsed, internal};
use crate::plan::{Fact, Plan};
use crate::report::{
    DebugInfo, ExportInfo, ExternType, FunctionType, ImportInfo, Instrumented, MemoryInfo,
    MutableGlobal, StackPointer, TableInfo, TableSlot, ValueType,
};

/// The most reasons that are listed one by one; the rest are counted.
const MAX_REASONS: usize = 8;

pub(crate) fn report(
    parsed: &Parsed<'_>,
    plan: &Plan,
    output: Output,
) -> Result<Instrumented, InstrumentError> {
    let mut mutable_globals = Vec::new();
    for (index, export) in &output.global_exports {
        mutable_globals.push(MutableGlobal {
            index: *index,
            export: export.clone(),
            value: value_type(parsed.global_types[*index as usize].content_type)?,
        });
    }
    let tables = tables(parsed, plan)?;
    let layout = parsed
        .customs
        .iter()
        .find(|custom| custom.name == exports::LAYOUT_SECTION);
    let memory = parsed.memories.first().map(|(ty, imported)| MemoryInfo {
        minimum: ty.initial,
        maximum: ty.maximum,
        imported: *imported,
    });
    Ok(Instrumented {
        stack_pointer: stack_pointer(parsed, &mutable_globals)?,
        has_names: !parsed.function_names.is_empty(),
        debug: debug_info(parsed),
        resident_only: resident_only(parsed, plan, &tables, &mutable_globals),
        only_in_start: describe(parsed, &plan.start_facts).collect(),
        first_added_function: parsed.functions.len() as u32,
        mutable_globals,
        tables,
        memory,
        imports: imports(parsed)?,
        exports: exports(parsed)?,
        start: parsed.start,
        data_digest: data_digest(parsed),
        globals_digest: globals_digest(parsed)?,
        table_slots: table_slots(parsed)?,
        layout: layout.map(|custom| custom.data.to_vec()),
        protocol: section(parsed, exports::PROTOCOL_SECTION),
        state: section(parsed, exports::STATE_SECTION),
        abi: abi(parsed)?,
        wasm: output.wasm,
        contents: output.contents,
        code_bytes: output.code_bytes,
        offsets: output.offsets,
    })
}

fn value_type(ty: ValType) -> Result<ValueType, InstrumentError> {
    Ok(match ty {
        ValType::I32 => ValueType::I32,
        ValType::I64 => ValueType::I64,
        ValType::F32 => ValueType::F32,
        ValType::F64 => ValueType::F64,
        ValType::V128 => ValueType::V128,
        ValType::Ref(RefType::FUNCREF) => ValueType::FuncRef,
        ValType::Ref(other) => return Err(internal(format!("the reference type {other}"))),
    })
}

pub(crate) fn function_type(ty: &FuncType) -> Result<FunctionType, InstrumentError> {
    let convert = |types: &[ValType]| -> Result<Vec<ValueType>, InstrumentError> {
        types.iter().map(|ty| value_type(*ty)).collect()
    };
    Ok(FunctionType {
        params: convert(ty.params())?,
        results: convert(ty.results())?,
    })
}

/// The value of a constant expression of one operator, as nearly all of them are.
pub(crate) enum Constant {
    I32(i32),
    Function(u32),
    Null,
    /// A longer expression, or one that depends on an import.
    Other,
}

fn constant(expression: &ConstExpr<'_>) -> Result<Constant, InstrumentError> {
    let mut reader = expression.get_operators_reader();
    let value = match reader.read().map_err(internal)? {
        Operator::I32Const { value } => Constant::I32(value),
        Operator::RefFunc { function_index } => Constant::Function(function_index),
        Operator::RefNull { .. } => Constant::Null,
        _ => Constant::Other,
    };
    let ends = matches!(reader.read().map_err(internal)?, Operator::End);
    Ok(if ends { value } else { Constant::Other })
}

/// Returns the functions that a constant expression refers to.
pub(crate) fn constant_functions(expression: &ConstExpr<'_>) -> Result<Vec<u32>, InstrumentError> {
    let mut found = Vec::new();
    for operator in expression.get_operators_reader() {
        if let Operator::RefFunc { function_index } = operator.map_err(internal)? {
            found.push(function_index);
        }
    }
    Ok(found)
}

/// Calls `each` with the position and value of every item of an element segment.
pub(crate) fn element_functions(
    element: &Element<'_>,
    mut each: impl FnMut(u32, Constant),
) -> Result<(), InstrumentError> {
    match &element.items {
        ElementItems::Functions(functions) => {
            for (function, position) in functions.clone().into_iter().zip(0..) {
                each(position, Constant::Function(function.map_err(internal)?));
            }
        }
        ElementItems::Expressions(_, expressions) => {
            for (expression, position) in expressions.clone().into_iter().zip(0..) {
                each(position, constant(&expression.map_err(internal)?)?);
            }
        }
    }
    Ok(())
}

fn extern_type(parsed: &Parsed<'_>, ty: TypeRef) -> Result<ExternType, InstrumentError> {
    Ok(match ty {
        TypeRef::Func(index) | TypeRef::FuncExact(index) => {
            let ty = parsed.types.get(index as usize);
            ExternType::Function(function_type(
                ty.ok_or_else(|| internal("an import without a type"))?,
            )?)
        }
        TypeRef::Table(ty) => ExternType::Table {
            minimum: ty.initial,
            maximum: ty.maximum,
        },
        TypeRef::Memory(ty) => ExternType::Memory {
            minimum: ty.initial,
            maximum: ty.maximum,
        },
        TypeRef::Global(ty) => ExternType::Global {
            value: value_type(ty.content_type)?,
            mutable: ty.mutable,
        },
        TypeRef::Tag(_) => return Err(internal("a tag")),
    })
}

/// Returns the contents of all custom sections of a name, one after the other, as far as they are
/// read.
fn section(parsed: &Parsed<'_>, name: &str) -> Vec<u8> {
    let customs = parsed.customs.iter().filter(|custom| custom.name == name);
    let contents = customs.flat_map(|custom| custom.data.iter().copied());
    contents.take(exports::SECTION_BYTES).collect()
}

fn imports(parsed: &Parsed<'_>) -> Result<Vec<ImportInfo>, InstrumentError> {
    let mut imports = Vec::with_capacity(parsed.imports.len());
    for import in &parsed.imports {
        imports.push(ImportInfo {
            module: import.module.to_owned(),
            name: import.name.to_owned(),
            ty: extern_type(parsed, import.ty)?,
        });
    }
    Ok(imports)
}

fn exports(parsed: &Parsed<'_>) -> Result<Vec<ExportInfo>, InstrumentError> {
    let mut exports = Vec::with_capacity(parsed.exports.len());
    // A tag means nothing to the host.
    let exported = parsed.exports.iter();
    for export in exported.filter(|export| export.kind != ExternalKind::Tag) {
        let index = export.index as usize;
        let ty = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                parsed.functions.get(index).map(|ty| TypeRef::Func(*ty))
            }
            ExternalKind::Table => parsed.table_types.get(index).map(|ty| TypeRef::Table(*ty)),
            ExternalKind::Memory => parsed.memories.get(index).map(|ty| TypeRef::Memory(ty.0)),
            ExternalKind::Global => parsed
                .global_types
                .get(index)
                .map(|ty| TypeRef::Global(*ty)),
            ExternalKind::Tag => None,
        };
        exports.push(ExportInfo {
            name: export.name.to_owned(),
            ty: extern_type(parsed, ty.ok_or_else(|| internal("an export of nothing"))?)?,
            index: export.index,
        });
    }
    Ok(exports)
}

fn tables(parsed: &Parsed<'_>, plan: &Plan) -> Result<Vec<TableInfo>, InstrumentError> {
    let mut tables = Vec::with_capacity(parsed.table_types.len());
    for (ty, index) in parsed.table_types.iter().zip(0u32..) {
        let imported = index < parsed.imported_tables;
        let mut facts = plan.facts.iter();
        let written = facts.any(|(.., fact)| matches!(fact, Fact::WritesTable(t) if *t == index));
        tables.push(TableInfo {
            index,
            export: (!imported).then(|| format!("exuvia:t{index}")),
            element: value_type(ValType::Ref(ty.element_type))?,
            minimum: ty.initial,
            maximum: ty.maximum,
            mutable: imported || written,
        });
    }
    Ok(tables)
}

/// Describes each fact: the function, what it does, and the offset.
fn describe(parsed: &Parsed<'_>, facts: &[(u32, u32, Fact)]) -> impl Iterator<Item = String> {
    facts.iter().map(|(function, offset, fact)| {
        let what = match fact {
            Fact::WritesTable(table) => format!("changes table {table}"),
            Fact::DropsData(segment) => format!("drops data segment {segment}"),
            Fact::DropsElements(segment) => format!("drops element segment {segment}"),
        };
        let function = parsed.function_name(*function);
        format!("{function} {what} (offset {offset:#x})")
    })
}

/// Returns the reasons, each with its location, why a frame of this module cannot be
/// reused for another process. Empty if it can.
fn resident_only(
    parsed: &Parsed<'_>,
    plan: &Plan,
    tables: &[TableInfo],
    globals: &[MutableGlobal],
) -> Vec<String> {
    let mut reasons = Vec::new();
    for table in tables.iter().filter(|table| table.export.is_none()) {
        reasons.push(format!("table {} is imported", table.index));
    }
    reasons.extend(describe(parsed, &plan.facts));
    for global in globals.iter().filter(|g| g.value == ValueType::FuncRef) {
        let index = global.index;
        reasons.push(format!(
            "global {index} is mutable and holds a function reference"
        ));
    }
    if reasons.len() > MAX_REASONS {
        let more = reasons.len() - MAX_REASONS;
        reasons.truncate(MAX_REASONS);
        reasons.push(format!("and {more} more"));
    }
    reasons
}

fn stack_pointer(
    parsed: &Parsed<'_>,
    globals: &[MutableGlobal],
) -> Result<Option<StackPointer>, InstrumentError> {
    const NAME: &str = "__stack_pointer";
    let mut exports = parsed.exports.iter();
    let exported = exports.find(|e| e.kind == ExternalKind::Global && e.name == NAME);
    let index = exported.map(|e| e.index).or(parsed.named_stack_pointer);
    let global = globals
        .iter()
        .find(|g| Some(g.index) == index && g.value == ValueType::I32);
    let Some(global) = global else {
        return Ok(None);
    };
    let defined = &parsed.globals[(global.index - parsed.imported_globals) as usize];
    let initial = match constant(&defined.init_expr)? {
        Constant::I32(value) => Some(value as u32),
        _ => None,
    };
    let lowest = lowest_data(parsed)?;
    Ok(Some(StackPointer {
        index: global.index,
        export: global.export.clone(),
        initial,
        stack_first: initial.zip(lowest).is_some_and(|(top, data)| top <= data),
    }))
}

fn debug_info(parsed: &Parsed<'_>) -> Option<DebugInfo> {
    let bytes: usize = parsed.debug.iter().map(|(_, data)| data.len()).sum();
    let is_kept = (1..=MAX_DEBUG_BYTES).contains(&bytes);
    is_kept.then(|| DebugInfo {
        code_start: parsed.code_start,
        sections: (parsed.debug.iter())
            .map(|(name, data)| ((*name).to_owned(), data.to_vec()))
            .collect(),
    })
}

/// Returns the lowest address of active data. `None`: there is none, or its address is
/// not constant.
fn lowest_data(parsed: &Parsed<'_>) -> Result<Option<u32>, InstrumentError> {
    let mut lowest: Option<u32> = None;
    for data in &parsed.data {
        if let DataKind::Active { offset_expr, .. } = &data.kind {
            let Constant::I32(offset) = constant(offset_expr)? else {
                return Ok(None);
            };
            lowest = Some(lowest.unwrap_or(u32::MAX).min(offset as u32));
        }
    }
    Ok(lowest)
}

/// Hashes a variable-length part with its length, so that the boundary between two
/// parts is unambiguous.
fn hash_part(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

fn hash_expression(hasher: &mut blake3::Hasher, parsed: &Parsed<'_>, expression: &ConstExpr<'_>) {
    let range = expression.get_binary_reader().range();
    hash_part(hasher, &parsed.wasm[range]);
}

fn data_digest(parsed: &Parsed<'_>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for data in &parsed.data {
        match &data.kind {
            DataKind::Passive => hash_part(&mut hasher, b"passive"),
            DataKind::Active { offset_expr, .. } => {
                hash_expression(&mut hasher, parsed, offset_expr);
            }
        }
        hash_part(&mut hasher, data.data);
    }
    hasher.finalize().into()
}

fn globals_digest(parsed: &Parsed<'_>) -> Result<[u8; 32], InstrumentError> {
    let mut hasher = blake3::Hasher::new();
    for global in &parsed.globals {
        let value = value_type(global.ty.content_type)?;
        let ty = format!("{value}{}", global.ty.mutable);
        hash_part(&mut hasher, ty.as_bytes());
        hash_expression(&mut hasher, parsed, &global.init_expr);
    }
    Ok(hasher.finalize().into())
}

fn table_slots(parsed: &Parsed<'_>) -> Result<Option<Vec<TableSlot>>, InstrumentError> {
    let mut slots: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for element in &parsed.elements {
        let ElementKind::Active {
            table_index,
            offset_expr,
        } = &element.kind
        else {
            continue;
        };
        let Constant::I32(first) = constant(offset_expr)? else {
            return Ok(None);
        };
        let table = table_index.unwrap_or(0);
        let mut known = true;
        element_functions(element, |position, item| {
            // A slot past the end makes instantiation trap, whatever is reported here.
            let slot = (table, (first as u32).saturating_add(position));
            match item {
                Constant::Function(function) => slots.insert(slot, function),
                Constant::Null => slots.remove(&slot),
                Constant::I32(_) | Constant::Other => {
                    known = false;
                    None
                }
            };
        })?;
        if !known {
            return Ok(None);
        }
    }
    let named = slots
        .into_iter()
        .map(|((table, slot), function)| TableSlot {
            table,
            slot,
            function,
            name: parsed.name_of(function),
        });
    Ok(Some(named.collect()))
}

fn abi(parsed: &Parsed<'_>) -> Result<Option<i32>, InstrumentError> {
    let mut exports = parsed.exports.iter();
    let export =
        exports.find(|e| e.kind == ExternalKind::Global && e.name == exuvia_abi::exports::ABI);
    let defined = export
        .and_then(|e| e.index.checked_sub(parsed.imported_globals))
        .and_then(|index| parsed.globals.get(index as usize))
        .filter(|global| !global.ty.mutable);
    Ok(match defined.map(|global| constant(&global.init_expr)) {
        Some(Ok(Constant::I32(value))) => Some(value),
        Some(Err(fault)) => return Err(fault),
        _ => None,
    })
}
