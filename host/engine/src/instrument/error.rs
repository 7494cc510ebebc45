//! Why a module was refused. Every message says what is wrong, where, and what
//! to do about it.

use std::fmt;

/// A function for a message: its index and, where the module tells, its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// Index in the module's function index space (imports first).
    pub index: u32,
    /// From the name section, else from an export or import.
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

/// " in function 3 (`f`)", or nothing where the fault is outside of code.
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
    /// The bytes do not begin as Wasm does.
    #[error("not a Wasm module: the file does not begin with `\\0asm`; {hint}")]
    NotWasm {
        /// What the bytes look like instead, and what to do.
        hint: &'static str,
    },
    /// A component where a core module is wanted.
    #[error(
        "this is a Wasm component, not a core module; build a core module (for Rust the target \
         `wasm32-unknown-unknown` or `wasm32-wasip1`, without the component step)"
    )]
    Component,
    /// More bytes than [`super::MAX_MODULE_BYTES`].
    #[error(
        "the module has {bytes} bytes, the limit is {limit}; strip debug information, or load \
         large data at run time"
    )]
    TooLarge {
        /// Size of the input.
        bytes: usize,
        /// The limit it passes.
        limit: usize,
    },
    /// The module is malformed or does not type-check.
    #[error(
        "invalid Wasm at offset {offset:#x}{}: {message}; the file is damaged or its compiler is \
         at fault, so build it again",
        within(function)
    )]
    Invalid {
        /// Where in the file.
        offset: usize,
        /// The function whose body it is in.
        function: Option<FunctionName>,
        /// What the validator says.
        message: String,
    },
    /// The module is valid Wasm, but uses a feature that processes cannot have.
    #[error(
        "the module uses {feature}, which Exuvia does not support (offset {offset:#x}{}: \
         {message}); {fix}",
        within(function)
    )]
    Unsupported {
        /// The feature's name.
        feature: &'static str,
        /// Where in the file it is used first.
        offset: usize,
        /// The function whose body it is in.
        function: Option<FunctionName>,
        /// What the validator says.
        message: String,
        /// What to change.
        fix: &'static str,
    },
    /// An export or an import's module name begins with the reserved prefix.
    #[error(
        "the {what} `{name}` begins with `exuvia:`, which is kept for the host; rename it (a \
         module that the host has rewritten already must be loaded in its original form)"
    )]
    Reserved {
        /// "export" or "import module".
        what: &'static str,
        /// The name in question.
        name: String,
    },
    /// A blocking host call is imported with a type that does not return `i32`.
    #[error(
        "the import `{module}.{name}` must return one i32, but its type here is {found}; declare \
         it as `guest-sdk/abi.md` does"
    )]
    BlockingSignature {
        /// The import's module.
        module: String,
        /// The import's name.
        name: String,
        /// Its type in this module.
        found: String,
    },
    /// No room is left for what the host has to add.
    #[error(
        "the module has so many {what} ({count}) that those which the host adds pass the limit \
         of {limit}; split the module"
    )]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there would be.
        count: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A function is more to compile than [`super::MAX_FUNCTION_BYTES`].
    #[error(
        "{function} has {bytes} bytes of code once it is metered, and {locals} locals, which \
         count as {each} each; the limit is {limit}: split it, or build with optimisation",
        each = super::LOCAL_BYTES
    )]
    FunctionTooLarge {
        /// The function.
        function: FunctionName,
        /// Its size afterwards.
        bytes: u64,
        /// Its locals, without parameters.
        locals: u64,
        /// The limit it passes.
        limit: u64,
    },
    /// All functions are more to compile than [`super::MAX_CODE_BYTES`].
    #[error(
        "with {function} the module passes the limit of {limit} bytes of code that it may have \
         once it is metered, where a local counts as {each}: split it into several modules",
        each = super::LOCAL_BYTES
    )]
    CodeTooLarge {
        /// The first function that is too much.
        function: FunctionName,
        /// The limit it passes.
        limit: u64,
    },
    /// The pass contradicts the validator. This is a fault of the host.
    #[error("fault in the host: {0}; please report it together with the module")]
    Internal(String),
}
