//! A map for sets that are nearly always tiny: a process has one link and one or two pending
//! requests, while a supervisor has 100,000 links.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::FixedState;

/// Up to this many entries a linear search is as fast as hashing, and the vector takes a third of
/// the memory.
const LINEAR: usize = 16;
/// A hashed map with at most this many entries becomes linear again. Well below [`LINEAR`], so that
/// a map near the threshold does not convert with every change.
const FEW: usize = 4;
/// A hashed map shrinks when its capacity reaches this many times its length, and keeps capacity
/// for twice its length. At least half of its entries have been removed since it last shrank or
/// grew, so the amortised cost of a removal stays constant.
const SPARSE: usize = 8;

/// The most frequent sizes, zero and one, take no heap memory. A map that has grown keeps its
/// memory while it is used; [`SmallMap::trim`] frees it.
#[derive(Debug)]
pub(crate) enum SmallMap<K, V> {
    One(K, V),
    Linear(Vec<(K, V)>),
    // Boxed, since it would be the largest variant by far.
    Hashed(Box<Hashed<K, V>>),
}

type Hashed<K, V> = HashMap<K, V, FixedState>;

/// The entries of a map that was consumed.
#[derive(Debug)]
pub(crate) enum Entries<K, V> {
    One(Option<(K, V)>),
    Linear(std::vec::IntoIter<(K, V)>),
    Hashed(std::collections::hash_map::IntoIter<K, V>),
}

impl<K, V> Entries<K, V> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Entries::One(entry) => usize::from(entry.is_some()),
            Entries::Linear(entries) => entries.len(),
            Entries::Hashed(entries) => entries.len(),
        }
    }
}

impl<K, V> Iterator for Entries<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        match self {
            Entries::One(entry) => entry.take(),
            Entries::Linear(entries) => entries.next(),
            Entries::Hashed(entries) => entries.next(),
        }
    }
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        SmallMap::Linear(Vec::new())
    }
}

impl<K: Copy + Eq + Hash, V> SmallMap<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            SmallMap::One(k, old) if *k == key => Some(std::mem::replace(old, value)),
            SmallMap::One(..) => {
                let mut entries = self.take();
                entries.push((key, value));
                *self = SmallMap::Linear(entries);
                None
            }
            SmallMap::Linear(entries) => {
                if entries.capacity() == 0 {
                    *self = SmallMap::One(key, value);
                    return None;
                }
                if let Some((_, old)) = entries.iter_mut().find(|(k, _)| *k == key) {
                    return Some(std::mem::replace(old, value));
                }
                if entries.len() < LINEAR {
                    entries.push((key, value));
                } else {
                    let mut map: Hashed<K, V> = entries.drain(..).collect();
                    map.insert(key, value);
                    *self = SmallMap::Hashed(Box::new(map));
                }
                None
            }
            SmallMap::Hashed(map) => map.insert(key, value),
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        match self {
            SmallMap::One(k, v) => (*k == key).then_some(v),
            SmallMap::Linear(entries) => entries.iter().find(|(k, _)| *k == key).map(|(_, v)| v),
            SmallMap::Hashed(map) => map.get(&key),
        }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        match self {
            SmallMap::One(k, _) if *k != key => None,
            SmallMap::One(..) => match std::mem::take(self) {
                SmallMap::One(_, gone) => Some(gone),
                SmallMap::Linear(_) | SmallMap::Hashed(_) => None,
            },
            SmallMap::Linear(entries) => {
                let at = entries.iter().position(|(k, _)| *k == key)?;
                Some(entries.swap_remove(at).1)
            }
            SmallMap::Hashed(map) => {
                let gone = map.remove(&key)?;
                self.shrink();
                Some(gone)
            }
        }
    }

    /// Frees memory that a formerly large map no longer needs.
    fn shrink(&mut self) {
        let SmallMap::Hashed(map) = self else { return };
        if map.len() <= FEW {
            *self = SmallMap::Linear(map.drain().collect());
        } else if map.capacity() >= SPARSE * map.len().max(LINEAR) {
            map.shrink_to(2 * map.len());
        }
    }

    /// Frees all unused capacity.
    pub(crate) fn trim(&mut self) {
        match self {
            SmallMap::One(..) => {}
            SmallMap::Linear(entries) if entries.len() > 1 => entries.shrink_to_fit(),
            SmallMap::Linear(entries) => {
                *self = entries
                    .pop()
                    .map_or_else(SmallMap::default, |(key, value)| SmallMap::One(key, value));
            }
            SmallMap::Hashed(map) => map.shrink_to_fit(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            SmallMap::One(..) => 1,
            SmallMap::Linear(entries) => entries.len(),
            SmallMap::Hashed(map) => map.len(),
        }
    }

    /// Empties the map and returns its entries.
    pub(crate) fn take(&mut self) -> Vec<(K, V)> {
        match std::mem::take(self) {
            SmallMap::One(key, value) => vec![(key, value)],
            SmallMap::Linear(entries) => entries,
            SmallMap::Hashed(map) => map.into_iter().collect(),
        }
    }

    /// Returns an iterator over the entries, so that many of them can be processed in parts.
    pub(crate) fn into_entries(self) -> Entries<K, V> {
        match self {
            SmallMap::One(key, value) => Entries::One(Some((key, value))),
            SmallMap::Linear(entries) => Entries::Linear(entries.into_iter()),
            SmallMap::Hashed(map) => Entries::Hashed(map.into_iter()),
        }
    }

    pub(crate) fn keys(&self) -> Vec<K> {
        match self {
            SmallMap::One(key, _) => vec![*key],
            SmallMap::Linear(entries) => entries.iter().map(|(k, _)| *k).collect(),
            SmallMap::Hashed(map) => map.keys().copied().collect(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{FEW, LINEAR, SPARSE, SmallMap};

    impl<K, V> SmallMap<K, V> {
        fn capacity(&self) -> usize {
            match self {
                SmallMap::One(..) => 0,
                SmallMap::Linear(entries) => entries.capacity(),
                SmallMap::Hashed(map) => map.capacity(),
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Insert(u8, u32),
        Remove(u8),
        /// Many insertions at once, so that the map grows and shrinks.
        Fill(u8),
        Clear(u8),
        Take,
        Trim,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (any::<u8>(), any::<u32>()).prop_map(|(key, value)| Act::Insert(key, value)),
            6 => any::<u8>().prop_map(Act::Remove),
            2 => any::<u8>().prop_map(Act::Fill),
            2 => any::<u8>().prop_map(Act::Clear),
            1 => Just(Act::Take),
            1 => Just(Act::Trim),
        ]
    }

    fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn it_is_a_map(acts in proptest::collection::vec(act(), 0..60)) {
            let mut map = SmallMap::default();
            let mut model = BTreeMap::new();
            for act in acts {
                match act {
                    Act::Insert(key, value) => {
                        prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                    }
                    Act::Remove(key) => prop_assert_eq!(map.remove(key), model.remove(&key)),
                    Act::Fill(end) => {
                        for key in 0..end {
                            prop_assert_eq!(map.insert(key, 1), model.insert(key, 1));
                        }
                    }
                    Act::Clear(start) => {
                        for key in start..=u8::MAX {
                            prop_assert_eq!(map.remove(key), model.remove(&key));
                        }
                    }
                    Act::Take => {
                        let all: Vec<_> = std::mem::take(&mut model).into_iter().collect();
                        prop_assert_eq!(sorted(map.take()), all);
                    }
                    Act::Trim => {
                        map.trim();
                        if map.len() < 2 {
                            prop_assert_eq!(map.capacity(), 0);
                        }
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(sorted(map.keys()), model.keys().copied().collect::<Vec<_>>());
                for key in [0, 7, u8::MAX] {
                    prop_assert_eq!(map.get(key), model.get(&key));
                }
            }
        }
    }

    #[test]
    fn memory_of_a_map_shrinks_again() {
        let mut map = SmallMap::default();
        for key in 0..100_000u64 {
            map.insert(key, ());
        }
        let largest = map.capacity();
        for key in 0..100_000 {
            map.remove(key);
            let bound = 2 * SPARSE * map.len().max(LINEAR);
            assert!(map.capacity() <= bound.min(largest), "{}", map.len());
        }
        assert!(matches!(&map, SmallMap::Linear(entries) if entries.capacity() <= LINEAR));
    }

    /// Shrinking by one and growing by one again must not move all entries.
    #[test]
    fn it_does_not_shrink_and_grow_alternately() {
        let mut map = SmallMap::default();
        let at = |size: u64, map: &mut SmallMap<u64, ()>| {
            let now = map.len() as u64;
            for key in size..now {
                map.remove(key);
            }
            for key in now..size {
                map.insert(key, ());
            }
            (map.capacity(), matches!(map, SmallMap::Linear(_)))
        };
        at(100_000, &mut map);
        for size in (FEW as u64 + 1..5_000).rev() {
            let (before, _) = at(size, &mut map);
            for _ in 0..3 {
                at(size + 1, &mut map);
                let after = at(size, &mut map);
                assert_eq!(after.0, before, "at {size}");
            }
        }
        // The same at the threshold between the two forms, from either side.
        let (few, linear) = (FEW as u64, LINEAR as u64);
        for (from, border, is_linear) in [(linear + 1, few, false), (few, linear, true)] {
            at(0, &mut map);
            at(from, &mut map);
            for _ in 0..3 {
                let size = if is_linear { border } else { border + 1 };
                assert_eq!(at(size, &mut map).1, is_linear);
                assert_eq!(
                    at(size - 1 + 2 * u64::from(!is_linear), &mut map).1,
                    is_linear
                );
            }
        }
    }
}
