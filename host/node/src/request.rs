//! What a deployment is asked to do.

use exuvia_code::Digest;

/// Returns the digest of a module's bytes, by which it is known.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// A module to deploy.
#[derive(Clone, Debug)]
pub struct ModuleBytes {
    /// Its name in the release.
    pub name: String,
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// Where the bytes come from, for messages.
    pub source: String,
    /// When the change was noticed, by the node's clock; `None`: at the call.
    pub noticed: Option<u64>,
}

/// What happens to loop processes that do not take `UPGRADE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loops {
    /// The swap is rejected.
    #[default]
    Refuse,
    /// They are exempt: they stay on their version until they exit.
    Leave,
    /// They are killed after the commit.
    Kill,
}

/// What a deployment may do with state and processes that cannot be upgraded.
#[derive(Clone, Debug, Default)]
pub struct DeployOptions {
    /// Discards state that cannot be upgraded.
    pub fresh: bool,
    /// What to do with loop processes that new code would never reach.
    pub loops: Loops,
    /// Whether nothing is committed: all is done that comes before, and what it would be is reported.
    pub plan: bool,
    /// How the modules were built, if they were built for this deployment.
    pub made: Option<BuildInfo>,
    /// Whether the modules were read from the module files of the app.
    pub from_files: bool,
    /// Who deploys, for the log of releases.
    pub author: String,
    /// What the author says of it, for the log of releases.
    pub message: String,
    /// The earlier release whose modules these are, if it is to be restored.
    pub restores: Option<u64>,
}

/// How modules that are swapped in were built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildInfo {
    /// The files whose change triggered the build.
    pub changed: Vec<String>,
    /// Milliseconds that the builds took.
    pub build_ms: f64,
}
