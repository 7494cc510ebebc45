//! At each change of the disk in turn: it is full, or it loses power. The last release that was committed is whole, and
//! the next commit works.

use std::collections::HashSet;
use std::path::Path;

use proptest::prelude::*;

use super::disk::{Disk, Fault, Stays};
use super::{digest, module, record};
use crate::{MIN_RELEASES, Origin, ReleaseRecord, Retention, Store, StoreError};

/// So little that commits also remove.
const KEPT: Retention = Retention {
    releases: 1,
    bytes: 0,
};
/// So many releases are there before.
const BEFORE: u8 = MIN_RELEASES as u8;
/// The release that the disk fails for, and of what its modules consist.
const NEXT: u64 = BEFORE as u64 + 1;
const KIND: u8 = 5;

fn open(disk: &Disk) -> Result<Store, StoreError> {
    Store::open_by(Path::new("store"), "app", disk.open(), KEPT)
}

fn commit(store: &Store, record: &ReleaseRecord, kinds: &[u8]) -> Result<(), StoreError> {
    let modules: Vec<Vec<u8>> = kinds.iter().map(|kind| module(*kind)).collect();
    let given: Vec<_> = modules
        .iter()
        .map(|bytes| (digest(bytes), bytes.as_slice()))
        .collect();
    let _staged = store.stage(&given)?;
    store.commit(std::slice::from_ref(record), &HashSet::new())
}

/// A disk with a store of as many releases as it keeps.
fn filled() -> Disk {
    let disk = Disk::default();
    let store = open(&disk).unwrap();
    for number in 1..=BEFORE {
        let kind = number % 4 + 1;
        let release = record(number.into(), Origin::Files, &[("one", kind), ("two", 9)]);
        commit(&store, &release, &[kind, 9]).unwrap();
    }
    disk
}

/// The last release; the modules of all releases are there.
fn whole(store: &Store) -> ReleaseRecord {
    for (release, _) in store.releases().unwrap() {
        for module in release.modules.values() {
            store.module(*module).unwrap();
        }
    }
    store.head().unwrap().unwrap()
}

fn next() -> ReleaseRecord {
    record(NEXT, Origin::Deploy, &[("one", KIND), ("two", 9)])
}

/// Where the changes of the commit of the next release begin and end.
fn changes() -> (usize, usize) {
    let disk = filled();
    let store = open(&disk).unwrap();
    let begin = disk.changes();
    commit(&store, &next(), &[KIND]).unwrap();
    (begin, disk.changes())
}

#[test]
fn a_disk_that_fails_at_any_moment_leaves_the_last_release() {
    let (begin, end) = changes();
    assert!(end > begin + 5, "{begin} to {end}");
    for fault in [Fault::Full, Fault::Gone] {
        for at in begin..end {
            let disk = filled();
            let store = open(&disk).unwrap();
            assert_eq!(disk.changes(), begin);
            disk.fail(at, fault);
            let done = commit(&store, &next(), &[KIND]);
            disk.recover();
            let error = done.expect_err("a change that fails is needed");
            let why = error.to_string();
            assert!(why.contains("store cannot be written: "), "{why}");
            // The same store goes on. A release whose last sync failed may be there; it is removed.
            let head = whole(&store);
            assert!(head.number == NEXT - 1 || head == next(), "change {at}");
            store.end_with(NEXT - 1).unwrap();
            assert_eq!(whole(&store).number, NEXT - 1);
            commit(&store, &next(), &[KIND]).unwrap();
            assert_eq!(whole(&store), next());
            drop(store);
            assert_eq!(whole(&open(&disk).unwrap()), next());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Power is cut at a change; of what was not synced, any part is on the disk.
    #[test]
    fn a_power_cut_leaves_the_last_release(
        at in any::<prop::sample::Index>(),
        stays in prop::collection::vec(0..4_u8, 64),
    ) {
        let (begin, end) = changes();
        let disk = filled();
        let store = open(&disk).unwrap();
        disk.fail(begin + at.index(end - begin + 1), Fault::Gone);
        let is_done = commit(&store, &next(), &[KIND]).is_ok();
        drop(store);
        disk.cut(|position| match stays[position % stays.len()] {
            0 => Stays::No,
            1 => Stays::Half,
            _ => Stays::Yes,
        });
        let store = open(&disk).unwrap();
        let head = whole(&store);
        prop_assert!(head == next() || head.number == NEXT - 1 && !is_done);
        commit(&store, &record(NEXT + 1, Origin::Files, &[("one", 7)]), &[7]).unwrap();
        prop_assert_eq!(whole(&store).number, NEXT + 1);
    }
}
