//! Decides which unused versions between a process's version and the current one must
//! stay loaded: `load` of the current version may refuse a state that a version between
//! them accepts, and saves in a newer schema.
//!
//! State is migrated schema by schema. So of each run of versions with the same schema,
//! two are kept: the first, which was written to read the schema before it, and the
//! last, which has everything that was fixed since. If the current version has the
//! schema of the process's version, none in between is kept: the current version reads
//! that schema itself. So however many swaps there have been, at most two versions are
//! kept for each change of the schema, and at most [`MOST`] of a module.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::release::Release;
use crate::version::Version;

/// The most versions of a module that are kept only because state may have to be
/// migrated through them; the newest are kept. The upgrade of a process on an older
/// version fails if the current version does not accept its state.
const MOST: usize = 16;

/// The versions to keep, by module and number.
pub(crate) struct RequiredVersions(HashSet<(Arc<str>, u32), FixedState>);

impl RequiredVersions {
    pub(crate) fn new<A>(
        loaded: &[Arc<Version<A>>],
        current: &Release<A>,
        schema: impl Fn(&A) -> i32,
    ) -> RequiredVersions {
        let mut modules: HashMap<&str, Vec<&Arc<Version<A>>>, FixedState> = HashMap::default();
        for version in loaded {
            modules.entry(&version.module).or_default().push(version);
        }
        let mut steps = RequiredVersions(HashSet::default());
        for (module, mut versions) in modules {
            let Some(current) = current.version(module) else {
                continue;
            };
            versions.sort_unstable_by_key(|version| version.number);
            let chain: Vec<Link> = versions
                .iter()
                .map(|version| Link {
                    number: version.number,
                    schema: schema(&version.artifact),
                })
                .collect();
            let to = Link {
                number: current.number,
                schema: schema(&current.artifact),
            };
            let mut kept: Vec<u32> = versions
                .iter()
                .zip(&chain)
                .filter(|(version, _)| version.process_count() > 0)
                .flat_map(|(_, from)| between(&chain, *from, to))
                .collect();
            kept.sort_unstable();
            kept.dedup();
            let newest = kept.len().saturating_sub(MOST);
            let module = &current.module;
            (steps.0).extend(
                kept[newest..]
                    .iter()
                    .map(|number| (module.clone(), *number)),
            );
        }
        steps
    }

    pub(crate) fn include<A>(&self, version: &Version<A>) -> bool {
        self.0.contains(&(version.module.clone(), version.number))
    }
}

/// The relevant data of a version.
#[derive(Clone, Copy)]
struct Link {
    number: u32,
    schema: i32,
}

/// Returns the numbers of the versions between two through which state may have to be
/// migrated. `chain` is ordered by number.
fn between(chain: &[Link], from: Link, to: Link) -> Vec<u32> {
    if from.schema == to.schema {
        return Vec::new();
    }
    let (low, high) = (from.number.min(to.number), from.number.max(to.number));
    let between: Vec<Link> = (chain.iter())
        .filter(|link| low < link.number && link.number < high)
        .copied()
        .collect();
    between
        .chunk_by(|a, b| a.schema == b.schema)
        .filter(|same| same[0].schema != from.schema)
        .flat_map(|same| [same[0].number, same[same.len() - 1].number])
        .collect()
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;
    use crate::{CodeServer, Digest, VersionRef};

    /// Returns a code server whose artifacts are schemas, with one version for each, and
    /// a process of the first version.
    fn history(schemas: &[i32]) -> (CodeServer<i32>, VersionRef<i32>) {
        let code = CodeServer::new(3);
        commit(&code, schemas[0], 0);
        let first = code.enter("m").unwrap().1;
        for (number, schema) in schemas.iter().enumerate().skip(1) {
            commit(&code, *schema, number);
            code.unload(1, |schema| *schema);
        }
        (code, first)
    }

    fn commit(code: &CodeServer<i32>, schema: i32, number: usize) {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        let version = code.load("m", Digest(digest), schema);
        let base = code.current();
        code.commit(&base, std::slice::from_ref(version.version()), false)
            .unwrap();
    }

    fn numbers(code: &CodeServer<i32>) -> Vec<u32> {
        let versions = code.versions("m");
        versions.iter().map(|version| version.number).collect()
    }

    #[test]
    fn no_version_is_kept_without_another_schema() {
        let (code, first) = history(&[7; 100]);
        assert_eq!(numbers(&code), [1, 99, 100]);
        drop(first);
        code.unload(1, |schema| *schema);
        assert_eq!(numbers(&code), [99, 100]);
    }

    #[test]
    fn the_first_and_last_version_of_each_schema_between_are_kept() {
        let schemas: Vec<i32> = [1, 2, 3].into_iter().flat_map(|it| [it; 10]).collect();
        let (code, first) = history(&schemas);
        // 2 to 10 have the schema of the process's version.
        assert_eq!(numbers(&code), [1, 11, 20, 21, 29, 30]);
        let newest = code.enter("m").unwrap().1;
        let there: Vec<u32> = (code.between(&first, &newest).iter())
            .map(|version| version.number)
            .collect();
        assert_eq!(there, [11, 20, 21, 29]);
        let back: Vec<u32> = (code.between(&newest, &first).iter())
            .map(|version| version.number)
            .collect();
        assert_eq!(back, [29, 21, 20, 11]);
        drop(first);
        code.unload(1, |schema| *schema);
        assert_eq!(numbers(&code), [29, 30]);
    }

    #[test]
    fn the_number_of_versions_kept_is_bounded() {
        let schemas: Vec<i32> = (0..1_000).collect();
        let (code, first) = history(&schemas);
        let kept = numbers(&code);
        // Besides these, the process's version and the current one.
        assert_eq!(kept.len(), MOST + 2, "{kept:?}");
        assert_eq!((kept[0], kept[1]), (1, 1_000 - 16));
        drop(first);
    }

    #[test]
    fn the_rollback_path_is_as_long() {
        let (code, first) = history(&[1, 1]);
        drop(first);
        for (number, schema) in [2, 3].into_iter().enumerate() {
            commit(&code, schema, number + 2);
        }
        let newest = code.enter("m").unwrap().1;
        code.roll_back().unwrap();
        code.roll_back().unwrap();
        code.unload(0, |schema| *schema);
        assert_eq!(numbers(&code), [2, 3, 4]);
        drop(newest);
        code.unload(0, |schema| *schema);
        assert_eq!(numbers(&code), [2]);
    }

    #[test]
    fn rollback_targets_and_held_versions_are_kept_and_none_between() {
        let (code, first) = history(&[1, 2]);
        let held = first.hold();
        drop(first);
        for number in 2..50 {
            commit(&code, i32::try_from(number).unwrap(), number);
            code.unload(1, |schema| *schema);
        }
        assert_eq!(numbers(&code), [1, 49, 50]);
        drop(held);
    }

    #[test]
    fn a_discarded_version_frees_its_number_and_a_used_one_stays() {
        let (code, first) = history(&[1, 1]);
        let digest = Digest([9; 32]);
        let made = code.load("m", digest, 1);
        assert_eq!(made.number, 3);
        let other = code.find("m", digest).unwrap();
        assert!(!code.discard(made));
        assert!(code.discard(other));
        assert!(code.find("m", digest).is_none());
        assert_eq!(code.load("m", digest, 1).number, 3);
        drop(first);
    }

    #[test]
    fn a_commit_considers_only_the_modules_that_it_changes() {
        let code = CodeServer::new(3);
        let load = |module: &str, n: u8| code.load(module, Digest([n; 32]), 0);
        let (a, b) = (load("a", 1), load("b", 1));
        let both = [a.version().clone(), b.version().clone()];
        code.commit(&code.current(), &both, false).unwrap();
        let base = code.current();
        let newer = load("b", 2);
        code.commit(&base, std::slice::from_ref(newer.version()), false)
            .unwrap();
        // Another module: the other commit stays.
        let newer = load("a", 2);
        let release = code
            .commit(&base, std::slice::from_ref(newer.version()), false)
            .unwrap();
        assert_eq!((release.id, release.version("b").unwrap().number), (3, 2));
        // The same module.
        let late = load("b", 3);
        assert!(
            code.commit(&base, std::slice::from_ref(late.version()), false)
                .is_err()
        );
        // Modules that did not change are checked too, if they are part of the commit.
        let parts = [a.version().clone(), late.version().clone()];
        assert!(code.commit(&release, &parts[1..], false).is_ok());
        assert_eq!(code.current().version("a").unwrap().number, 2);
    }
}
