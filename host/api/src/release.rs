//! Releases: what a deployment asks for, and what becomes of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The new bytes of a module: a part of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The module's name in the manifest; the name of the part.
    pub name: String,
    /// The origin of the bytes, for messages; the part's file name.
    pub source: String,
    /// The Wasm module.
    pub bytes: Vec<u8>,
}

/// How a swap treats processes that cannot be upgraded because they never return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loops {
    /// Refuse the swap.
    #[default]
    Refuse,
    /// Exempt them: they stay on their version.
    Leave,
    /// Kill them.
    Kill,
}

impl Loops {
    /// Returns its name, as in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Leave => "leave",
            Self::Kill => "kill",
        }
    }
}

/// The options of a swap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployOptions {
    /// Whether state that can be neither reused nor migrated is discarded; by default the swap
    /// is refused then.
    #[serde(default)]
    pub fresh: bool,
    /// How processes that never return are treated.
    #[serde(default)]
    #[schemars(extend("default" = Loops::default().name()))]
    pub loops: Loops,
    /// Whether nothing is committed: the modules are loaded and verified, and the response says what would happen.
    #[serde(default)]
    pub plan: bool,
    /// What the log of releases says of it; of a rollback to a release that is still loaded, nothing.
    #[serde(default)]
    pub message: String,
}

/// The options of a rollback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackOptions {
    /// The release whose modules are deployed once more; by default those before the current release are restored.
    pub to: Option<u64>,
    /// As of a deployment, for a release that was committed before the start of the node or that is named.
    #[serde(default)]
    pub fresh: bool,
    /// As of a deployment, likewise.
    #[serde(default)]
    #[schemars(extend("default" = Loops::default().name()))]
    pub loops: Loops,
    /// As of a deployment, likewise.
    #[serde(default)]
    pub message: String,
}

/// A completed swap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Swap {
    /// The current release.
    pub release: u64,
    /// Whether the release is new; else nothing had changed.
    pub changed: bool,
    /// One line for people.
    pub line: String,
    /// The fields of the event `swap`.
    #[schemars(with = "Map<String, Value>")]
    pub report: Value,
}

/// A release: one version of each module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Release {
    /// Its number; the first is 1.
    pub release: u64,
    /// Whether it is the current one.
    pub current: bool,
    /// The release that chose these versions: this one, or the one that was rolled back to.
    pub origin: u64,
    /// The versions, by name of the module.
    pub modules: Vec<ReleaseModule>,
    /// What the release store has of it; `null`: the node has no store, or could not write it so far.
    pub logged: Option<Logged>,
}

/// What the release store has of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Logged {
    /// When it was committed, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it came from.
    pub from: ReleaseOrigin,
    /// Who deployed it: `uid` and the number of the system's user; empty: the node.
    pub author: String,
    /// What its author says of it.
    pub message: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether it is kept however many releases follow.
    pub pinned: bool,
}

/// What a release came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseOrigin {
    /// The module files of the app.
    Files,
    /// A deployment.
    Deploy,
    /// A rollback by an operator; `origin` is the release whose versions it restores.
    Rollback,
    /// A rollback by the node, since new code failed.
    Failure,
}

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// It was committed; no more is known.
    Committed,
    /// No process was left to be upgraded to it.
    Complete {
        /// The number of processes that were upgraded.
        upgraded: u64,
        /// Those whose upgrade failed.
        failed: u64,
        /// Those that old code took over in probation.
        reverted: u64,
    },
    /// A later release has undone it.
    RolledBack {
        /// The number of that release.
        by: u64,
    },
}

/// What became of a pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pinned {
    /// The release.
    pub release: u64,
    /// Whether it is pinned now.
    pub pinned: bool,
    /// Whether that is a change.
    pub changed: bool,
}

/// The version of a module in a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseModule {
    /// The module.
    pub name: String,
    /// Its version; `null`: it is not loaded.
    pub version: Option<u64>,
    /// The first digits of the digest of its bytes.
    pub digest: String,
    /// The length of its file in bytes, if the release store has it.
    pub bytes: Option<u64>,
}

/// The current release and those that can be rolled back to, newest first: all of the release store, or without one those
/// whose code is still loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseList {
    /// The releases.
    pub items: Vec<Release>,
}
