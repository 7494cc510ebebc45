//! The free slots of the process table.
//!
//! Slots are created in small batches and never freed. Each scheduler has a queue of free slots, so
//! that concurrent spawns do not contend for one lock; surplus slots move between queues through a
//! pool. A slot that becomes free goes to the end of a queue and is not reused as long as new slots
//! may be created and at most [`REST`] are in the queue: a slot's generations are many but limited,
//! so their use is spread over all slots.
//!
//! The limit on processes is the number of slots: there is no counter of living processes that all
//! schedulers would contend for.
//!
//! Lock order: the schedulers' queues, then the pool. Only [`Vacant::claim`] holds several queues'
//! locks, which it takes in their order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use crate::sync::Mutex;
use crate::table::CHUNK;

/// Free slots that stay in a scheduler's queue before they are reused: 16 KiB of the table, which
/// stay in the cache when processes are spawned in quick succession.
const REST: usize = 256;
/// Free slots that a queue keeps; beyond that, the oldest [`BATCH`] go to the pool.
const KEPT: usize = 1024;
/// Slots that move to or from the pool at once.
const BATCH: usize = 512;
/// Slots that are created at once; a divisor of `table`'s chunk size.
pub(crate) const FRESH: usize = 64;
/// The first slots are created one by one, so that the pids of a small node are small numbers in
/// the order of spawning.
const SINGLE: usize = 4096;

#[derive(Debug)]
pub(crate) struct Vacant {
    shards: Box<[CachePadded<Shard>]>,
    /// Batches of free slots; none is empty.
    pool: Mutex<VecDeque<Vec<u32>>>,
    /// Slots created so far. Changed only under the pool's lock, like `held` and `retired`.
    made: AtomicUsize,
    /// Slots in the pool.
    held: AtomicUsize,
    /// Slots whose generations are used up.
    retired: AtomicUsize,
    /// Maximum number of slots whose generations are not used up.
    limit: usize,
    /// Maximum number of slots.
    most: usize,
}

#[derive(Debug)]
struct Shard {
    free: Mutex<VecDeque<u32>>,
    /// The length of `free`, readable without the lock. A transfer from or to the pool is counted
    /// while the pool is locked.
    count: AtomicUsize,
}

impl Vacant {
    /// Creates the record for at most `limit` processes at a time and `most` slots in all.
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

    /// Takes a free slot. `None` if there is none, or if no more than `kept` slots, which are
    /// reserved for callers that pass 0, would remain. `make` creates slots with these numbers, or
    /// returns false to refuse.
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
        // Relaxed here and below: only a number; no other data depends on it.
        mine.count.store(free.len(), Ordering::Relaxed);
        drop(free);
        slot.or_else(|| self.take_from_any())
    }

    /// Returns whether no more than `kept` slots are free or may be created.
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
            // In front of the slots that were freed recently.
            batch
                .into_iter()
                .rev()
                .for_each(|slot| free.push_front(slot));
        } else {
            let made = self.made.load(Ordering::Relaxed);
            let used_up = self.retired.load(Ordering::Relaxed);
            let most = (self.limit + used_up).min(self.most);
            // No batch extends beyond one chunk of the table.
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

    /// Takes a slot from any queue, when no more can be created.
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

    /// Takes this slot. Returns false if it is not free, or beyond the limit. Slots up to it that do
    /// not exist are created and are free; `make` creates those of one chunk of the table.
    ///
    /// To find a free slot takes time in proportion to their number; to take the slots of a new
    /// table in ascending order takes constant time for each.
    pub(crate) fn claim(&self, slot: u32, make: impl Fn(Range<u32>)) -> bool {
        // All at once: a slot that moves between the queues is seen exactly once.
        let mut queues: Vec<_> = self.shards.iter().map(|shard| shard.free.lock()).collect();
        let mut pool = self.pool.lock();
        let made = self.made.load(Ordering::Relaxed);
        if (slot as usize) < made {
            for (shard, free) in self.shards.iter().zip(&mut queues) {
                if let Some(at) = free.iter().position(|other| *other == slot) {
                    free.remove(at);
                    shard.count.store(free.len(), Ordering::Relaxed);
                    return true;
                }
            }
            let found = pool.iter().enumerate().find_map(|(batch, slots)| {
                let at = slots.iter().position(|other| *other == slot)?;
                Some((batch, at))
            });
            let Some((batch, at)) = found else {
                return false;
            };
            pool[batch].swap_remove(at);
            // `refill` relies on it that no batch is empty.
            if pool[batch].is_empty() {
                pool.remove(batch);
            }
            let held = self.held.load(Ordering::Relaxed) - 1;
            self.held.store(held, Ordering::Relaxed);
            return true;
        }
        let used_up = self.retired.load(Ordering::Relaxed);
        let most = (self.limit + used_up).min(self.most);
        if slot as usize >= most {
            return false;
        }
        let mut first = made;
        while first <= slot as usize {
            // No batch extends beyond one chunk of the table.
            let end = ((first / CHUNK + 1) * CHUNK).min(first + BATCH);
            let end = end.min(slot as usize + 1);
            let Some(numbers) = u32::try_from(first).ok().zip(u32::try_from(end).ok()) else {
                return false;
            };
            let numbers = numbers.0..numbers.1;
            make(numbers.clone());
            let batch: Vec<u32> = numbers.filter(|number| *number != slot).collect();
            let held = self.held.load(Ordering::Relaxed) + batch.len();
            self.held.store(held, Ordering::Relaxed);
            if !batch.is_empty() {
                pool.push_back(batch);
            }
            first = end;
        }
        // Release: pairs with the Acquire in `made`, for iteration.
        self.made.store(first, Ordering::Release);
        true
    }

    /// Returns a slot to the free slots.
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

    /// Notes that a slot's generations are used up: another slot may be created instead.
    #[cold]
    pub(crate) fn retire(&self) {
        let _pool = self.pool.lock();
        let retired = self.retired.load(Ordering::Relaxed) + 1;
        self.retired.store(retired, Ordering::Relaxed);
    }

    /// Returns the number of slots created so far.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::Acquire)
    }

    /// Returns the number of slots in use.
    pub(crate) fn taken(&self) -> usize {
        // Locked, so that slots in transfer are counted exactly once.
        let _pool = self.pool.lock();
        let made = self.made.load(Ordering::Relaxed) - self.retired.load(Ordering::Relaxed);
        made.saturating_sub(self.free())
    }

    /// Returns the maximum number of slots in use at a time.
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
    fn a_free_slot_is_not_reused_quickly() {
        let vacant = Vacant::new(100_000, 100_000, 2);
        let mut last = HashMap::new();
        let mut soonest = usize::MAX;
        for spec in 0..10_000 {
            let slot = vacant.take(0, 0, always).unwrap();
            if let Some(before) = last.insert(slot, spec) {
                soonest = soonest.min(spec - before);
            }
            vacant.give(0, slot);
        }
        assert!(soonest >= REST, "one came back after {soonest} spawns");
        // Nor are many slots created for this.
        assert!(vacant.made() <= REST + 2 * FRESH, "{}", vacant.made());
    }

    #[test]
    fn a_slot_that_one_scheduler_frees_is_used_by_another() {
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
    fn the_last_slots_are_reserved() {
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
    fn a_used_up_slot_is_replaced_by_another() {
        let vacant = Vacant::new(3, 4, 1);
        let all: Vec<u32> = std::iter::from_fn(|| vacant.take(0, 0, always)).collect();
        assert_eq!(all, [0, 1, 2]);
        vacant.retire();
        assert_eq!((vacant.take(0, 0, always), vacant.taken()), (Some(3), 3));
        assert_eq!(vacant.take(0, 0, always), None);
        vacant.retire();
        assert_eq!(vacant.take(0, 0, always), None, "no numbers are left");
        assert_eq!(vacant.taken(), 2);
    }

    #[test]
    fn no_slot_is_created_if_the_caller_refuses() {
        let vacant = Vacant::new(1_000, 1_000, 1);
        assert_eq!(vacant.take(0, 0, |_| false), None);
        let slot = vacant.take(0, 0, always).unwrap();
        assert_eq!(vacant.take(0, 0, |_| false), None);
        vacant.give(0, slot);
        assert_eq!(vacant.take(0, 0, |_| false), Some(slot), "as there is one");
    }

    #[test]
    fn slots_are_taken_after_all_of_a_batch_were_claimed() {
        let vacant = Vacant::new(10, 10, 1);
        assert!(vacant.claim(1, |_| ()) && vacant.claim(0, |_| ()));
        assert_eq!(vacant.take(0, 0, always), Some(2));
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
        Claim(u32),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0..3usize, 0..2usize).prop_map(|(shard, kept)| Act::Take(shard, 5 * kept)),
            4 => (0..3usize, any::<usize>()).prop_map(|(shard, at)| Act::Give(shard, at)),
            1 => any::<usize>().prop_map(Act::Retire),
            2 => (0..250u32).prop_map(Act::Claim),
        ]
    }

    proptest! {
        #[test]
        fn each_slot_is_taken_once_and_the_bound_is_exact(
            limit in 1..200usize,
            // As in a restore: whole batches are claimed.
            first in proptest::collection::vec(0..4u32, 0..6),
            acts in proptest::collection::vec(act(), 0..600),
        ) {
            let first = first.into_iter().map(Act::Claim);
            let vacant = Vacant::new(limit, 400, 3);
            let mut taken = Vec::new();
            let mut retired = Vec::new();
            for act in first.chain(acts) {
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
                        retired.push(taken.swap_remove(at % taken.len()));
                        vacant.retire();
                    }
                    Act::Claim(slot) => {
                        let exists = (slot as usize) < limit + retired.len();
                        let free = !taken.contains(&slot) && !retired.contains(&slot);
                        let claimed = vacant.claim(slot, |_| ());
                        prop_assert_eq!(claimed, exists && free);
                        if claimed {
                            taken.push(slot);
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(vacant.taken(), taken.len());
            }
        }
    }

    /// Threads that take and give at the same time, at the limit.
    #[test]
    fn threads_neither_lose_a_slot_nor_take_it_twice() {
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
