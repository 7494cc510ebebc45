//! A limit on what all processes of a node hold together of something that the system has little of, such as file
//! descriptors.
//!
//! The count is a relaxed atomic: it publishes no other data.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number that all processes hold, and its limit.
#[derive(Debug)]
pub struct Quota {
    used: AtomicUsize,
    most: usize,
}

impl Quota {
    /// Returns a quota of which nothing is used.
    pub fn new(most: usize) -> Arc<Quota> {
        Arc::new(Quota {
            used: AtomicUsize::new(0),
            most,
        })
    }

    /// Returns the limit.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Returns the number that is held.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns whether nothing is left.
    pub fn is_used_up(&self) -> bool {
        self.used() >= self.most
    }

    /// Takes a share of this size. `None`: not so much is left.
    pub fn take(self: &Arc<Quota>, count: usize) -> Option<Share> {
        let (order, quota) = (Ordering::Relaxed, self.clone());
        let taken = (self.used).fetch_update(order, order, |used| {
            used.checked_add(count).filter(|sum| *sum <= self.most)
        });
        taken.ok().map(|_| Share { quota, count })
    }
}

/// A share of a quota; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
    count: usize,
}

impl Share {
    /// Returns the quota that it is a share of.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Counts one more. It exists already, so this is never refused: [`Quota::is_used_up`] is asked before it is
    /// made. Processes that make one at the same moment may exceed the limit by their number.
    pub fn grow(&mut self) {
        self.count += 1;
        self.quota.used.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one less.
    pub fn shrink(&mut self) {
        if let Some(left) = self.count.checked_sub(1) {
            self.count = left;
            self.quota.used.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.quota.used.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_and_given_back() {
        let quota = Quota::new(3);
        let mut two = quota.take(2).expect("two of three");
        assert!(quota.take(2).is_none() && quota.take(usize::MAX).is_none());
        assert_eq!(quota.used(), 2, "what was refused is not counted");
        two.grow();
        assert!(quota.is_used_up() && two.quota().is_used_up());
        for left in [2, 1, 0, 0] {
            two.shrink();
            assert_eq!(quota.used(), left);
        }
        two.grow();
        drop(two);
        assert_eq!(quota.used(), 0);
    }
}
