//! Errors of the instrumentation. Every message says what is wrong, where, and how
//! to fix it.

use std::fmt;

/// A function in a message: its index and, if the module contains it, its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// Index in the module's function index space (imports first).
    pub index: u32,
    /// The name from the name section, otherwise from an export or import.
    pub name: Option<String>,
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function {}", self.index)?;
        match &self.name {
            Some(name) => write!(f, " (`{name}`)"),
            None => Ok(()),
        }
    }
}

/// Returns " in function 3 (`f`)", or an empty string if the error is outside the code.
fn within(function: &Option<FunctionName>) -> String {
    match function {
        Some(function) => format!(" in {function}"),
        None => String::new(),
    }
}

/// Why a module cannot be instrumented.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstrumentError {
    /// The bytes do not begin with the Wasm magic number.
    #[error("not a Wasm module: the file does not begin with `\\0asm`; {hint}")]
    NotWasm {
        /// What the bytes look like instead, and how to fix it.
        hint: &'static str,
    },
    /// A component instead of a core module.
    #[error(
        "this is a Wasm component, not a core module; build a core module (for Rust the target \
         `wasm32-unknown-unknown` or `wasm32-wasip1`, without the component step)"
    )]
    Component,
    /// The module has more bytes than [`crate::MAX_MODULE_BYTES`].
    #[error(
        "the module has {bytes} bytes, the limit is {limit}; strip debug information, or load \
         large data at run time"
    )]
    TooLarge {
        /// Size of the input.
        bytes: usize,
        /// The limit that it exceeds.
        limit: usize,
    },
    /// The module is malformed or does not type-check.
    #[error(
        "invalid Wasm at offset {offset:#x}{}: {message}; the file is damaged or the compiler has a bug: build it again",
        within(function)
    )]
    Invalid {
        /// Offset in the file.
        offset: usize,
        /// The function whose body contains the offset, if any.
        function: Option<FunctionName>,
        /// The message of the validator.
        message: String,
    },
    /// The module is valid Wasm, but uses a feature that is not supported in processes.
    #[error(
        "the module uses {feature}, which Exuvia does not support (offset {offset:#x}{}: \
         {message}); {fix}",
        within(function)
    )]
    Unsupported {
        /// The feature's name.
        feature: &'static str,
        /// Offset in the file of its first use.
        offset: usize,
        /// The function whose body contains the offset, if any.
        function: Option<FunctionName>,
        /// The message of the validator.
        message: String,
        /// How to fix it.
        fix: &'static str,
    },
    /// An export or an import's module name begins with the reserved prefix.
    #[error(
        "the {what} `{name}` begins with `exuvia:`, which is reserved for the host; rename it (a \
         module that the host has rewritten already must be loaded in its original form)"
    )]
    Reserved {
        /// "export" or "import module".
        what: &'static str,
        /// The reserved name.
        name: String,
    },
    /// A blocking host call is imported with a type that does not return `i32`.
    #[error(
        "the import `{module}.{name}` must return one i32, but its type here is {found}; declare \
         it as `guest-sdk/abi.md` does"
    )]
    BlockingSignature {
        /// The module name of the import.
        module: String,
        /// The name of the import.
        name: String,
        /// The type of the import in this module.
        found: String,
    },
    /// What the host has to add would exceed a limit on the number of items.
    #[error(
        "the module has too many {what}: {count}, and with those that the host adds more than the limit of {limit}; split the module"
    )]
    TooMany {
        /// The kind of item.
        what: &'static str,
        /// The number of items, with those that the host adds.
        count: u64,
        /// The limit on their number.
        limit: u64,
    },
    /// The compile size of a function exceeds [`crate::MAX_FUNCTION_BYTES`].
    #[error(
        "{function} has {bytes} bytes of code once it is metered, {locals} locals, which count as \
         {local} each, and {calls} calls, which count as {call} each, and {value} for each of the \
         {values} values that they pass and return; the limit is {limit}: split it, or build with \
         optimisation",
        local = crate::LOCAL_BYTES,
        call = crate::CALL_BYTES,
        value = crate::VALUE_BYTES
    )]
    FunctionTooLarge {
        /// The function.
        function: FunctionName,
        /// Bytes of its code once it is metered.
        bytes: u64,
        /// Number of its locals, without parameters.
        locals: u64,
        /// Its calls.
        calls: u64,
        /// Parameters and results of these.
        values: u64,
        /// The limit that it exceeds.
        limit: u64,
    },
    /// A function has more of something than can be compiled in reasonable time and memory.
    #[error(
        "{function} has {count} {what}; the limit is {limit}: split it, or build with optimisation"
    )]
    FunctionTooComplex {
        /// The function.
        function: FunctionName,
        /// What it has too much of.
        what: &'static str,
        /// How much it has.
        count: u64,
        /// How much it may have.
        limit: u64,
    },
    /// The compile size of all functions exceeds [`crate::MAX_CODE_BYTES`].
    #[error(
        "with {function} the module exceeds the limit of {limit} bytes of metered code, where a \
         function counts as {each} more, a local as {local}, a call as {call}, a value that a call \
         passes or returns as {value}, {product} of variables times blocks and {sets} of sets times \
         blocks as one: split it into several modules",
        product = crate::VARIABLES_BY_BLOCKS_PER_BYTE,
        sets = crate::SETS_BY_BLOCKS_PER_BYTE,
        each = crate::FUNCTION_BYTES,
        local = crate::LOCAL_BYTES,
        call = crate::CALL_BYTES,
        value = crate::VALUE_BYTES
    )]
    CodeTooLarge {
        /// The first function that exceeds the limit.
        function: FunctionName,
        /// The limit that the module exceeds.
        limit: u64,
    },
    /// The pass contradicts the validator. This is a bug in the host.
    #[error("bug in Exuvia: {0}; please report it together with the module")]
    Internal(String),
}
