//! The store against a naive model, and against disks that fail or lose what was not synced.

mod disk;
mod faults;
mod model;
mod opening;

use std::collections::BTreeMap;

use exuvia_code::Digest;

use crate::{Origin, Outcome, ReleaseRecord};

fn digest(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// The bytes of a module: some are longer than a part.
fn module(kind: u8) -> Vec<u8> {
    vec![kind; usize::from(kind) * 100_000 + 3]
}

fn record(number: u64, origin: Origin, modules: &[(&str, u8)]) -> ReleaseRecord {
    let modules = modules.iter();
    let modules = modules.map(|(name, kind)| ((*name).to_owned(), digest(&module(*kind))));
    ReleaseRecord {
        number,
        at: 1_700_000_000_000 + number,
        origin,
        author: "someone".into(),
        message: "why".into(),
        modules: modules.collect(),
        files: BTreeMap::from([("one".to_owned(), digest(b"a file"))]),
        outcome: Outcome::Committed,
    }
}
