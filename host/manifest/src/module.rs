//! A module: its file, and how that is built.

use std::ops::Range;
use std::path::PathBuf;

use crate::Limits;

/// The maximum size of a module's file in bytes, as the node has it.
pub const MAX_MODULE_BYTES: u64 = 256 << 20;

/// One module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The path of its file: the manifest's folder and the given path.
    pub path: PathBuf,
    /// The limits of its processes.
    pub limits: Limits,
    /// How the memories of its processes lie.
    pub memory_layout: MemoryLayout,
    /// How the file is built; `None`: not by a command of the manifest.
    pub build: Option<Build>,
    /// What [`Manifest::for_development`](crate::Manifest::for_development) uses instead.
    pub(crate) dev: Option<Dev>,
    /// The setting of cargo that moves the file from where the manifest has it.
    pub(crate) moved_by: Option<String>,
    /// The position of the path in the manifest.
    pub(crate) path_span: Range<usize>,
}

/// How the memories of a module's processes lie in the addresses of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryLayout {
    /// Side by side: messages between many processes are fast, and the module's code checks the
    /// bounds of its memory.
    #[default]
    Packed,
    /// Each in 4 GiB of addresses of its own: code needs no such checks.
    Wide,
}

/// Another file of the same module, and how it is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dev {
    pub(crate) path: PathBuf,
    pub(crate) path_span: Range<usize>,
    pub(crate) build: Build,
    pub(crate) moved_by: Option<String>,
}

/// How the file of a module is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// A command for `sh`, run in the manifest's folder.
    pub command: String,
    /// The files and folders that it reads. A change of one of them triggers the command in
    /// development.
    pub sources: Vec<PathBuf>,
}

/// A build command, and everything that it builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildStep {
    /// A command for `sh`.
    pub command: String,
    /// The modules that have this command, in order.
    pub modules: Vec<String>,
    /// The sources of all of them.
    pub sources: Vec<PathBuf>,
}
