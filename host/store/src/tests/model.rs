//! Any sequence of commits, pins, outcomes and starts against a list.

use std::collections::HashSet;

use exuvia_code::Digest;
use proptest::prelude::*;

use super::{digest, module, record};
use crate::{MIN_RELEASES, Origin, Outcome, ReleaseRecord, Retention, Store, StoreError};

const KEPT: Retention = Retention {
    releases: 10,
    bytes: 1_500_000,
};

#[derive(Clone, Debug)]
enum Step {
    Commit {
        kinds: Vec<u8>,
        origin: Origin,
    },
    /// A release was written and did not run.
    Again {
        kind: u8,
    },
    Pin {
        back: u64,
        on: bool,
    },
    Complete,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = prop::collection::vec(1..8_u8, 1..4);
    let origin = prop_oneof![
        3 => Just(Origin::Deploy),
        1 => Just(Origin::Rollback(1)),
        1 => Just(Origin::Failure(2)),
    ];
    prop_oneof![
        6 => (kinds, origin).prop_map(|(kinds, origin)| Step::Commit { kinds, origin }),
        1 => (1..8_u8).prop_map(|kind| Step::Again { kind }),
        2 => (0..4_u64, any::<bool>()).prop_map(|(back, on)| Step::Pin { back, on }),
        1 => Just(Step::Complete),
        1 => Just(Step::Restart),
    ]
}

/// What a store should have, oldest first.
#[derive(Default)]
struct Model {
    log: Vec<(ReleaseRecord, bool)>,
}

impl Model {
    fn modules(&self) -> HashSet<Digest> {
        let releases = self.log.iter();
        let modules = releases.flat_map(|(release, _)| release.modules.values());
        modules.copied().collect()
    }

    fn prune(&mut self) {
        loop {
            let unpinned = self.log.iter().filter(|(_, pinned)| !pinned).count();
            let used = self.modules();
            let all = (1..8).map(module);
            let bytes: usize = all
                .filter(|bytes| used.contains(&digest(bytes)))
                .map(|bytes| bytes.len())
                .sum();
            let old = self.log.len().saturating_sub(MIN_RELEASES);
            let oldest = self.log[..old].iter().position(|(_, pinned)| !pinned);
            match oldest {
                Some(oldest) if unpinned > KEPT.releases || bytes as u64 > KEPT.bytes => {
                    self.log.remove(oldest);
                }
                _ => return,
            }
        }
    }

    fn commit(&mut self, record: ReleaseRecord) {
        self.log.retain(|(other, _)| other.number < record.number);
        let undoes = !matches!(record.origin, Origin::Deploy | Origin::Files);
        if undoes
            && let Some((before, _)) = self.log.last_mut()
            && before.number + 1 == record.number
            && !matches!(before.outcome, Outcome::RolledBack(_))
        {
            before.outcome = Outcome::RolledBack(record.number);
        }
        self.log.push((record, false));
        self.prune();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_store_has_what_a_list_has(steps in prop::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/store");
        let mut store = Store::open(&path, "app", KEPT).unwrap();
        let mut model = Model::default();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Commit { kinds, origin } => {
                    number += 1;
                    let modules: Vec<_> = ["a", "b", "c"].into_iter().zip(kinds.clone()).collect();
                    let bytes: Vec<_> = kinds.iter().map(|kind| module(*kind)).collect();
                    let given: Vec<_> = bytes.iter().map(|it| (digest(it), it.as_slice())).collect();
                    let record = record(number, origin, &modules);
                    let _staged = store.stage(&given).unwrap();
                    store.commit(std::slice::from_ref(&record), &HashSet::new()).unwrap();
                    drop(_staged);
                    model.commit(record);
                }
                Step::Again { kind } if number > 0 => {
                    let bytes = module(kind);
                    let record = record(number, Origin::Failure(number), &[("a", kind)]);
                    let _staged = store.stage(&[(digest(&bytes), &bytes)]).unwrap();
                    store.commit(std::slice::from_ref(&record), &HashSet::new()).unwrap();
                    model.commit(record);
                }
                Step::Again { .. } => {}
                Step::Pin { back, on } => {
                    let of = number.saturating_sub(back);
                    let found = model.log.iter_mut().find(|(release, _)| release.number == of);
                    match (store.pin(of, on), found) {
                        (Ok(changed), Some((_, pinned))) => {
                            prop_assert_eq!(changed, *pinned != on);
                            *pinned = on;
                        }
                        (Err(StoreError::NoRelease(none)), None) => prop_assert_eq!(none, of),
                        (done, _) => prop_assert!(false, "{:?}", done),
                    }
                }
                Step::Complete => {
                    let outcome = Outcome::Complete { upgraded: 5, failed: 1, reverted: 0 };
                    store.set_outcome(number, outcome).unwrap();
                    if let Some((last, _)) = model.log.last_mut() {
                        last.outcome = outcome;
                    }
                }
                Step::Restart => {
                    drop(store);
                    store = Store::open(&path, "app", KEPT).unwrap();
                }
            }
            let newest_first: Vec<_> = model.log.iter().rev().cloned().collect();
            prop_assert_eq!(store.releases().unwrap(), newest_first);
            prop_assert_eq!(store.head().unwrap(), model.log.last().map(|(last, _)| last.clone()));
            let has = model.modules();
            for kind in 1..8 {
                let bytes = module(kind);
                let wanted = has.contains(&digest(&bytes));
                let size = store.sizes().unwrap().get(&digest(&bytes)).copied();
                prop_assert_eq!(size, wanted.then_some(bytes.len() as u64));
                match store.module(digest(&bytes)) {
                    Ok(found) => prop_assert!(wanted && found == bytes),
                    Err(StoreError::NoModule(_)) => prop_assert!(!wanted, "module {} is gone", kind),
                    Err(error) => prop_assert!(false, "{}", error),
                }
            }
        }
    }
}
