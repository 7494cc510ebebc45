//! Counts of living children and descendants, and the limits on both.
//!
//! A limit on descendants counts all that a process has started, what those have started, and so
//! on, like `pids.max` of a control group: a process counts until it terminates, even if processes
//! between it and the limited one have terminated before. So a counter outlives its process for as
//! long as anything counts in it. Most processes have no limit of their own and count in none.
//!
//! A restored process may start others before its parent counts it. They count in a *joint*, a
//! counter without a limit which is connected to those of the parent later.
//!
//! The counters are relaxed atomics: they publish no other data, except for that connection.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Maximum nesting depth of limits on descendants: each spawn counts in all of them.
const DEEPEST: u32 = 16;

/// No limit on descendants except the node's limit on processes.
pub const UNBOUNDED: u32 = u32::MAX;

/// The bit of a joint's counter that says that it is connected; the others are the count.
const CONNECTED: u32 = 1 << 31;

/// The number of living processes below one process, and its limit.
#[derive(Debug)]
pub struct Descent {
    /// In a joint: those that count in no limit above it, and [`CONNECTED`].
    alive: AtomicU32,
    most: AtomicU32,
    above: Above,
    depth: u32,
}

/// The next limit above a counter.
#[derive(Debug)]
enum Above {
    /// Everything that counts in the counter counts there too.
    Limit(Option<Arc<Descent>>),
    /// The counter is a joint: what starts once this is set counts there.
    Joint(OnceLock<Arc<Descent>>),
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
            above: Above::Limit(above),
            depth,
        })
    }

    /// Returns a joint that is not connected. The nesting depth is counted from here.
    fn joint() -> Arc<Descent> {
        Arc::new(Descent {
            alive: AtomicU32::new(0),
            most: AtomicU32::new(UNBOUNDED),
            above: Above::Joint(OnceLock::new()),
            depth: 0,
        })
    }

    /// Connects a joint to the counters of the parent. Has no effect on other counters.
    fn connect(&self, above: &Arc<Descent>) {
        if let Above::Joint(link) = &self.above
            && link.set(above.clone()).is_ok()
        {
            // Release: pairs with the Acquire in `count_alone` and `leave_alone`.
            self.alive.fetch_or(CONNECTED, Ordering::Release);
        }
    }

    /// Counts one more in a joint, unless it is connected. Returns whether it counts.
    fn count_alone(&self) -> bool {
        let more = |alive| (alive & CONNECTED == 0).then(|| alive + 1);
        let order = (Ordering::Relaxed, Ordering::Acquire);
        self.alive.fetch_update(order.0, order.1, more).is_ok()
    }

    /// Counts one less of those that count in a joint alone. Returns false if there are none: then
    /// the joint is connected, and the process that ends counts above.
    ///
    /// Which processes those were is not known: the first that end are taken for them. So the
    /// limits above count too few as long as all of them live, and never too many.
    fn leave_alone(&self) -> bool {
        let less = |alive| (alive & !CONNECTED > 0).then(|| alive - 1);
        let order = (Ordering::Relaxed, Ordering::Acquire);
        self.alive.fetch_update(order.0, order.1, less).is_ok()
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
            at = match &descent.above {
                Above::Limit(above) => {
                    if descent.alive.fetch_add(1, Ordering::Relaxed) >= descent.most() {
                        self.withdraw(descent);
                        return false;
                    }
                    above.as_ref()
                }
                Above::Joint(_) if descent.count_alone() => None,
                Above::Joint(above) => above.get(),
            };
        }
        true
    }

    /// Undoes the count of a process that a limit refuses: `last`, which counts it as well.
    fn withdraw(self: &Arc<Descent>, last: &Arc<Descent>) {
        let mut at = Some(self);
        while let Some(descent) = at {
            at = match &descent.above {
                Above::Limit(above) => {
                    descent.alive.fetch_sub(1, Ordering::Relaxed);
                    above.as_ref().filter(|_| !Arc::ptr_eq(last, descent))
                }
                // It counted in the limits beyond, so it did not count in the joint.
                Above::Joint(above) => above.get(),
            };
        }
    }

    /// Counts one less in this counter and those above.
    fn leave(self: &Arc<Descent>) {
        let mut at = Some(self);
        while let Some(descent) = at {
            at = match &descent.above {
                Above::Limit(above) => {
                    descent.alive.fetch_sub(1, Ordering::Relaxed);
                    above.as_ref()
                }
                Above::Joint(_) if descent.leave_alone() => None,
                Above::Joint(above) => above.get(),
            };
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

    /// Counts a restored child. If a limit on descendants is reached, the child itself does not count,
    /// but what it starts does.
    pub(crate) fn admit_restored(self: &Arc<Children>) -> Option<Member> {
        let outside = || Children::lasting(self.descent.clone()?).admit(UNBOUNDED);
        self.admit(UNBOUNDED).or_else(outside)
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
    /// Returns the entry of a restored process that its parent does not count yet.
    pub(crate) fn pending() -> Option<Member> {
        Children::lasting(Descent::joint()).admit(UNBOUNDED)
    }

    /// Ends the wait of a pending entry: what the process starts from now on, itself or by what it has
    /// started, counts where its parent counts it.
    pub(crate) fn connect(&self, counted: &Member) {
        if let (Some(joint), Some(above)) = (&self.0.descent, counted.descent()) {
            joint.connect(above);
        }
    }

    /// Returns the counter in which the child's own descendants count.
    pub(crate) fn descent(&self) -> Option<&Arc<Descent>> {
        let descent = self.0.descent.as_ref()?;
        match &descent.above {
            // A joint that is connected has no more use for those that start now.
            Above::Joint(above) => Some(above.get().unwrap_or(descent)),
            Above::Limit(_) => Some(descent),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
        if let Some(descent) = self.0.descent.as_ref().filter(|_| !self.0.exempt) {
            descent.leave();
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
    fn descendants_of_a_pending_process_count_above_once_its_parent_counts_it() {
        let parents = root(5);
        let entry = Member::pending().unwrap();
        let places = [UNBOUNDED, 4].map(|most| below(&entry, most));
        let early = places[0].admit(9).unwrap();
        let deep = below(&early, UNBOUNDED);
        let _early = [places[1].admit(9), deep.admit(9)];
        let counted = parents.admit_restored().unwrap();
        entry.connect(&counted);
        // Those made before and after the connection count alike, and so does what is below them.
        let late = below(&entry, UNBOUNDED);
        let mut all = vec![deep.admit(9), places[1].admit(9), late.admit(9)];
        all.push(places[0].admit(9));
        assert!(all.iter().all(Option::is_some));
        for place in [&deep, &late, &places[0], &places[1], &parents] {
            assert!(place.admit(9).is_none());
        }
        // A refused process leaves no trace in the counters below the limit.
        assert_eq!((places[0].alive(), places[1].alive()), (2, 2));
        drop(all.pop());
        assert!(places[1].admit(9).is_none(), "taken for an early one");
        drop(all.pop());
        assert!(places[1].admit(9).is_some());
    }

    #[test]
    fn all_counts_of_a_joint_end_in_any_order() {
        for first in 0..4 {
            let parents = root(9);
            let entry = Member::pending().unwrap();
            let place = below(&entry, UNBOUNDED);
            let mut all: Vec<_> = (0..2).map(|_| place.admit(9)).collect();
            entry.connect(&parents.admit_restored().unwrap());
            all.extend((0..2).map(|_| place.admit(9)));
            drop(entry);
            all.rotate_left(first);
            all.clear();
            let all: Vec<_> = (0..20).map_while(|_| parents.admit(20)).collect();
            assert_eq!(all.len(), 9, "{first}");
        }
    }

    #[test]
    fn processes_come_and_go_while_their_joint_is_connected() {
        const THREADS: usize = 3;
        for _ in 0..200 {
            let parents = root(1_000);
            let entry = Member::pending().unwrap();
            let place = below(&entry, UNBOUNDED);
            let start = std::sync::Barrier::new(THREADS + 1);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        let kept = place.admit(UNBOUNDED);
                        start.wait();
                        for _ in 0..50 {
                            drop(place.admit(UNBOUNDED));
                        }
                        drop(kept);
                    });
                }
                start.wait();
                entry.connect(&parents.admit_restored().unwrap());
            });
            drop((entry, place));
            assert!(parents.is_idle());
            let descent = parents.descent.as_ref().unwrap();
            assert_eq!(descent.alive.load(Ordering::Relaxed), 0);
        }
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
