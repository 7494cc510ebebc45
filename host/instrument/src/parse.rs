//! Reads and validates the input once, and keeps every section.
//!
//! All later stages rely on the module being valid, and report any contradiction
//! as a bug in the host ([`internal`]). Custom sections are not validated, so a
//! malformed one is treated as absent.

use std::collections::BTreeMap;
use std::ops::Range;

use wasmparser::{
    Data, Element, ElementItems, Encoding, Export, FuncType, FuncValidator,
    FuncValidatorAllocations, FunctionBody, Global, Import, KnownCustom, MemoryType, Name, Parser,
    Payload, RefType, Table, TableType, TypeRef, ValType, ValidPayload, Validator,
    ValidatorResources, WasmFeatures,
};

use crate::error::{FunctionName, InstrumentError};
use crate::{MAX_FUNCTIONS, MAX_GLOBALS, MAX_IMPORTS, MAX_MODULE_BYTES, RESERVED_PREFIX};

/// Returns the features that a module may use. `GC_TYPES` is among them for the sake of exceptions, whose
/// references live on the stack only: see [`check_references`].
fn supported() -> WasmFeatures {
    WasmFeatures::FLOATS
        | WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::SIMD
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::GC_TYPES
}

/// Features that are rejected by name: the flag, its name, the fix. Features that
/// include others come first.
const REFUSED: &[(WasmFeatures, &str, &str)] = &[
    (
        WasmFeatures::THREADS,
        "threads or shared memory",
        "build without atomics and shared memory; use more processes instead of threads",
    ),
    (
        WasmFeatures::MEMORY64,
        "64-bit memory or tables",
        "build for wasm32",
    ),
    (
        WasmFeatures::MULTI_MEMORY,
        "more than one memory",
        "keep everything in one memory",
    ),
    (
        WasmFeatures::LEGACY_EXCEPTIONS,
        "exceptions of the old proposal (`try`, `catch`, `rethrow`)",
        "build for those of the standard, `try_table` (clang: `-mllvm -wasm-use-legacy-eh=false`), \
         or without exceptions",
    ),
    (
        WasmFeatures::STACK_SWITCHING,
        "stack switching",
        "use processes, or an executor in guest memory",
    ),
    (
        WasmFeatures::GC,
        "garbage-collected types",
        "build for linear memory; such references cannot be paged out",
    ),
    (
        WasmFeatures::FUNCTION_REFERENCES,
        "typed function references",
        "use `funcref` and `call_indirect`",
    ),
    (
        WasmFeatures::CUSTOM_PAGE_SIZES,
        "custom page sizes",
        "use pages of 64 KiB",
    ),
    (
        WasmFeatures::WIDE_ARITHMETIC,
        "wide arithmetic",
        "build without the target feature `wide-arithmetic`",
    ),
];

/// A custom section that is copied to the output unchanged.
pub(crate) struct Custom<'a> {
    pub(crate) name: &'a str,
    pub(crate) data: &'a [u8],
    /// Whether it precedes all sections that are not custom. It then does so in the
    /// output too.
    pub(crate) leads: bool,
}

/// The sections of a valid module.
#[derive(Default)]
pub(crate) struct Parsed<'a> {
    pub(crate) wasm: &'a [u8],
    pub(crate) types: Vec<FuncType>,
    pub(crate) imports: Vec<Import<'a>>,
    /// Type index of each function, imports first.
    pub(crate) functions: Vec<u32>,
    pub(crate) imported_functions: u32,
    /// Names of the imported functions.
    function_imports: Vec<&'a str>,
    /// Types of all tables, imports first.
    pub(crate) table_types: Vec<TableType>,
    pub(crate) imported_tables: u32,
    pub(crate) tables: Vec<Table<'a>>,
    /// All memories, each with whether it is imported.
    pub(crate) memories: Vec<(MemoryType, bool)>,
    /// Types of all globals, imports first.
    pub(crate) global_types: Vec<wasmparser::GlobalType>,
    pub(crate) imported_globals: u32,
    pub(crate) globals: Vec<Global<'a>>,
    pub(crate) exports: Vec<Export<'a>>,
    pub(crate) start: Option<u32>,
    pub(crate) elements: Vec<Element<'a>>,
    pub(crate) data: Vec<Data<'a>>,
    pub(crate) bodies: Vec<FunctionBody<'a>>,
    /// The most values on the operand stack of each.
    pub(crate) operands: Vec<u32>,
    pub(crate) customs: Vec<Custom<'a>>,
    /// Ranges of the sections to copy (import, memory, tag): contents without id and size.
    pub(crate) import_section: Option<Range<usize>>,
    pub(crate) memory_section: Option<Range<usize>>,
    pub(crate) tag_section: Option<Range<usize>>,
    /// Type index of each tag.
    pub(crate) tags: Vec<u32>,
    pub(crate) data_count: Option<u32>,
    /// Offset of the contents of the code section.
    pub(crate) code_start: u32,
    /// Sections of debugging information: name and contents.
    pub(crate) debug: Vec<(&'a str, &'a [u8])>,
    /// Contents of the first name section.
    pub(crate) name_section: Option<&'a [u8]>,
    /// Function names in the name section.
    pub(crate) function_names: BTreeMap<u32, &'a str>,
    /// Index of the global that the name section calls `__stack_pointer`.
    pub(crate) named_stack_pointer: Option<u32>,
    /// Branch hints of the input, by function and by offset in its body.
    pub(crate) hints: BTreeMap<u32, BTreeMap<u32, bool>>,
    /// The first export name of each function; for imports `module.name`.
    extern_names: BTreeMap<u32, String>,
}

impl Parsed<'_> {
    /// Returns the name of a function for messages, if the module contains one.
    pub(crate) fn name_of(&self, index: u32) -> Option<String> {
        match self.function_names.get(&index) {
            Some(name) => Some((*name).to_owned()),
            None => self.extern_names.get(&index).cloned(),
        }
    }

    /// Returns the function for a message.
    pub(crate) fn function_name(&self, index: u32) -> FunctionName {
        FunctionName {
            index,
            name: self.name_of(index),
        }
    }

    /// Returns the name under which a function is imported.
    pub(crate) fn import_name(&self, index: u32) -> Option<&str> {
        self.function_imports.get(index as usize).copied()
    }

    /// Returns the type of a function.
    pub(crate) fn function_type(&self, index: u32) -> Result<&FuncType, InstrumentError> {
        self.functions
            .get(index as usize)
            .and_then(|ty| self.types.get(*ty as usize))
            .ok_or_else(|| internal("a function without a type"))
    }
}

/// Returns the error for a bug in the host: a contradiction to the validator.
pub(crate) fn internal(what: impl ToString) -> InstrumentError {
    InstrumentError::Internal(what.to_string())
}

/// Validates `wasm` and splits it into its sections.
pub(crate) fn parse(wasm: &[u8]) -> Result<Parsed<'_>, InstrumentError> {
    check_header(wasm)?;
    let mut parsed = Parsed {
        wasm,
        ..Parsed::default()
    };
    if let Err(fault) = read(wasm, supported(), &mut parsed) {
        return Err(explain(wasm, fault));
    }
    check_counts(&parsed)?;
    check_references(&parsed)?;
    for (index, import) in parsed.imports.iter().filter(|i| is_function(i)).enumerate() {
        let name = format!("{}.{}", import.module, import.name);
        parsed.extern_names.insert(index as u32, name);
    }
    for export in parsed.exports.iter().filter(|e| e.kind.is_function()) {
        let name = parsed.extern_names.entry(export.index);
        name.or_insert_with(|| export.name.to_owned());
    }
    check_reserved(&parsed)?;
    Ok(parsed)
}

/// Rejects a module with too many items before anything is done for each of them.
fn check_counts(parsed: &Parsed<'_>) -> Result<(), InstrumentError> {
    for (what, count, limit) in [
        ("functions", parsed.functions.len() as u64, MAX_FUNCTIONS),
        ("imports", parsed.imports.len() as u64, MAX_IMPORTS),
        ("globals", parsed.global_types.len() as u64, MAX_GLOBALS),
    ] {
        if count > limit {
            return Err(InstrumentError::TooMany { what, count, limit });
        }
    }
    Ok(())
}

/// Rejects references other than `funcref` wherever a value outlives a call or leaves the module: no other can
/// be restored in a reused frame. On the stack they may be, for the sake of exceptions.
fn check_references(parsed: &Parsed<'_>) -> Result<(), InstrumentError> {
    let refuse = |feature, message: String, fix| {
        Err(InstrumentError::Unsupported {
            feature,
            offset: 0,
            function: None,
            message,
            fix,
        })
    };
    let other = |what: String, ty: RefType| {
        refuse(
            "reference types other than funcref",
            format!("{what} has the type {ty}"),
            "keep handles in linear memory instead of `externref`, and exceptions on the stack",
        )
    };
    for (number, table) in parsed.table_types.iter().enumerate() {
        if table.element_type != RefType::FUNCREF {
            return other(format!("table {number}"), table.element_type);
        }
    }
    for (number, global) in parsed.global_types.iter().enumerate() {
        if let Some(ty) = other_reference(&global.content_type) {
            return other(format!("global {number}"), ty);
        }
    }
    for (number, element) in parsed.elements.iter().enumerate() {
        if let ElementItems::Expressions(ty, _) = &element.items
            && *ty != RefType::FUNCREF
        {
            return other(format!("element segment {number}"), *ty);
        }
    }
    for import in &parsed.imports {
        let name = format!("the import {}.{}", import.module, import.name);
        match import.ty {
            TypeRef::Tag(_) => {
                return refuse(
                    "imported tags of exceptions",
                    format!("{name} is a tag"),
                    "link all code that throws and catches into one module, which defines the tag",
                );
            }
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                if let Some(ty) = other_in_type(parsed, ty) {
                    return other(name, ty);
                }
            }
            _ => {}
        }
    }
    for export in parsed.exports.iter().filter(|e| e.kind.is_function()) {
        let ty = parsed.functions.get(export.index as usize);
        if let Some(ty) = ty.and_then(|ty| other_in_type(parsed, *ty)) {
            return other(format!("the export {}", export.name), ty);
        }
    }
    Ok(())
}

/// Returns the type if it is a reference other than `funcref`.
fn other_reference(ty: &ValType) -> Option<RefType> {
    match ty {
        ValType::Ref(ty) if *ty != RefType::FUNCREF => Some(*ty),
        _ => None,
    }
}

/// Returns the first such type among the parameters and results of a function type.
fn other_in_type(parsed: &Parsed<'_>, ty: u32) -> Option<RefType> {
    let ty = parsed.types.get(ty as usize)?;
    (ty.params().iter().chain(ty.results())).find_map(other_reference)
}

fn is_function(import: &Import<'_>) -> bool {
    matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_))
}

/// `ExternalKind` has two variants for functions.
trait KindExt {
    fn is_function(&self) -> bool;
}

impl KindExt for wasmparser::ExternalKind {
    fn is_function(&self) -> bool {
        matches!(self, Self::Func | Self::FuncExact)
    }
}

/// Rejects bytes that are not a core module, with a clearer message than the
/// validator's.
fn check_header(wasm: &[u8]) -> Result<(), InstrumentError> {
    if wasm.len() > MAX_MODULE_BYTES {
        return Err(InstrumentError::TooLarge {
            bytes: wasm.len(),
            limit: MAX_MODULE_BYTES,
        });
    }
    if !wasm.starts_with(b"\0asm") {
        let hint = if wasm.is_empty() {
            "it is empty; did the build fail?"
        } else if wasm.starts_with(b"\x7fELF") {
            "it is a native ELF file; build for a wasm32 target"
        } else {
            "name the `.wasm` file that the compiler wrote"
        };
        return Err(InstrumentError::NotWasm { hint });
    }
    // Layer 1 is a component. Other versions are left to the validator.
    if wasm.get(6..8) == Some(&[1, 0]) {
        return Err(InstrumentError::Component);
    }
    Ok(())
}

/// An error of the validator, and the number of the function body that it is about.
struct Fault {
    error: wasmparser::Error,
    body: Option<u32>,
}

impl From<wasmparser::Error> for Fault {
    fn from(error: wasmparser::Error) -> Self {
        Self { error, body: None }
    }
}

/// Reads the file once, and validates each section before it is kept.
fn read<'a>(wasm: &'a [u8], features: WasmFeatures, parsed: &mut Parsed<'a>) -> Result<(), Fault> {
    let mut validator = Validator::new_with_features(features);
    let mut parser = Parser::new(0);
    parser.set_features(features);
    let mut allocations = FuncValidatorAllocations::default();
    let mut leads = true;
    for payload in parser.parse_all(wasm) {
        let payload = payload?;
        if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
            let mut function = function.into_validator(allocations);
            let operands = validate(&mut function, &body).map_err(|error| Fault {
                error,
                body: Some(parsed.bodies.len() as u32),
            })?;
            allocations = function.into_allocations();
            parsed.bodies.push(body);
            parsed.operands.push(operands);
            continue;
        }
        match payload {
            Payload::Version { encoding, .. } => debug_assert_eq!(encoding, Encoding::Module),
            Payload::CustomSection(section) => custom(&section, leads, parsed),
            payload => {
                leads = false;
                known(payload, parsed)?;
            }
        }
    }
    Ok(())
}

/// Validates a body; answers the most values that it has on its operand stack.
fn validate(
    function: &mut FuncValidator<ValidatorResources>,
    body: &FunctionBody<'_>,
) -> wasmparser::Result<u32> {
    let mut reader = body.get_binary_reader();
    function.read_locals(&mut reader)?;
    let mut most = 0;
    while !reader.eof() {
        let at = reader.original_position();
        reader.visit_operator(&mut function.visitor(at))??;
        most = most.max(function.operand_stack_height());
    }
    reader.finish_expression(&function.visitor(reader.original_position()))?;
    Ok(most)
}

/// Keeps one validated section.
fn known<'a>(payload: Payload<'a>, parsed: &mut Parsed<'a>) -> Result<(), Fault> {
    match payload {
        Payload::TypeSection(section) => {
            for ty in section.into_iter_err_on_gc_types() {
                parsed.types.push(ty?);
            }
        }
        Payload::ImportSection(section) => {
            parsed.import_section = Some(section.range());
            for import in section.into_imports() {
                read_import(import?, parsed);
            }
        }
        Payload::FunctionSection(section) => {
            for ty in section {
                parsed.functions.push(ty?);
            }
        }
        Payload::TableSection(section) => {
            for table in section {
                let table = table?;
                parsed.table_types.push(table.ty);
                parsed.tables.push(table);
            }
        }
        Payload::MemorySection(section) => {
            parsed.memory_section = Some(section.range());
            for memory in section {
                parsed.memories.push((memory?, false));
            }
        }
        Payload::TagSection(section) => {
            parsed.tag_section = Some(section.range());
            for tag in section {
                parsed.tags.push(tag?.func_type_idx);
            }
        }
        Payload::GlobalSection(section) => {
            for global in section {
                let global = global?;
                parsed.global_types.push(global.ty);
                parsed.globals.push(global);
            }
        }
        Payload::ExportSection(section) => {
            for export in section {
                parsed.exports.push(export?);
            }
        }
        Payload::StartSection { func, .. } => parsed.start = Some(func),
        Payload::ElementSection(section) => {
            for element in section {
                parsed.elements.push(element?);
            }
        }
        Payload::DataCountSection { count, .. } => parsed.data_count = Some(count),
        Payload::DataSection(section) => {
            for data in section {
                parsed.data.push(data?);
            }
        }
        Payload::CodeSectionStart { range, .. } => {
            parsed.code_start = u32::try_from(range.start).unwrap_or(u32::MAX);
        }
        // The end of the module.
        _ => {}
    }
    Ok(())
}

fn read_import<'a>(import: Import<'a>, parsed: &mut Parsed<'a>) {
    match import.ty {
        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
            parsed.functions.push(ty);
            parsed.function_imports.push(import.name);
            parsed.imported_functions += 1;
        }
        TypeRef::Table(ty) => {
            parsed.table_types.push(ty);
            parsed.imported_tables += 1;
        }
        TypeRef::Memory(ty) => parsed.memories.push((ty, true)),
        TypeRef::Global(ty) => {
            parsed.global_types.push(ty);
            parsed.imported_globals += 1;
        }
        // Refused by `check_references`.
        TypeRef::Tag(_) => {}
    }
    parsed.imports.push(import);
}

/// How the names of sections with debugging information (DWARF) begin. They are not in the output, as their
/// offsets are those of the input.
const DEBUG: &str = ".debug_";

/// Returns whether the contents of a section are offsets into the code, which are wrong
/// after instrumentation.
fn is_stale(name: &str) -> bool {
    name.starts_with("reloc.")
        || name.starts_with("metadata.code.")
        || name == "sourceMappingURL"
        || name == "linking"
}

fn custom<'a>(section: &wasmparser::CustomSectionReader<'a>, leads: bool, parsed: &mut Parsed<'a>) {
    match section.as_known() {
        KnownCustom::Name(_) if parsed.name_section.is_none() => {
            parsed.name_section = Some(section.data());
            read_names(section, parsed);
        }
        // Only the first name section counts.
        KnownCustom::Name(_) => {}
        KnownCustom::BranchHints(hints) => {
            // Hints are advice: a malformed section is dropped as a whole.
            parsed.hints = read_hints(hints).unwrap_or_default();
        }
        _ if section.name().starts_with(DEBUG) => {
            parsed.debug.push((section.name(), section.data()));
        }
        _ if is_stale(section.name()) => {}
        _ => parsed.customs.push(Custom {
            name: section.name(),
            data: section.data(),
            leads,
        }),
    }
}

fn read_hints(
    section: wasmparser::BranchHintSectionReader<'_>,
) -> wasmparser::Result<BTreeMap<u32, BTreeMap<u32, bool>>> {
    let mut all = BTreeMap::new();
    for function in section {
        let function = function?;
        let mut hints = BTreeMap::new();
        for hint in function.hints {
            let hint = hint?;
            hints.insert(hint.func_offset, hint.taken);
        }
        all.insert(function.func, hints);
    }
    Ok(all)
}

/// Keeps the names that are needed; stops at the first malformed subsection.
fn read_names<'a>(section: &wasmparser::CustomSectionReader<'a>, parsed: &mut Parsed<'a>) {
    let KnownCustom::Name(names) = section.as_known() else {
        return;
    };
    for subsection in names {
        match subsection {
            Ok(Name::Function(map)) => {
                for naming in map.into_iter().map_while(Result::ok) {
                    parsed.function_names.insert(naming.index, naming.name);
                }
            }
            Ok(Name::Global(map)) => {
                let mut named = map.into_iter().map_while(Result::ok);
                let found = named.find(|naming| naming.name == "__stack_pointer");
                parsed.named_stack_pointer = found.map(|naming| naming.index);
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn check_reserved(parsed: &Parsed<'_>) -> Result<(), InstrumentError> {
    let reserved = |what, name: &str| {
        Err(InstrumentError::Reserved {
            what,
            name: name.to_owned(),
        })
    };
    for import in &parsed.imports {
        if import.module.starts_with(RESERVED_PREFIX) {
            return reserved("import module", import.module);
        }
    }
    for export in &parsed.exports {
        if export.name.starts_with(RESERVED_PREFIX) {
            return reserved("export", export.name);
        }
    }
    Ok(())
}

/// Converts an error of the validator. If the module is valid with all features
/// enabled, the error names the unsupported feature. Only the error path pays for
/// the repeated validation.
fn explain(wasm: &[u8], fault: Fault) -> InstrumentError {
    let mut seen = Parsed::default();
    let all = WasmFeatures::all();
    let valid_elsewhere = read_all(wasm, all, &mut seen).is_ok();
    let function = fault.body.map(|body| FunctionName {
        index: seen.imported_functions + body,
        name: names_only(wasm).remove(&(seen.imported_functions + body)),
    });
    let offset = fault.error.offset();
    let message = fault.error.message().to_owned();
    if valid_elsewhere {
        let needed = REFUSED
            .iter()
            .find(|(flag, ..)| read_all(wasm, all - *flag, &mut Parsed::default()).is_err());
        let (feature, fix) = needed.map_or(
            (
                "a feature that is not standard yet",
                "build for plain wasm32",
            ),
            |(_, name, fix)| (*name, *fix),
        );
        return InstrumentError::Unsupported {
            feature,
            offset,
            function,
            message,
            fix,
        };
    }
    InstrumentError::Invalid {
        offset,
        function,
        message,
    }
}

/// Validates with other features, and counts the imported functions in `seen`.
fn read_all(wasm: &[u8], features: WasmFeatures, seen: &mut Parsed<'_>) -> Result<(), Fault> {
    let mut validator = Validator::new_with_features(features);
    let mut parser = Parser::new(0);
    parser.set_features(features);
    for payload in parser.parse_all(wasm) {
        let payload = payload?;
        if let Payload::ImportSection(section) = &payload {
            let imports = section.clone().into_imports().map_while(Result::ok);
            seen.imported_functions = imports.filter(is_function).count() as u32;
        }
        if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
            function
                .into_validator(FuncValidatorAllocations::default())
                .validate(&body)?;
        }
    }
    Ok(())
}

/// Returns the function names of a module that may be invalid.
fn names_only(wasm: &[u8]) -> BTreeMap<u32, String> {
    let mut parsed = Parsed::default();
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        if let Payload::CustomSection(section) = payload {
            read_names(&section, &mut parsed);
        }
    }
    let names = parsed.function_names.into_iter();
    names
        .map(|(index, name)| (index, name.to_owned()))
        .collect()
}
