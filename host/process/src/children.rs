//! Counts of living children and descendants, and the limits on both.
//!
//! A limit on descendants counts all that a process has started, what those have started, and so
//! on, like `pids.max` of a control group: a process counts until it terminates, even if processes
//! between it and the limited one have terminated before. So a counter outlives its process for as
//! long as anything counts in it. Most processes have no limit of their own and count in none.
//!
//! The counters are relaxed atomics: they publish no other data.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Maximum nesting depth of limits on descendants: each spawn counts in all of them.
const DEEPEST: u32 = 16;

/// No limit on descendants except the node's limit on processes.
pub const UNBOUNDED: u32 = u32::MAX;

/// The number of living processes below one process, and its limit.
#[derive(Debug)]
pub struct Descent {
    alive: AtomicU32,
    most: AtomicU32,
    /// The next limit above: everything that counts here counts there too.
    above: Option<Arc<Descent>>,
    depth: u32,
}

impl Descent {
    /// Returns a counter with a limit, inside another one.
    fn within(most: u32, above: Option<Arc<Descent>>) -> Arc<Descent> {
        let depth = above.as_ref().map_or(0, |above| above.depth) + 1;
        // A limit that is nested too deeply allows no descendants.
        let most = if depth > DEEPEST { 0 } else { most };
        Arc::new(Descent {
            alive: AtomicU32::new(0),
            most: AtomicU32::new(most),
            above,
            depth,
        })
    }

    /// Returns a counter for a process that is restarted, which counts the descendants of all its
    /// incarnations. `None`: there is no limit.
    pub fn lasting(most: u32) -> Option<Arc<Descent>> {
        (most != UNBOUNDED).then(|| Descent::within(most, None))
    }

    /// Changes the limit.
    pub fn set_most(&self, most: u32) {
        if self.depth <= DEEPEST {
            self.most.store(most, Ordering::Relaxed);
        }
    }

    fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }

    /// Counts one more in this counter and in all above. Returns false, and counts nothing, if one
    /// of them is at its limit.
    fn admit(self: &Arc<Descent>) -> bool {
        let mut at = Some(self);
        while let Some(descent) = at {
            if descent.alive.fetch_add(1, Ordering::Relaxed) >= descent.most() {
                self.leave(Some(descent));
                return false;
            }
            at = descent.above.as_ref();
        }
        true
    }

    /// Counts one less in this counter and those above, up to and including `last`.
    fn leave(self: &Arc<Descent>, last: Option<&Arc<Descent>>) {
        let mut at = Some(self);
        while let Some(descent) = at {
            descent.alive.fetch_sub(1, Ordering::Relaxed);
            if last.is_some_and(|last| Arc::ptr_eq(last, descent)) {
                return;
            }
            at = descent.above.as_ref();
        }
    }
}

/// The number of living children of a process, and the counter of descendants in which they count.
#[derive(Debug, Default)]
pub struct Children {
    alive: AtomicU32,
    descent: Option<Arc<Descent>>,
    /// Whether `descent` has this process's own limit, rather than an ancestor's.
    bounded: bool,
    /// Whether the children themselves do not count in `descent`, only what they start.
    exempt: bool,
}

impl Children {
    /// Returns the counters of a process that may have `most` descendants and itself counts in
    /// `above`.
    pub(crate) fn of(most: u32, above: Option<&Arc<Descent>>) -> Children {
        // A limit inside another one that is as low would have no effect.
        let bounded = most != UNBOUNDED && above.is_none_or(|above| most < above.most());
        Children {
            descent: match bounded {
                true => Some(Descent::within(most, above.cloned())),
                false => above.cloned(),
            },
            bounded,
            ..Children::default()
        }
    }

    /// Returns the counters of a supervisor entry whose descendants have a limit across restarts.
    pub fn lasting(descent: Arc<Descent>) -> Arc<Children> {
        Arc::new(Children {
            descent: Some(descent),
            exempt: true,
            ..Children::default()
        })
    }

    /// Returns the number of living children.
    pub fn alive(&self) -> u32 {
        self.alive.load(Ordering::Relaxed)
    }

    /// Counts one more child. `None`: `most` live already, or a limit on descendants is reached.
    pub fn admit(self: &Arc<Children>, most: u32) -> Option<Member> {
        let before = self.alive.fetch_add(1, Ordering::Relaxed);
        let counts = self.descent.as_ref().filter(|_| !self.exempt);
        if before >= most || counts.is_some_and(|descent| !descent.admit()) {
            self.alive.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Member(self.clone()))
    }

    /// Changes the limit of counters made by [`Children::lasting`].
    pub fn set_bound(&self, most: u32) {
        if let Some(descent) = self.descent.as_ref().filter(|_| self.exempt) {
            descent.set_most(most);
        }
    }

    /// Changes the limit on descendants, if the process has one of its own.
    pub(crate) fn set_most(&self, most: u32) {
        if let Some(descent) = self.descent.as_ref().filter(|_| self.bounded) {
            descent.set_most(most);
        }
    }

    /// Returns whether no process counts here, or in the process's own limit.
    pub(crate) fn is_idle(self: &Arc<Children>) -> bool {
        let process = self.descent.as_ref().filter(|_| self.bounded);
        Arc::strong_count(self) == 1
            && process.is_none_or(|process| Arc::strong_count(process) == 1)
    }
}

/// One counted child. Dropping this, when the child terminates, ends the count.
#[derive(Debug)]
pub struct Member(Arc<Children>);

impl Member {
    /// Returns the counter in which the child's own descendants count.
    pub(crate) fn descent(&self) -> Option<&Arc<Descent>> {
        self.0.descent.as_ref()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
        if let Some(descent) = self.0.descent.as_ref().filter(|_| !self.0.exempt) {
            descent.leave(None);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Returns the counters for the children of a process, which is itself a member.
    fn below(member: &Member, most: u32) -> Arc<Children> {
        Arc::new(Children::of(most, member.descent()))
    }

    fn root(most: u32) -> Arc<Children> {
        Arc::new(Children::of(most, None))
    }

    #[test]
    fn a_process_without_a_bound_counts_only_its_children() {
        let place = root(UNBOUNDED);
        let members: Vec<Member> = (0..3).filter_map(|_| place.admit(3)).collect();
        assert_eq!(members.len(), 3);
        assert!(place.admit(3).is_none());
        assert!(members[0].descent().is_none());
        drop(members);
        assert!(place.is_idle() && place.admit(1).is_some());
    }

    #[test]
    fn descendants_count_until_they_end_even_if_their_parent_ends_first() {
        let place = root(3);
        let child = place.admit(100).unwrap();
        let theirs = below(&child, 3);
        let grandchildren: Vec<Member> = (0..5).filter_map(|_| theirs.admit(100)).collect();
        assert_eq!(grandchildren.len(), 2, "and the child");
        assert!(place.admit(100).is_none());
        // The process between terminates; those below it still count, though it has no children any
        // more.
        drop((child, theirs));
        let other = place.admit(100).unwrap();
        assert!(place.admit(100).is_none());
        drop(other);
        assert!(!place.is_idle(), "or a new count would start from 0");
        drop(grandchildren);
        assert!(place.is_idle());
        assert_eq!(
            (0..5).filter_map(|_| place.admit(100)).count(),
            5,
            "one by one"
        );
    }

    #[test]
    fn a_refused_spawn_is_not_counted() {
        let outer = root(10);
        let child = outer.admit(100).unwrap();
        let inner = below(&child, 2);
        let grandchildren: Vec<Member> = (0..9).filter_map(|_| inner.admit(100)).collect();
        assert_eq!(grandchildren.len(), 2);
        // Also if the limit above refuses: nothing is left counted in the one below.
        let others: Vec<Member> = (0..20).filter_map(|_| outer.admit(100)).collect();
        assert_eq!(others.len(), 7);
        drop(grandchildren);
        let more: Vec<Member> = (0..2).filter_map(|_| outer.admit(100)).collect();
        assert!(inner.admit(100).is_none(), "the outer one is full");
        drop(more);
        assert!(inner.admit(100).is_some());
    }

    #[test]
    fn a_lasting_bound_survives_restarts() {
        let descent = Descent::lasting(2).unwrap();
        assert!(Descent::lasting(UNBOUNDED).is_none());
        let place = Children::lasting(descent.clone());
        let life = place.admit(UNBOUNDED).unwrap();
        let its = below(&life, 2);
        let orphans = [its.admit(9).unwrap(), its.admit(9).unwrap()];
        assert!(its.admit(9).is_none());
        drop((life, its));
        // After a restart it has what its earlier incarnations have left.
        let life = place.admit(UNBOUNDED).unwrap();
        let its = below(&life, 2);
        assert!(its.admit(9).is_none());
        descent.set_most(3);
        assert!(its.admit(9).is_some());
        drop(orphans);
        assert_eq!(
            (0..9).map_while(|_| its.admit(9)).collect::<Vec<_>>().len(),
            3
        );
    }

    #[test]
    fn the_nesting_of_bounds_is_limited() {
        let mut places = vec![root(1_000)];
        let mut members = Vec::new();
        for most in (0..1_000).rev() {
            let Some(member) = places.last().unwrap().admit(9) else {
                break;
            };
            places.push(below(&member, most));
            members.push(member);
        }
        assert_eq!(members.len(), DEEPEST as usize);
    }
}
