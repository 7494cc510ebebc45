//! Which slots of the process table are free.
//!
//! Slots are made a few at a time and never given back. Each scheduler has a
//! queue of free ones, so that those who spawn do not meet on one lock; what a
//! queue has too much of goes to the others by way of a pool. A slot that has
//! become free goes to the end of a queue, and is not taken again as long as new
//! ones may be made and fewer than [`REST`] wait with it: the generations of a
//! slot are many but not endless, so all slots are to share in them.
//!
//! The bound on processes is the number of slots: there is no count of the
//! living for all schedulers to meet on.
//!
//! Lock order: a scheduler's queue, then the pool. Nobody holds two queues.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use crate::sync::Mutex;

/// Free slots that a scheduler's queue lets rest: 16 KiB of the table, which
/// stay in the cache when one birth follows the other.
const REST: usize = 256;
/// Free slots that a queue keeps; one more, and the oldest [`BATCH`] go to the pool.
const KEPT: usize = 1024;
/// Slots that go to the pool, or come from it, in one go.
const BATCH: usize = 512;
/// Slots that are made in one go; a divisor of what `table` makes memory for.
pub(crate) const FRESH: usize = 64;
/// The first are made one by one, so that the pids of a small node are small
/// numbers, in the order of births.
const SINGLE: usize = 4096;

#[derive(Debug)]
pub(crate) struct Vacant {
    shards: Box<[CachePadded<Shard>]>,
    pool: Mutex<VecDeque<Vec<u32>>>,
    /// Slots that were made. Changed under the pool's lock only, as `held` and `retired`.
    made: AtomicUsize,
    /// Slots in the pool.
    held: AtomicUsize,
    /// Slots that are used up.
    retired: AtomicUsize,
    /// Most slots that are not used up.
    limit: usize,
    /// Most slots.
    most: usize,
}

#[derive(Debug)]
struct Shard {
    free: Mutex<VecDeque<u32>>,
    /// How many they are, for those without the lock. What comes from the pool or
    /// goes there is counted while the pool is locked.
    count: AtomicUsize,
}

impl Vacant {
    /// For at most `limit` processes at a time, and `most` slots in all.
    pub(crate) fn new(limit: usize, most: usize, shards: usize) -> Vacant {
        let shard = || Shard {
            free: Mutex::new(VecDeque::new()),
            count: AtomicUsize::new(0),
        };
        Vacant {
            shards: (0..shards.max(1)).map(|_| shard().into()).collect(),
            pool: Mutex::new(VecDeque::new()),
            made: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            retired: AtomicUsize::new(0),
            limit: limit.min(most),
            most,
        }
    }

    /// Takes a free slot, unless no more than `kept` would be left for those that
    /// ask without. `make` makes new slots with these numbers, unless it refuses.
    #[inline]
    pub(crate) fn take(
        &self,
        shard: usize,
        kept: usize,
        make: impl Fn(Range<u32>) -> bool,
    ) -> Option<u32> {
        if kept > 0 && self.is_short(kept) {
            return None;
        }
        let mine = &self.shards[shard % self.shards.len()];
        let mut free = mine.free.lock();
        if free.len() <= REST {
            self.refill(mine, &mut free, make);
        }
        let slot = free.pop_front();
        // Relaxed here and below: a number, of which nothing depends.
        mine.count.store(free.len(), Ordering::Relaxed);
        drop(free);
        slot.or_else(|| self.take_from_any())
    }

    /// Whether no more than `kept` slots are free or may be made.
    fn is_short(&self, kept: usize) -> bool {
        let used_up = self.retired.load(Ordering::Relaxed);
        let made = self.made.load(Ordering::Relaxed);
        let unmade = (self.limit + used_up).min(self.most).saturating_sub(made);
        unmade <= kept && unmade + self.free() <= kept
    }

    fn free(&self) -> usize {
        let shards = self.shards.iter();
        let queued: usize = shards.map(|s| s.count.load(Ordering::Relaxed)).sum();
        self.held.load(Ordering::Relaxed) + queued
    }

    #[cold]
    fn refill(&self, mine: &Shard, free: &mut VecDeque<u32>, make: impl Fn(Range<u32>) -> bool) {
        let mut pool = self.pool.lock();
        if let Some(batch) = pool.pop_front() {
            let held = self.held.load(Ordering::Relaxed) - batch.len();
            self.held.store(held, Ordering::Relaxed);
            // In front of those that have not rested yet.
            batch
                .into_iter()
                .rev()
                .for_each(|slot| free.push_front(slot));
        } else {
            let made = self.made.load(Ordering::Relaxed);
            let used_up = self.retired.load(Ordering::Relaxed);
            let most = (self.limit + used_up).min(self.most);
            // No batch goes past what memory is made for in one go.
            let end = match made < SINGLE {
                true => made + 1,
                false => made / FRESH * FRESH + FRESH,
            };
            let end = end.min(most);
            let numbers = u32::try_from(made).ok().zip(u32::try_from(end).ok());
            if let Some((first, end)) = numbers
                && first < end
                && make(first..end)
            {
                (first..end).rev().for_each(|slot| free.push_front(slot));
                // Release: pairs with the Acquire in `made`, for iteration.
                self.made.store(end as usize, Ordering::Release);
            }
        }
        mine.count.store(free.len(), Ordering::Relaxed);
    }

    /// Takes a slot of whoever has one: no more may be made.
    #[cold]
    fn take_from_any(&self) -> Option<u32> {
        for shard in &self.shards {
            if shard.count.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut free = shard.free.lock();
            let slot = free.pop_front();
            shard.count.store(free.len(), Ordering::Relaxed);
            if slot.is_some() {
                return slot;
            }
        }
        None
    }

    /// Gives a slot back.
    #[inline]
    pub(crate) fn give(&self, shard: usize, slot: u32) {
        let mine = &self.shards[shard % self.shards.len()];
        let mut free = mine.free.lock();
        free.push_back(slot);
        if free.len() > KEPT {
            let mut pool = self.pool.lock();
            let batch: Vec<u32> = free.drain(..BATCH).collect();
            let held = self.held.load(Ordering::Relaxed) + batch.len();
            self.held.store(held, Ordering::Relaxed);
            pool.push_back(batch);
            mine.count.store(free.len(), Ordering::Relaxed);
        } else {
            mine.count.store(free.len(), Ordering::Relaxed);
        }
    }

    /// Notes that a slot is used up: another may be made in its place.
    #[cold]
    pub(crate) fn retire(&self) {
        let _pool = self.pool.lock();
        let retired = self.retired.load(Ordering::Relaxed) + 1;
        self.retired.store(retired, Ordering::Relaxed);
    }

    /// Slots that were made.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::Acquire)
    }

    /// Slots that are taken.
    pub(crate) fn taken(&self) -> usize {
        // So that nothing is counted twice on its way, or not at all.
        let _pool = self.pool.lock();
        let made = self.made.load(Ordering::Relaxed) - self.retired.load(Ordering::Relaxed);
        made.saturating_sub(self.free())
    }

    /// Most slots that are taken at a time.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn always(_: Range<u32>) -> bool {
        true
    }

    #[test]
    fn a_slot_does_not_come_round_quickly() {
        let vacant = Vacant::new(100_000, 100_000, 2);
        let mut last = HashMap::new();
        let mut soonest = usize::MAX;
        for birth in 0..10_000 {
            let slot = vacant.take(0, 0, always).unwrap();
            if let Some(before) = last.insert(slot, birth) {
                soonest = soonest.min(birth - before);
            }
            vacant.give(0, slot);
        }
        assert!(soonest >= REST, "one came back after {soonest} births");
        // And not many are made for it.
        assert!(vacant.made() <= REST + 2 * FRESH, "{}", vacant.made());
    }

    #[test]
    fn what_one_scheduler_frees_another_uses() {
        let vacant = Vacant::new(1_000_000, 1_000_000, 2);
        for _ in 0..20 {
            let slots: Vec<u32> = (0..5_000)
                .map(|_| vacant.take(0, 0, always).unwrap())
                .collect();
            slots.iter().for_each(|slot| vacant.give(1, *slot));
        }
        assert_eq!(vacant.taken(), 0);
        assert!(vacant.made() < 5_000 + 2 * KEPT, "{}", vacant.made());
    }

    #[test]
    fn some_are_kept_for_those_who_may_have_the_last() {
        let vacant = Vacant::new(100, 1_000, 2);
        let mut slots: Vec<u32> = std::iter::from_fn(|| vacant.take(0, 10, always)).collect();
        assert_eq!((slots.len(), vacant.taken()), (90, 90));
        slots.extend(std::iter::from_fn(|| vacant.take(1, 0, always)));
        assert_eq!((slots.len(), vacant.taken()), (100, 100));
        assert_eq!(slots.iter().collect::<HashSet<_>>().len(), 100);
        for (given, slot) in slots.into_iter().enumerate() {
            let another = vacant.take(1, 10, always);
            assert_eq!(another.is_some(), given > 10, "{given}");
            for slot in another.into_iter().chain([slot]) {
                vacant.give(0, slot);
            }
        }
    }

    #[test]
    fn a_slot_that_is_used_up_makes_room_for_another() {
        let vacant = Vacant::new(3, 4, 1);
        let all: Vec<u32> = std::iter::from_fn(|| vacant.take(0, 0, always)).collect();
        assert_eq!(all, [0, 1, 2]);
        vacant.retire();
        assert_eq!((vacant.take(0, 0, always), vacant.taken()), (Some(3), 3));
        assert_eq!(vacant.take(0, 0, always), None);
        vacant.retire();
        assert_eq!(vacant.take(0, 0, always), None, "there are no more numbers");
        assert_eq!(vacant.taken(), 2);
    }

    #[test]
    fn nobody_makes_slots_against_a_refusal() {
        let vacant = Vacant::new(1_000, 1_000, 1);
        assert_eq!(vacant.take(0, 0, |_| false), None);
        let slot = vacant.take(0, 0, always).unwrap();
        assert_eq!(vacant.take(0, 0, |_| false), None);
        vacant.give(0, slot);
        assert_eq!(vacant.take(0, 0, |_| false), Some(slot), "as there is one");
    }

    #[test]
    fn the_first_pids_are_small_numbers() {
        let vacant = Vacant::new(10_000, 10_000, 3);
        for number in 0..100 {
            assert_eq!(
                vacant.take(number % 3, 0, always),
                u32::try_from(number).ok()
            );
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Take(usize, usize),
        Give(usize, usize),
        Retire(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0..3usize, 0..2usize).prop_map(|(shard, kept)| Act::Take(shard, 5 * kept)),
            4 => (0..3usize, any::<usize>()).prop_map(|(shard, at)| Act::Give(shard, at)),
            1 => any::<usize>().prop_map(Act::Retire),
        ]
    }

    proptest! {
        #[test]
        fn each_is_taken_once_and_the_bound_is_exact(
            limit in 1..200usize,
            acts in proptest::collection::vec(act(), 0..600),
        ) {
            let vacant = Vacant::new(limit, 400, 3);
            let mut taken = Vec::new();
            for act in acts {
                match act {
                    Act::Take(shard, kept) => {
                        let slot = vacant.take(shard, kept, |_| true);
                        let may = taken.len() + kept < limit;
                        prop_assert_eq!(slot.is_some(), may);
                        if let Some(slot) = slot {
                            prop_assert!(!taken.contains(&slot));
                            taken.push(slot);
                        }
                    }
                    Act::Give(shard, at) if !taken.is_empty() => {
                        let slot = taken.swap_remove(at % taken.len());
                        vacant.give(shard, slot);
                    }
                    Act::Retire(at) if !taken.is_empty() => {
                        taken.swap_remove(at % taken.len());
                        vacant.retire();
                    }
                    _ => {}
                }
                prop_assert_eq!(vacant.taken(), taken.len());
            }
        }
    }

    /// Threads that take and give at the same time, at the bound.
    #[test]
    fn no_slot_is_lost_or_taken_twice_by_threads() {
        const THREADS: usize = 4;
        let vacant = Vacant::new(2_000, 10_000, THREADS);
        let owner: Vec<AtomicUsize> = (0..10_000).map(|_| AtomicUsize::new(0)).collect();
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for me in 1..=THREADS {
                let (vacant, owner, start) = (&vacant, &owner, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..200 {
                        let mine: Vec<u32> = (0..700)
                            .map_while(|_| vacant.take(me - 1, 0, always))
                            .collect();
                        for slot in &mine {
                            let before = owner[*slot as usize].swap(me, Ordering::AcqRel);
                            assert_eq!(before, 0, "slot {slot} is taken twice");
                        }
                        for slot in mine {
                            owner[slot as usize].store(0, Ordering::Release);
                            vacant.give((me + round) % THREADS, slot);
                        }
                    }
                });
            }
        });
        assert_eq!(vacant.taken(), 0);
        let all: HashSet<u32> = std::iter::from_fn(|| vacant.take(0, 0, always)).collect();
        assert_eq!(all.len(), 2_000);
    }
}
