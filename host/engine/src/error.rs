//! Why a module cannot be loaded, or a swap is refused. Every message says
//! what is wrong and what to do about it; the caller adds the file's name.

use exuvia_process::Pid;

use crate::instrument::InstrumentError;

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It is no module that processes can be made of.
    #[error(transparent)]
    Instrument(#[from] InstrumentError),
    /// It is Wasm text, and cannot be assembled.
    #[error("the text does not assemble: {0}")]
    Text(String),
    /// A required export is missing or of the wrong type.
    #[error("the module has no export `{name}`: {fix}")]
    Export {
        /// The export.
        name: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// An export that says something of the module once and for all may change.
    #[error(
        "the export `{name}` is a mutable global: make it immutable (in WAT `i32` for `(mut i32)`), or export a function () -> i32"
    )]
    MutableExport {
        /// The export.
        name: &'static str,
    },
    /// It states another ABI version.
    #[error(
        "the module is built for ABI version {found}, this host serves version {served}; build it with a matching SDK"
    )]
    Abi {
        /// What the module says.
        found: i32,
        /// What the host serves.
        served: i32,
    },
    /// It imports what the host does not serve.
    #[error("the module imports `{module}.{name}`, which does not exist here; {fix}")]
    Import {
        /// The import's module.
        module: String,
        /// The import's name.
        name: String,
        /// What to do.
        fix: String,
    },
    /// The compiler refused it.
    #[error("the module does not compile: {0}")]
    Compile(String),
    /// Start, `_initialize` or `warm_up` failed.
    #[error("the module's initialization ({stage}) failed: {reason}")]
    Initialization {
        /// Which function.
        stage: &'static str,
        /// Why.
        reason: String,
    },
    /// The system has no room for an instance of it.
    #[error("the system has no room to initialize the module ({reason}): {fix}")]
    NoRoom {
        /// What the system said.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// Its memory is larger than any process may have.
    #[error(
        "the module wants {wanted} bytes of memory, processes may have {allowed}; raise `limits.memory` or build it with a smaller initial memory"
    )]
    Memory {
        /// Bytes it begins with.
        wanted: u64,
        /// Bytes allowed.
        allowed: u64,
    },
}

/// Why a process's state cannot cross from one version to another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrossError {
    /// No way is open.
    #[error(
        "state cannot cross from {from} to {to}: {not_migrated}; and it is not carried because {not_carried}"
    )]
    NoPath {
        /// The old version.
        from: String,
        /// The new one.
        to: String,
        /// Why the image cannot be taken over.
        not_carried: String,
        /// Why `save` and `load` do not do.
        not_migrated: String,
    },
    /// No frame was free.
    #[error("no frame was free to cross in; try again when fewer processes are busy")]
    NoFrame,
}

impl CrossError {
    /// The cause alone, without what else was tried.
    pub fn cause(&self) -> String {
        match self {
            CrossError::NoPath { not_migrated, .. } => not_migrated.clone(),
            CrossError::NoFrame => self.to_string(),
        }
    }

    /// Why the image was not taken over, which mostly is as it should be.
    pub fn not_carried(&self) -> Option<&str> {
        match self {
            CrossError::NoPath { not_carried, .. } => Some(not_carried),
            CrossError::NoFrame => None,
        }
    }
}

/// Why a swap was refused before the commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("process {}: {error}", named(.pid, .name))]
pub struct VerifyError {
    /// The process whose copy failed.
    pub pid: Pid,
    /// Its registered name.
    pub name: Option<String>,
    /// Its module.
    pub module: String,
    /// Why.
    pub error: Box<CrossError>,
    /// What to do about it, if that is known better than for any other.
    pub fix: Option<&'static str>,
}

impl VerifyError {
    /// The process, with its name if it has one.
    pub fn process(&self) -> String {
        named(&self.pid, &self.name)
    }
}

fn named(pid: &Pid, name: &Option<String>) -> String {
    match name {
        Some(name) => format!("{pid} ({name})"),
        None => pid.to_string(),
    }
}
