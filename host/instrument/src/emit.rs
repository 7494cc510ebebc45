//! Assembles the output module, section by section.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error as ReencodeError, Reencode, utils};
use wasm_encoder::{
    BranchHint, BranchHints, CodeSection, ConstExpr, CustomSection, DataCountSection,
    ElementSection, Encode, ExportKind, ExportSection, FunctionSection, GlobalSection, GlobalType,
    Module, NameMap, NameSection, RawSection, RefType, SectionId, TableSection, TableType,
    TypeSection, ValType,
};
use wasmparser::{BinaryReader, FuncType};

use crate::data::Merged;
use crate::error::InstrumentError;
use crate::helpers::{self, Indices};
use crate::offsets::{self, OffsetMap, Run};
use crate::parse::{Parsed, internal};
use crate::plan::{Added, Plan};
use crate::rewrite::{self, NewBody};
use crate::startup;
use crate::weight::Weight;
use crate::{
    EXPORT_ENTER, EXPORT_HOST, EXPORT_MAIL, EXPORT_REDUCTIONS, EXPORT_START, MAIL_UNKNOWN,
    MAX_CODE_BYTES, MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_GLOBALS, MAX_MODULE_BYTES, MAX_STARTUP,
    SLOTS, SLOTS_WITH_WASI,
};

/// Limits of wasmparser, which it does not export.
mod wasm_limits {
    pub(crate) const TYPES: u64 = 1_000_000;
    pub(crate) const EXPORTS: u64 = 1_000_000;
    pub(crate) const TABLES: u64 = 100;
}

/// Ids of subsections in the name section.
const MODULE_NAME: u8 = 0;
const FUNCTION_NAMES: u8 = 1;

/// The output module and the data that later stages need.
pub(crate) struct Output {
    pub(crate) wasm: Vec<u8>,
    pub(crate) offsets: OffsetMap,
    /// Compile size of all functions, as [`MAX_CODE_BYTES`] counts it.
    pub(crate) code_bytes: u64,
    /// Export name of each mutable global that the module defines, by index.
    pub(crate) global_exports: Vec<(u32, String)>,
    /// See [`Instrumented::contents`](crate::Instrumented::contents).
    pub(crate) contents: Vec<(u32, Vec<u8>)>,
}

/// Redirects uses of an import to its shim.
struct Redirect<'p>(&'p Plan);

impl Reencode for Redirect<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, ReencodeError<Infallible>> {
        Ok(self.0.redirect(function))
    }
}

/// Types of the added functions, as indices in the output.
struct Types {
    /// Types that the input does not have.
    new: Vec<FuncType>,
    /// Type index of each added function.
    added: Vec<u32>,
    plain: u32,
    around: Option<(u32, u32)>,
}

/// Writes the output module.
pub(crate) fn emit(parsed: &Parsed<'_>, plan: &Plan) -> Result<Output, InstrumentError> {
    let types = add_types(parsed, plan)?;
    let at = Indices {
        reductions: parsed.global_types.len() as u32,
        mail: parsed.global_types.len() as u32 + 1,
        host: parsed.table_types.len() as u32,
        plain: types.plain,
        around: types.around,
        yield_function: plan.yield_function,
    };
    let global_exports = name_globals(parsed);
    let data = Merged::new(parsed);
    check_limits(parsed, plan, &types, global_exports.len(), &data)?;

    let mut module = Module::new();
    // What a module says of itself is in the report, and no reason to compile it again.
    let customs = || (parsed.customs.iter()).filter(|custom| !custom.name.starts_with("exuvia."));
    for custom in customs().filter(|custom| custom.leads) {
        write_custom(&mut module, custom.name, custom.data);
    }
    write_types(&mut module, parsed, &types)?;
    copy_section(
        &mut module,
        parsed,
        SectionId::Import,
        &parsed.import_section,
    );
    let mut functions = FunctionSection::new();
    let defined = &parsed.functions[parsed.imported_functions as usize..];
    for ty in defined.iter().chain(&types.added) {
        functions.function(*ty);
    }
    module.section(&functions);
    write_tables(&mut module, parsed, plan)?;
    copy_section(
        &mut module,
        parsed,
        SectionId::Memory,
        &parsed.memory_section,
    );
    copy_section(&mut module, parsed, SectionId::Tag, &parsed.tag_section);
    write_globals(&mut module, parsed, plan)?;
    write_exports(&mut module, parsed, plan, at, &global_exports)?;
    if !parsed.elements.is_empty() {
        let mut elements = ElementSection::new();
        for element in &parsed.elements {
            utils::parse_element(&mut Redirect(plan), &mut elements, element.clone())
                .map_err(internal)?;
        }
        module.section(&elements);
    }
    // Merged segments are passive, which needs the count.
    if parsed.data_count.is_some() || !parsed.data.is_empty() {
        let count = parsed.data.len() as u32;
        module.section(&DataCountSection { count });
    }
    let (offsets, code_bytes) = write_code(&mut module, parsed, plan, at)?;
    if !parsed.data.is_empty() {
        module.section(&data.section()?);
    }
    module.section(&names(parsed, plan));
    for custom in customs().filter(|custom| !custom.leads) {
        write_custom(&mut module, custom.name, custom.data);
    }
    Ok(Output {
        wasm: module.finish(),
        offsets,
        code_bytes,
        global_exports,
        contents: data.into_contents(),
    })
}

/// Finds the types of the added functions, and adds those that the input does not have.
fn add_types(parsed: &Parsed<'_>, plan: &Plan) -> Result<Types, InstrumentError> {
    let mut new: Vec<FuncType> = Vec::new();
    let mut find = |ty: FuncType| {
        let mut all = parsed.types.iter().chain(&new);
        let known = all.position(|candidate| *candidate == ty);
        known.unwrap_or_else(|| {
            new.push(ty);
            parsed.types.len() + new.len() - 1
        }) as u32
    };
    let plain = find(FuncType::new([], []));
    const INT: wasmparser::ValType = wasmparser::ValType::I32;
    let around = (plan.uses_wasi()).then(|| {
        let before = find(FuncType::new([INT; 6], [INT]));
        (before, find(FuncType::new([INT; 2], [INT])))
    });
    let mut added = Vec::new();
    for function in &plan.added {
        added.push(match (*function, helpers::signature(*function)) {
            (Added::Blocking(import) | Added::Receive(import) | Added::Wasi { import, .. }, _) => {
                parsed.functions[import as usize]
            }
            (_, Some((params, results))) => {
                let all_i32 = |count: usize| vec![INT; count];
                find(FuncType::new(all_i32(params.len()), all_i32(results.len())))
            }
            (_, None) => return Err(internal("an added function without a type")),
        });
    }
    Ok(Types {
        new,
        added,
        plain,
        around,
    })
}

/// Returns the index and export name of each mutable global: the name it has in the
/// input, or one that is added.
fn name_globals(parsed: &Parsed<'_>) -> Vec<(u32, String)> {
    let mut own = std::collections::BTreeMap::new();
    for export in &parsed.exports {
        if export.kind == wasmparser::ExternalKind::Global {
            own.entry(export.index).or_insert(export.name);
        }
    }
    let types = parsed.global_types.iter().zip(0u32..);
    let defined = types.skip(parsed.imported_globals as usize);
    defined
        .filter(|(ty, _)| ty.mutable)
        .map(|(_, index)| match own.get(&index) {
            Some(name) => (index, (*name).to_owned()),
            None => (index, format!("exuvia:g{index}")),
        })
        .collect()
}

fn check_limits(
    parsed: &Parsed<'_>,
    plan: &Plan,
    types: &Types,
    exported_globals: usize,
    data: &Merged<'_>,
) -> Result<(), InstrumentError> {
    let own = [
        EXPORT_REDUCTIONS,
        EXPORT_MAIL,
        EXPORT_HOST,
        EXPORT_START,
        EXPORT_ENTER,
    ]
    .len();
    let exports = parsed.exports.len() + exported_globals + parsed.tables.len() + own;
    let counts = [
        (
            "types",
            parsed.types.len() + types.new.len(),
            wasm_limits::TYPES,
        ),
        (
            "functions",
            parsed.functions.len() + plan.added.len(),
            MAX_FUNCTIONS,
        ),
        ("globals", parsed.global_types.len() + 2, MAX_GLOBALS),
        (
            "steps of its initialization (data segments that are far apart, entries of passive \
             element segments, operators of constant expressions)",
            startup::steps(parsed, data)? as usize,
            MAX_STARTUP,
        ),
        ("tables", parsed.table_types.len() + 1, wasm_limits::TABLES),
        ("exports", exports, wasm_limits::EXPORTS),
    ];
    for (what, count, limit) in counts {
        let count = count as u64;
        if count > limit {
            return Err(InstrumentError::TooMany { what, count, limit });
        }
    }
    Ok(())
}

fn write_custom(module: &mut Module, name: &str, data: &[u8]) {
    module.section(&CustomSection {
        name: name.into(),
        data: data.into(),
    });
}

/// Copies a section that does not change.
fn copy_section(
    module: &mut Module,
    parsed: &Parsed<'_>,
    id: SectionId,
    range: &Option<std::ops::Range<usize>>,
) {
    if let Some(range) = range {
        module.section(&RawSection {
            id: id.into(),
            data: &parsed.wasm[range.clone()],
        });
    }
}

fn write_types(
    module: &mut Module,
    parsed: &Parsed<'_>,
    types: &Types,
) -> Result<(), InstrumentError> {
    let mut section = TypeSection::new();
    for ty in parsed.types.iter().chain(&types.new) {
        let ty = wasm_encoder::reencode::RoundtripReencoder
            .func_type(ty.clone())
            .map_err(internal)?;
        section.ty().func_type(&ty);
    }
    module.section(&section);
    Ok(())
}

fn write_tables(
    module: &mut Module,
    parsed: &Parsed<'_>,
    plan: &Plan,
) -> Result<(), InstrumentError> {
    let mut section = TableSection::new();
    for table in &parsed.tables {
        utils::parse_table(&mut Redirect(plan), &mut section, table.clone()).map_err(internal)?;
    }
    let slots = if plan.uses_wasi() {
        SLOTS_WITH_WASI
    } else {
        SLOTS
    };
    section.table(TableType {
        element_type: RefType::FUNCREF,
        minimum: slots,
        maximum: Some(slots),
        table64: false,
        shared: false,
    });
    module.section(&section);
    Ok(())
}

fn write_globals(
    module: &mut Module,
    parsed: &Parsed<'_>,
    plan: &Plan,
) -> Result<(), InstrumentError> {
    let mut section = GlobalSection::new();
    for global in &parsed.globals {
        utils::parse_global(&mut Redirect(plan), &mut section, global.clone()).map_err(internal)?;
    }
    let counter = GlobalType {
        val_type: ValType::I32,
        mutable: true,
        shared: false,
    };
    section.global(counter, &ConstExpr::i32_const(0));
    section.global(counter, &ConstExpr::i32_const(MAIL_UNKNOWN));
    module.section(&section);
    Ok(())
}

fn write_exports(
    module: &mut Module,
    parsed: &Parsed<'_>,
    plan: &Plan,
    at: Indices,
    global_exports: &[(u32, String)],
) -> Result<(), InstrumentError> {
    let mut section = ExportSection::new();
    for export in &parsed.exports {
        utils::parse_export(&mut Redirect(plan), &mut section, *export).map_err(internal)?;
    }
    for (index, name) in global_exports {
        if name.starts_with(crate::RESERVED_PREFIX) {
            section.export(name, ExportKind::Global, *index);
        }
    }
    for index in parsed.imported_tables..parsed.table_types.len() as u32 {
        section.export(&format!("exuvia:t{index}"), ExportKind::Table, index);
    }
    section.export(EXPORT_REDUCTIONS, ExportKind::Global, at.reductions);
    section.export(EXPORT_MAIL, ExportKind::Global, at.mail);
    section.export(EXPORT_HOST, ExportKind::Table, at.host);
    let first_added = parsed.functions.len() as u32;
    for (added, index) in plan.added.iter().zip(first_added..) {
        if let Added::Enter(_) = added {
            section.export(EXPORT_ENTER, ExportKind::Func, index);
        }
    }
    if let Some(start) = parsed.start {
        section.export(EXPORT_START, ExportKind::Func, plan.redirect(start));
    }
    module.section(&section);
    Ok(())
}

/// Returns the number of bytes of `value` as an unsigned LEB128 number.
fn leb_length(value: usize) -> usize {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes.len()
}

/// Returns the compile size of a function: its bytes, plus [`LOCAL_BYTES`](crate::limits::LOCAL_BYTES) for each
/// local. Returns an error if that exceeds [`MAX_FUNCTION_BYTES`].
fn to_compile(
    parsed: &Parsed<'_>,
    function: u32,
    weight: &Weight,
    bytes: u64,
) -> Result<u64, InstrumentError> {
    let all = bytes + weight.bytes();
    if all > MAX_FUNCTION_BYTES {
        return Err(InstrumentError::FunctionTooLarge {
            function: parsed.function_name(function),
            bytes,
            locals: weight.locals,
            calls: weight.calls,
            values: weight.values,
            limit: MAX_FUNCTION_BYTES,
        });
    }
    Ok(all + weight.module_bytes())
}

fn write_code(
    module: &mut Module,
    parsed: &Parsed<'_>,
    plan: &Plan,
    at: Indices,
) -> Result<(OffsetMap, u64), InstrumentError> {
    let mut section = CodeSection::new();
    let mut code_bytes = 0;
    let mut runs: Vec<Run> = Vec::new();
    let mut hints = BranchHints::new();
    for (number, body) in parsed.bodies.iter().enumerate() {
        let function = parsed.imported_functions + number as u32;
        let new =
            rewrite::rewrite(parsed.wasm, body, &plan.bodies[number], at).map_err(internal)?;
        let weight = &plan.bodies[number].weight;
        code_bytes += to_compile(parsed, function, weight, new.bytes.len() as u64)?;
        if code_bytes > MAX_CODE_BYTES {
            return Err(InstrumentError::CodeTooLarge {
                function: parsed.function_name(function),
                limit: MAX_CODE_BYTES,
            });
        }
        let start = section.byte_len() + leb_length(new.bytes.len());
        for run in &new.runs {
            runs.push(Run {
                output: small(start + run.output as usize, parsed)?,
                ..*run
            });
        }
        let of_body = merge_hints(parsed, function, body.range().start, &new);
        if !of_body.is_empty() {
            hints.function_hints(function, of_body);
        }
        section.raw(&new.bytes);
    }
    let end = section.byte_len();
    for added in &plan.added {
        let params = match added {
            Added::Blocking(import) | Added::Receive(import) | Added::Wasi { import, .. } => {
                parsed.function_type(*import)?.params().len()
            }
            _ => 0,
        };
        section.function(&helpers::body(*added, at, params as u32));
    }
    if !hints.is_empty() {
        module.section(&hints);
    }
    // One byte for the section's id, then its size and the number of bodies.
    let count = leb_length(section.len() as usize);
    let base = module.len() + 1 + leb_length(count + section.byte_len()) + count;
    for run in &mut runs {
        run.output = small(base + run.output as usize, parsed)?;
    }
    module.section(&section);
    let offsets = OffsetMap::new(runs, small(base + end, parsed)?);
    Ok((offsets, code_bytes))
}

/// Converts an offset to the 32 bits that the map stores.
fn small(offset: usize, parsed: &Parsed<'_>) -> Result<u32, InstrumentError> {
    u32::try_from(offset).map_err(|_| InstrumentError::TooLarge {
        bytes: parsed.wasm.len(),
        limit: MAX_MODULE_BYTES,
    })
}

/// Returns the branch hints of a body: its own at their new offsets, and one for each
/// yield, which is rarely taken.
fn merge_hints(parsed: &Parsed<'_>, function: u32, start: usize, new: &NewBody) -> Vec<BranchHint> {
    let mut hints: Vec<(u32, bool)> = new.rare.iter().map(|at| (*at, false)).collect();
    let own = parsed.hints.get(&function).into_iter().flatten();
    for (offset, taken) in own {
        let input = u32::try_from(start)
            .ok()
            .and_then(|s| s.checked_add(*offset));
        let moved = input.and_then(|input| offsets::forward(&new.runs, input));
        hints.extend(moved.map(|at| (at, *taken)));
    }
    hints.sort_unstable();
    hints.dedup_by_key(|(at, _)| *at);
    let hints = hints.into_iter();
    hints
        .map(|(at, taken)| BranchHint {
            branch_func_offset: at,
            branch_hint_value: u32::from(taken),
        })
        .collect()
}

/// Returns the name section with the names of the added functions. Unreadable parts are
/// omitted.
fn names(parsed: &Parsed<'_>, plan: &Plan) -> NameSection {
    let mut functions = NameMap::new();
    let first = parsed.functions.len() as u32;
    for (index, name) in parsed.function_names.range(..first) {
        functions.append(*index, name);
    }
    for (added, index) in plan.added.iter().zip(first..) {
        let import = match added {
            Added::Blocking(import) | Added::Receive(import) => parsed.import_name(*import),
            _ => None,
        };
        functions.append(index, &helpers::name(*added, import));
    }
    let mut contents = Vec::new();
    functions.encode(&mut contents);
    let subsections = parsed.name_section.map_or_else(Vec::new, name_subsections);
    let mut section = NameSection::new();
    for (_, data) in subsections.iter().filter(|(id, _)| *id == MODULE_NAME) {
        section.raw(MODULE_NAME, data);
    }
    section.raw(FUNCTION_NAMES, &contents);
    for (id, data) in subsections.iter().filter(|(id, _)| *id > FUNCTION_NAMES) {
        section.raw(*id, data);
    }
    section
}

/// Returns the subsections of a name section. Their other names refer to indices that
/// do not change.
fn name_subsections(data: &[u8]) -> Vec<(u8, &[u8])> {
    let mut reader = BinaryReader::new(data, 0);
    let mut subsections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8();
        let size = reader.read_var_u32();
        let (Ok(id), Ok(size)) = (id, size) else {
            break;
        };
        match reader.read_bytes(size as usize) {
            Ok(contents) => subsections.push((id, contents)),
            Err(_) => break,
        }
    }
    subsections
}
