//! A map for sets that are nearly always tiny: a process has one link and a
//! request or two under way; a supervisor has 100,000 links.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::FixedState;

/// Up to this many entries a linear search is as fast as hashing, and the
/// vector takes a third of the memory.
const LINEAR: usize = 16;

#[derive(Debug)]
pub(crate) enum SmallMap<K, V> {
    Linear(Vec<(K, V)>),
    Hashed(HashMap<K, V, FixedState>),
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        SmallMap::Linear(Vec::new())
    }
}

impl<K: Copy + Eq + Hash, V> SmallMap<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            SmallMap::Linear(entries) => {
                if let Some((_, old)) = entries.iter_mut().find(|(k, _)| *k == key) {
                    return Some(std::mem::replace(old, value));
                }
                if entries.len() < LINEAR {
                    entries.push((key, value));
                } else {
                    let mut map: HashMap<K, V, FixedState> = entries.drain(..).collect();
                    map.insert(key, value);
                    *self = SmallMap::Hashed(map);
                }
                None
            }
            SmallMap::Hashed(map) => map.insert(key, value),
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        match self {
            SmallMap::Linear(entries) => entries.iter().find(|(k, _)| *k == key).map(|(_, v)| v),
            SmallMap::Hashed(map) => map.get(&key),
        }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        match self {
            SmallMap::Linear(entries) => {
                let at = entries.iter().position(|(k, _)| *k == key)?;
                Some(entries.swap_remove(at).1)
            }
            SmallMap::Hashed(map) => map.remove(&key),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            SmallMap::Linear(entries) => entries.len(),
            SmallMap::Hashed(map) => map.len(),
        }
    }

    /// Empties the map and hands out what was in it.
    pub(crate) fn take(&mut self) -> Vec<(K, V)> {
        match std::mem::take(self) {
            SmallMap::Linear(entries) => entries,
            SmallMap::Hashed(map) => map.into_iter().collect(),
        }
    }

    pub(crate) fn keys(&self) -> Vec<K> {
        match self {
            SmallMap::Linear(entries) => entries.iter().map(|(k, _)| *k).collect(),
            SmallMap::Hashed(map) => map.keys().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SmallMap;

    #[test]
    fn it_behaves_the_same_on_both_sides_of_the_change() {
        let mut map = SmallMap::default();
        for key in 0..40u64 {
            assert_eq!(map.insert(key, key * 2), None);
            assert_eq!(map.insert(key, key * 3), Some(key * 2));
        }
        assert_eq!(map.len(), 40);
        for key in (0..40).step_by(2) {
            assert_eq!(map.remove(key), Some(key * 3));
            assert_eq!(map.get(key), None);
            assert_eq!(map.get(key + 1), Some(&((key + 1) * 3)));
        }
        let mut rest = map.take();
        rest.sort_unstable();
        assert_eq!(rest.len(), 20);
        assert_eq!(map.len(), 0);
    }
}
