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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
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
}

/// The version of a module in a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseModule {
    /// The module.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// The first digits of the digest of its bytes.
    pub digest: String,
}

/// The current release and those that can be rolled back to, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseList {
    /// The releases.
    pub items: Vec<Release>,
}
