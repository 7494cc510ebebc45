//! What the log has of a release. In the file it is JSON, so that a field can be added without a new format.

use std::collections::BTreeMap;

use exuvia_code::Digest;
use serde::{Deserialize, Serialize};

/// A release in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Its number: that of the release before it and one, over all starts of the node.
    pub number: u64,
    /// When it was committed, in milliseconds since 1970.
    pub at: u64,
    /// What it came from.
    pub origin: Origin,
    /// Who deployed it; empty: the node itself.
    #[serde(default)]
    pub author: String,
    /// What its author says of it.
    #[serde(default)]
    pub message: String,
    /// The digests of the bytes of all its modules, by name.
    #[serde(with = "digests")]
    pub modules: BTreeMap<String, Digest>,
    /// The module files of the app as the node last read them, by module. A file with another digest was edited since.
    #[serde(default, with = "digests")]
    pub files: BTreeMap<String, Digest>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a release came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The module files of the app.
    Files,
    /// A deployment.
    Deploy,
    /// The release of this number, to which an operator has rolled back.
    Rollback(u64),
    /// The release of this number, to which the node has rolled back by itself, since new code failed.
    Failure(u64),
}

/// What became of a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was committed; no more is known.
    #[default]
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
    /// The release of this number has undone it.
    RolledBack(u64),
}

/// A map to digests.
mod digests {
    use super::{BTreeMap, Digest};
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<String, Digest>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(map.iter().map(|(name, digest)| (name, digest.to_string())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, Digest>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(from)?;
        let parsed = texts.into_iter().map(|(name, text)| {
            let digest = Digest::parse(&text);
            digest
                .map(|digest| (name, digest))
                .ok_or_else(|| serde::de::Error::custom("a digest has 64 hexadecimal digits"))
        });
        parsed.collect()
    }
}
