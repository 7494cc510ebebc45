//! Why a module cannot be loaded, or a swap is refused. Every message says what is wrong
//! and how to fix it; the caller adds the file's name.

use exuvia_process::Pid;

use exuvia_instrument::InstrumentError;

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Processes cannot be made from the module.
    #[error(transparent)]
    Instrument(#[from] InstrumentError),
    /// The module is Wasm text that cannot be assembled.
    #[error("the text cannot be assembled: {0}")]
    Text(String),
    /// The component cannot be made a module.
    #[error(transparent)]
    Component(#[from] exuvia_component::ComponentError),
    /// A required export is missing or has the wrong type.
    #[error("the module has no export `{name}`: {fix}")]
    Export {
        /// The export.
        name: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// An export that must be constant is a mutable global.
    #[error(
        "the export `{name}` is a mutable global: make it immutable (in WAT `i32` for `(mut i32)`), or export a function () -> i32"
    )]
    MutableExport {
        /// The export.
        name: &'static str,
    },
    /// The module declares another ABI version.
    #[error(
        "the module is built for ABI version {found}, but this host supports version {served}; build it with a matching SDK"
    )]
    Abi {
        /// The module's version.
        found: i32,
        /// The version that the host serves.
        served: i32,
    },
    /// The module imports what the host does not provide.
    #[error("the module imports `{module}.{name}`, which does not exist here; {fix}")]
    Import {
        /// The import's module.
        module: String,
        /// The import's name.
        name: String,
        /// What to do.
        fix: String,
    },
    /// The compiler rejected the module.
    #[error("the module does not compile: {0}")]
    Compile(String),
    /// Start, `_initialize` or `warm_up` failed.
    #[error("the module's initialization ({stage}) failed: {reason}")]
    Initialization {
        /// The function that failed.
        stage: &'static str,
        /// The reason.
        reason: String,
    },
    /// The system has no memory, mappings or addresses for an instance of the module.
    #[error("not enough memory or mappings to initialize the module ({reason}): {fix}")]
    OutOfMemory {
        /// The system's error.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// The module's initial memory is larger than any process may have.
    #[error(
        "the module starts with {wanted} bytes of memory, the limit for processes is {allowed}; raise `limits.memory` or build it with a smaller initial memory"
    )]
    Memory {
        /// The initial memory in bytes.
        wanted: u64,
        /// The limit in bytes.
        allowed: u64,
    },
    /// Its tables have more entries than any process may have.
    #[error(
        "the module's tables start with {wanted} entries, the limit for processes is {allowed}; build it with smaller tables (a table holds functions: keep data in memory)"
    )]
    Tables {
        /// Entries that they begin with.
        wanted: u64,
        /// Entries allowed.
        allowed: u64,
    },
}

/// Why a process's state cannot be upgraded from one version to another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// There is no path from the old version to the new one.
    #[error(
        "state cannot be upgraded from {from} to {to}: {not_migrated}; nor can it be reused: {not_reused}"
    )]
    NoPath {
        /// The old version.
        from: String,
        /// The new version.
        to: String,
        /// Why the image cannot be reused.
        not_reused: String,
        /// Why `save` and `load` cannot migrate the state.
        not_migrated: String,
    },
    /// No frame was free.
    #[error("no frame was free for the upgrade; try again when fewer processes are busy")]
    NoFrame,
}

impl UpgradeError {
    /// Returns the main cause, without the other paths that were tried.
    pub fn cause(&self) -> String {
        match self {
            UpgradeError::NoPath { not_migrated, .. } => not_migrated.clone(),
            UpgradeError::NoFrame => self.to_string(),
        }
    }

    /// Returns why the image was not reused, which in most cases is expected.
    pub fn not_reused(&self) -> Option<&str> {
        match self {
            UpgradeError::NoPath { not_reused, .. } => Some(not_reused),
            UpgradeError::NoFrame => None,
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
    /// The reason.
    pub error: Box<UpgradeError>,
    /// What one of the two modules lacks, if that is the reason.
    pub missing: Option<MissingExport>,
    /// The file of its new code, if that is known.
    pub file: Option<String>,
}

/// What a module must export for its processes to be upgraded, and does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingExport {
    /// The running code exports no `save`.
    Save,
    /// The new code exports no `load`.
    Load,
}

impl VerifyError {
    /// Returns the process, with its name if it has one.
    pub fn process(&self) -> String {
        named(&self.pid, &self.name)
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        let deploy = match &self.file {
            Some(file) => format!(
                "`exuvia deploy --fresh {} --name {}`",
                shell_word(file),
                shell_word(&self.module)
            ),
            None => "`exuvia deploy --fresh`, followed by the file or the app".to_owned(),
        };
        match self.missing {
            Some(MissingExport::Save) => format!(
                "the running code cannot save its state: discard it with {deploy}, or deploy when its \
                 processes have exited"
            ),
            Some(MissingExport::Load) => {
                format!("export `load` from the new module, or discard this state with {deploy}")
            }
            None => format!("fix `save` or `load`, or discard this state with {deploy}"),
        }
    }
}

/// A word as a shell takes it.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./+@%=:,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn named(pid: &Pid, name: &Option<String>) -> String {
    match name {
        Some(name) => format!("{pid} ({name})"),
        None => pid.to_string(),
    }
}

/// Returns the message of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

#[cfg(test)]
mod tests {
    use exuvia_process::Pid;

    use super::{MissingExport, UpgradeError, VerifyError};

    #[test]
    fn the_help_names_the_whole_command_if_the_file_is_known() {
        let error = |missing, file: Option<&str>| VerifyError {
            pid: Pid::NONE,
            name: None,
            module: "shop".into(),
            error: Box::new(UpgradeError::NoFrame),
            missing,
            file: file.map(str::to_owned),
        };
        for missing in [None, Some(MissingExport::Save), Some(MissingExport::Load)] {
            for (file, command) in [
                (
                    None,
                    "`exuvia deploy --fresh`, followed by the file or the app",
                ),
                (
                    Some("/out/debug/shop.wasm"),
                    "`exuvia deploy --fresh /out/debug/shop.wasm --name shop`",
                ),
                (
                    Some("it's here/$shop.wasm"),
                    "`exuvia deploy --fresh 'it'\\''s here/$shop.wasm' --name shop`",
                ),
            ] {
                let help = error(missing, file).help();
                assert!(help.contains(command), "{help}");
            }
        }
    }
}
