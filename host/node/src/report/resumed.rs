//! What a start went on with.

use serde::Serialize;

/// A start that goes on with a release of the store.
#[derive(Clone, Debug, Serialize)]
pub struct Resumed {
    /// The release that the node starts with.
    pub release: u64,
    /// The last release of the store, or the one that was asked for.
    pub stored: u64,
    /// When that was committed, in milliseconds since 1970.
    pub at: u64,
    /// The modules that are not what both their file and the store have.
    pub modules: Vec<ResumedModule>,
}

/// Where a module comes from whose file has other bytes than the release.
#[derive(Clone, Debug, Serialize)]
pub struct ResumedModule {
    /// The module.
    pub name: String,
    /// Why it is the one or the other.
    pub from: Choice,
}

/// Why a module comes from the store or from its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// From the store: its file has not changed since the node last read it.
    FileUnchanged,
    /// From the store: there is no file.
    FileMissing,
    /// From the store: its file cannot be read.
    FileUnreadable,
    /// From the store, as was asked for.
    Asked,
    /// From its file: it was edited since the node last read it.
    FileEdited,
    /// From its file: the release has no such module.
    NotInRelease,
    /// From nowhere: it came from a file, and the manifest has it no more.
    Dropped,
}
