//! What is kept: a store does not grow for ever.

use std::collections::HashMap;

use exuvia_code::Digest;

use crate::record::ReleaseRecord;

/// How many releases may be pinned.
pub const MAX_PINS: usize = 64;

/// The fewest releases that stay: more than a node can roll back to one after the other without its store.
pub const MIN_RELEASES: usize = 8;

/// Which releases a store keeps besides those that are pinned. The last [`MIN_RELEASES`] always stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The number of releases.
    pub releases: usize,
    /// Bytes of all their modules, pinned ones included.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            releases: 20,
            bytes: 1 << 30,
        }
    }
}

/// Returns the numbers of the releases that go. `log` is newest first, each with whether it is pinned; `sizes` are those
/// of the modules.
pub(crate) fn excess(
    log: &[(ReleaseRecord, bool)],
    sizes: &HashMap<Digest, u64>,
    retention: Retention,
) -> Vec<u64> {
    let mut users: HashMap<Digest, u64> = HashMap::new();
    for digest in log.iter().flat_map(|(release, _)| release.modules.values()) {
        *users.entry(*digest).or_default() += 1;
    }
    let size = |digest: &Digest| sizes.get(digest).copied().unwrap_or(0);
    let mut bytes: u64 = users.keys().map(size).sum();
    let mut left = log.iter().filter(|(_, pinned)| !pinned).count();
    let mut go = Vec::new();
    for (release, pinned) in log.iter().skip(MIN_RELEASES).rev() {
        if *pinned {
            continue;
        }
        if left <= retention.releases && bytes <= retention.bytes {
            break;
        }
        left -= 1;
        go.push(release.number);
        for digest in release.modules.values() {
            if let Some(users) = users.get_mut(digest) {
                *users -= 1;
                if *users == 0 {
                    bytes -= size(digest);
                }
            }
        }
    }
    go
}
