//! The report of the pass on a module: plain data that can be compared between versions.

use std::fmt;

use crate::OffsetMap;

/// A value type of the supported features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 128-bit vector.
    V128,
    /// Nullable function reference.
    FuncRef,
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::V128 => "v128",
            Self::FuncRef => "funcref",
        })
    }
}

/// The type of a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionType {
    /// Parameters.
    pub params: Vec<ValueType>,
    /// Results.
    pub results: Vec<ValueType>,
}

impl fmt::Display for FunctionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &[ValueType]| {
            let names: Vec<String> = types.iter().map(ValueType::to_string).collect();
            format!("({})", names.join(", "))
        };
        write!(f, "{} -> {}", list(&self.params), list(&self.results))
    }
}

/// The kind of an import or export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExternKind {
    /// A function.
    Function,
    /// A table.
    Table,
    /// A memory.
    Memory,
    /// A global.
    Global,
}

/// The type of an import or export.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExternType {
    /// A function.
    Function(FunctionType),
    /// A table of function references.
    Table {
        /// Initial number of entries.
        minimum: u64,
        /// Maximum number of entries, if limited.
        maximum: Option<u64>,
    },
    /// A linear memory, in pages of 64 KiB.
    Memory {
        /// Initial number of pages.
        minimum: u64,
        /// Maximum number of pages, if limited.
        maximum: Option<u64>,
    },
    /// A global.
    Global {
        /// Its value type.
        value: ValueType,
        /// Whether it is mutable.
        mutable: bool,
    },
}

impl ExternType {
    /// Returns the kind alone.
    pub fn kind(&self) -> ExternKind {
        match self {
            Self::Function(_) => ExternKind::Function,
            Self::Table { .. } => ExternKind::Table,
            Self::Memory { .. } => ExternKind::Memory,
            Self::Global { .. } => ExternKind::Global,
        }
    }
}

/// One import of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportInfo {
    /// The module name of the import.
    pub module: String,
    /// Its name in that module.
    pub name: String,
    /// Its type.
    pub ty: ExternType,
}

/// One export of the input. Exports that the pass adds are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: ExternType,
    /// Its index in the input.
    pub index: u32,
}

/// A mutable global that the module defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutableGlobal {
    /// Its index.
    pub index: u32,
    /// The export through which the host reaches it.
    pub export: String,
    /// Its value type.
    pub value: ValueType,
}

/// A table, defined or imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its index.
    pub index: u32,
    /// The export through which the host reaches it (`None` if it is imported).
    pub export: Option<String>,
    /// Its element type.
    pub element: ValueType,
    /// Initial number of entries.
    pub minimum: u64,
    /// Maximum number of entries, if limited.
    pub maximum: Option<u64>,
    /// Whether code that may run after start can change it. An imported table counts as mutable.
    pub mutable: bool,
}

/// The global that holds the top of the shadow stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackPointer {
    /// Its index.
    pub index: u32,
    /// The export through which the host reaches it.
    pub export: String,
    /// Its initial value, if that is a constant.
    pub initial: Option<u32>,
    /// Whether all active data lies at or above the initial value, so that memory below
    /// the stack pointer can only be stack. Without active data this is unknown, hence false.
    pub stack_first: bool,
}

/// The module's memory, in pages of 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Initial number of pages.
    pub minimum: u64,
    /// Maximum number of pages, if limited.
    pub maximum: Option<u64>,
    /// Whether it is imported.
    pub imported: bool,
}

/// A table slot that an active element segment fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSlot {
    /// The table's index.
    pub table: u32,
    /// The slot.
    pub slot: u32,
    /// The function's index in the input.
    pub function: u32,
    /// The function's name, if known.
    pub name: Option<String>,
}

/// The debugging information (DWARF) of a module. Its addresses are offsets from the first byte of the code
/// section's contents, as <https://yurydelendik.github.io/webassembly-dwarf/> has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugInfo {
    /// Offset in the input of the first byte of the code section's contents.
    pub code_start: u32,
    /// Names and contents of the sections.
    pub sections: Vec<(String, Vec<u8>)>,
}

/// An instrumented module and the report on it.
#[derive(Clone, Debug)]
pub struct Instrumented {
    /// The output module.
    pub wasm: Vec<u8>,
    /// What its memory contains when an instance is made: addresses and bytes, to be copied in this order before any
    /// of its code runs. The output has none of it then, so that modules that differ in it only are compiled once.
    /// Empty if an address is not a constant or not within the memory: then instantiation copies all, or fails.
    pub contents: Vec<(u32, Vec<u8>)>,
    /// Mapping from code offsets in the output to those in the input.
    pub offsets: OffsetMap,
    /// Compile size: bytes of the functions' code in the output, plus
    /// [`crate::LOCAL_BYTES`] for each of their locals. Functions that the pass added do
    /// not count.
    pub code_bytes: u64,
    /// Index of the first function that the pass added. A guest's backtrace leaves out
    /// this function and all after it.
    pub first_added_function: u32,
    /// Every mutable global that the module defines.
    pub mutable_globals: Vec<MutableGlobal>,
    /// Every table.
    pub tables: Vec<TableInfo>,
    /// The pointer of the shadow stack, if the module names it.
    pub stack_pointer: Option<StackPointer>,
    /// The memory, if there is one.
    pub memory: Option<MemoryInfo>,
    /// Every import.
    pub imports: Vec<ImportInfo>,
    /// Every export of the input.
    pub exports: Vec<ExportInfo>,
    /// Index of the start function, which the output exports as `exuvia:start`.
    pub start: Option<u32>,
    /// Reasons why the processes of this module cannot be paged out; empty if they can.
    pub resident_only: Vec<String>,
    /// Operations that only start performs and that cannot be repeated in one instance, in
    /// the form of `resident_only`.
    pub only_in_start: Vec<String>,
    /// BLAKE3 of all data segments with their offsets.
    pub data_digest: [u8; 32],
    /// BLAKE3 of all globals with their types and initial values.
    pub globals_digest: [u8; 32],
    /// The table slots that active element segments fill, in order of table and slot. `None`
    /// if an offset or item is not a plain constant.
    pub table_slots: Option<Vec<TableSlot>>,
    /// Whether the name section names functions.
    pub has_names: bool,
    /// The debugging information, if there is any and no more than [`crate::MAX_DEBUG_BYTES`].
    pub debug: Option<DebugInfo>,
    /// Contents of the custom section `exuvia.layout`.
    pub layout: Option<Vec<u8>>,
    /// Contents of all custom sections `exuvia.protocol`, up to 64 KiB.
    pub protocol: Vec<u8>,
    /// Contents of all custom sections `exuvia.state`, up to 64 KiB.
    pub state: Vec<u8>,
    /// Value of the exported global `exuvia_abi`, if it is an immutable constant i32.
    pub abi: Option<i32>,
}

impl Instrumented {
    /// Returns the export of a name.
    pub fn export(&self, name: &str) -> Option<&ExportInfo> {
        self.exports.iter().find(|export| export.name == name)
    }

    /// Returns whether the module imports functions which the host completes asynchronously, since they may
    /// wait for the operating system: those of WASI. Such a module runs on fibers.
    pub fn has_async_imports(&self) -> bool {
        let mut imports = self.imports.iter();
        imports.any(|import| import.module == exuvia_abi::wasi::MODULE)
    }
}
