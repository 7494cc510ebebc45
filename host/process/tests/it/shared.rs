//! Groups and tables against naive models, and the termination of their processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exuvia_abi::limits;
use exuvia_process::{Access, Limits, Payload, Pid, TableError};
use proptest::prelude::*;

use crate::world::World;

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Join(usize, usize),
    Leave(usize, usize),
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (process, name) = (0..6_usize, 0..NAMES.len());
    prop_oneof![
        4 => (process.clone(), name.clone()).prop_map(|(p, n)| Step::Join(p, n)),
        2 => (process.clone(), name).prop_map(|(p, n)| Step::Leave(p, n)),
        1 => process.prop_map(Step::End),
    ]
}

fn end(world: &mut World, pid: Pid) {
    let signal = exuvia_process::Signal::Kill { from: Pid::NONE };
    world.system.signal(pid, signal).expect("it lives");
    world.run();
    assert!(!world.system.is_alive(pid));
}

proptest! {
    #[test]
    fn groups_are_sets_of_live_processes(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let pids: [Pid; 6] = world.puppets();
        let mut alive: BTreeSet<usize> = (0..6).collect();
        let mut model: BTreeMap<usize, BTreeSet<Pid>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Join(process, name) => {
                    let joined = world.system.join(NAMES[name], pids[process]);
                    prop_assert_eq!(joined.is_ok(), alive.contains(&process));
                    if joined.is_ok() {
                        let new = model.entry(name).or_default().insert(pids[process]);
                        prop_assert_eq!(joined, Ok(new));
                    }
                }
                Step::Leave(process, name) => {
                    let was = world.system.groups.leave(NAMES[name], pids[process]);
                    let model = model.entry(name).or_default();
                    prop_assert_eq!(was, model.remove(&pids[process]));
                }
                Step::End(process) => {
                    if alive.remove(&process) {
                        end(&mut world, pids[process]);
                        model.values_mut().for_each(|members| {
                            members.remove(&pids[process]);
                        });
                    }
                }
            }
            for (number, name) in NAMES.iter().enumerate() {
                let members = world.system.groups.members(name);
                let found: BTreeSet<Pid> = members.iter().copied().collect();
                prop_assert_eq!(found.len(), members.len());
                prop_assert_eq!(&found, model.entry(number).or_default());
            }
        }
        let there: BTreeSet<Arc<str>> =
            world.system.groups.all().into_iter().map(|(name, _)| name).collect();
        let expected: BTreeSet<Arc<str>> = model
            .iter()
            .filter(|(_, members)| !members.is_empty())
            .map(|(number, _)| NAMES[*number].into())
            .collect();
        prop_assert_eq!(there, expected);
    }

    /// Rows and bytes of one table against a map, with a limit that is often reached.
    #[test]
    fn a_table_is_a_map_within_its_limit(
        steps in prop::collection::vec((0..4_u8, 0..6_u8, 0..200_usize), 1..80),
    ) {
        const MOST: u64 = 700;
        let mut world = World::new();
        let owner = world.puppet();
        let limits = Limits { tables: MOST, ..Limits::default() };
        let id = world.system.new_table(owner, &limits, None, Access::Private).unwrap();
        let table = world.system.tables.get(id).unwrap();
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let cost = |model: &BTreeMap<Vec<u8>, Vec<u8>>| -> u64 {
            model.iter().map(|(key, value)| (key.len() + value.len()) as u64 + 96).sum()
        };
        for (what, key, length) in steps {
            let (key, value) = (vec![key; usize::from(key) + 1], vec![7; length]);
            let mut next = model.clone();
            match what {
                0 => {
                    next.remove(&key);
                    let removed = table.remove(owner, &key).unwrap();
                    prop_assert_eq!(removed.is_some(), model.contains_key(&key));
                }
                1 => {
                    next.entry(key.clone()).or_insert_with(|| value.clone());
                    let put = table.put(owner, &key, &Payload::new(&value), false);
                    prop_assert_eq!(put.is_ok(), cost(&next) <= MOST);
                }
                _ => {
                    next.insert(key.clone(), value.clone());
                    let put = table.put(owner, &key, &Payload::new(&value), true);
                    let before = model.get(&key).map(|old| Payload::new(old));
                    let expected = match cost(&next) <= MOST {
                        true => Ok(before),
                        false => Err(TableError::Full),
                    };
                    prop_assert_eq!(put, expected);
                }
            }
            if cost(&next) <= MOST {
                model = next;
            }
            prop_assert_eq!(table.size(), (model.len(), cost(&model)));
            let mut last = Vec::new();
            for (key, value) in &model {
                let next = table.next(owner, &last).unwrap().unwrap();
                prop_assert_eq!(&*next, key.as_slice());
                let found = table.get(owner, &next).unwrap().unwrap();
                prop_assert_eq!(found.as_slice(), value.as_slice());
                last = next.to_vec();
            }
            prop_assert_eq!(table.next(owner, &last).unwrap(), None);
        }
    }
}

#[test]
fn a_table_goes_from_heir_to_heir() {
    let mut world = World::new();
    let [a, b, c] = world.puppets();
    let id = world
        .system
        .new_table(a, &Limits::default(), Some("stock"), Access::Protected)
        .unwrap();
    world.system.tables.set_heir(a, id, Some((b, 4))).unwrap();
    end(&mut world, a);
    let table = world.system.tables.get(id).unwrap();
    assert_eq!(table.owner(), b);
    assert_eq!(
        world.system.tables.set_heir(a, id, None),
        Err(TableError::Denied)
    );
    assert_eq!(world.system.tables.set_heir(b, id, Some((c, 5))), Ok(None));
    end(&mut world, b);
    assert_eq!(table.owner(), c);
    end(&mut world, c);
    assert_eq!(
        world.system.tables.get(id).unwrap_err(),
        TableError::Unknown
    );
    assert_eq!(world.system.tables.find("stock"), None);
}

/// A large table is freed by `Tables::sweep`, not by the process that deletes it; its bytes count
/// until then, also if it was the last table.
#[test]
fn a_large_table_is_deleted_in_parts() {
    let mut world = World::new();
    let owner = world.puppet();
    let system = &world.system;
    let limits = Limits::default();
    let id = system
        .new_table(owner, &limits, None, Access::Private)
        .unwrap();
    let table = system.tables.get(id).unwrap();
    for number in 0..2_000_u32 {
        let key = number.to_be_bytes();
        table.put(owner, &key, &Payload::empty(), true).unwrap();
    }
    let weak = Arc::downgrade(&table);
    drop(table);
    system.tables.end(owner, id).unwrap();
    assert!(weak.upgrade().is_some());
    let put = || {
        let limits = Limits {
            tables: 200_000,
            ..Limits::default()
        };
        let other = system.new_table(owner, &limits, None, Access::Private);
        let other = other.unwrap();
        let table = system.tables.get(other).unwrap();
        let put = table.put(owner, b"key", &Payload::new(&[0; 1_000]), true);
        system.tables.end(owner, other).unwrap();
        put
    };
    assert_eq!(put(), Err(TableError::Full));
    system.tables.sweep();
    assert!(weak.upgrade().is_none());
    assert_eq!(put(), Ok(None));
}

#[test]
fn no_process_receives_or_inherits_tables_beyond_its_byte_limit() {
    let mut world = World::new();
    let [a, b] = world.puppets();
    let small = Limits {
        tables: 10_000,
        ..Limits::default()
    };
    world.with(b, |process, system| {
        process.set_limits(system, small.into())
    });
    let make = |world: &World, bytes: usize| {
        let limits = Limits::default();
        let id = world.system.new_table(a, &limits, None, Access::Protected);
        let id = id.unwrap();
        let table = world.system.tables.get(id).unwrap();
        let value = Payload::new(&vec![0; bytes]);
        table.put(a, b"key", &value, true).unwrap();
        id
    };
    let (large, first, second) = (
        make(&world, 20_000),
        make(&world, 6_000),
        make(&world, 6_000),
    );
    let give = |world: &World, id| world.system.give_table(a, id, b, 0, None);
    assert_eq!(give(&world, large), Err(TableError::Full));
    assert_eq!(give(&world, first), Ok(()));
    assert_eq!(give(&world, second), Err(TableError::Full));
    assert_eq!(world.system.tables.get(second).unwrap().owner(), a);
    // Nor as an heir: the table is deleted.
    for id in [large, second] {
        world.system.tables.set_heir(a, id, Some((b, 1))).unwrap();
    }
    end(&mut world, a);
    for id in [large, second] {
        assert_eq!(
            world.system.tables.get(id).unwrap_err(),
            TableError::Unknown
        );
    }
    // Deleting a table frees capacity.
    world.system.tables.end(b, first).unwrap();
    let limits = world
        .system
        .new_table(b, &Limits::default(), None, Access::Private);
    assert!(limits.is_ok());
}

#[test]
fn the_tables_of_a_process_are_limited() {
    let mut world = World::new();
    let [a, b] = world.puppets();
    let limits = Limits::default();
    let make = |pid| world.system.new_table(pid, &limits, None, Access::Public);
    for _ in 0..limits::TABLES {
        make(a).unwrap();
    }
    assert_eq!(make(a), Err(TableError::Full));
    let one = make(b).unwrap();
    assert_eq!(
        world.system.give_table(b, one, a, 0, None),
        Err(TableError::Full)
    );
    assert_eq!(world.system.tables.get(one).unwrap().owner(), b);
}
