//! Compiled functions of modules that were loaded before, by Cranelift's own key of their
//! content. During development most functions of a new version are the same as in the
//! version before, and are not compiled again.
//!
//! Bounded by bytes; the oldest entries are removed first.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use wasmtime::CacheStore;

#[derive(Debug)]
pub(crate) struct Functions {
    most_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    functions: HashMap<Box<[u8]>, Vec<u8>>,
    /// Their keys, the oldest first.
    order: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Functions {
    pub(crate) fn new(most_bytes: usize) -> Functions {
        Functions {
            most_bytes,
            kept: Mutex::default(),
        }
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let kept = self.kept.lock();
        kept.functions.get(key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let mut kept = self.kept.lock();
        if value.len() > self.most_bytes || kept.functions.contains_key(key) {
            return false;
        }
        kept.bytes += value.len();
        kept.order.push_back(key.into());
        kept.functions.insert(key.into(), value);
        while kept.bytes > self.most_bytes {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            let gone = kept.functions.remove(&oldest);
            kept.bytes -= gone.map_or(0, |value| value.len());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::CacheStore as _;

    use super::Functions;

    #[test]
    fn the_oldest_entry_is_evicted_first_and_the_bound_holds() {
        let functions = Functions::new(100);
        for key in 0..20_u8 {
            assert!(functions.insert(&[key], vec![key; 10]));
        }
        assert!(!functions.insert(&[19], vec![0; 10]), "it is there");
        assert!(!functions.insert(&[99], vec![0; 101]), "it is too large");
        let there = (0..20).filter(|key| functions.get(&[*key]).is_some());
        assert_eq!(there.collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
        assert_eq!(functions.get(&[15]).unwrap().as_ref(), [15; 10]);
        assert_eq!(functions.kept.lock().bytes, 100);
    }
}
