//! Timers, ordered by time, in one shard for each scheduler, so that schedulers do not contend for
//! one lock. A scheduler fires its own shard between slices and sleeps no longer than until the
//! shard's next timer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use exuvia_abi::Pid;
use parking_lot::Mutex;

use crate::account::Charge;
use crate::signal::Envelope;

/// Maximum number of timers fired at once, so that a burst does not delay processes.
const BURST: usize = 256;
/// The bit that distinguishes a timer's reference from a monitor's.
const TIMER_BIT: u64 = 1 << 63;
/// Bits of a reference that hold the shard.
const SHARD_BITS: u32 = 8;

/// What happens when a timer is due.
#[derive(Debug)]
pub enum Due {
    /// A message is delivered.
    Message {
        /// The receiver.
        to: Pid,
        /// The message; its reference is the timer's.
        envelope: Envelope,
        /// The charge on the process that set the timer, if that is a guest.
        charge: Option<Charge>,
    },
    /// The process is woken, and finds that its wait is over.
    Wake(Pid),
}

/// All timers of a node.
#[derive(Debug)]
pub struct Timers {
    shards: Box<[Shard]>,
}

#[derive(Debug)]
struct Shard {
    queue: Mutex<Queue>,
    /// When the first timer is due, in nanoseconds of the node's clock; `u64::MAX` for none.
    next: AtomicU64,
    /// Threads that are delivering timers which they have taken out of the queue.
    firing: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    /// By due time and reference. The owner is a part of the key: after a restore, two processes may
    /// have timers with equal references.
    by_time: BTreeMap<(u64, u64, Pid), Due>,
    /// When each message timer is due, by owner and reference.
    messages: BTreeMap<(Pid, u64), u64>,
    /// When each wake timer is due; these are cancelled when their owner terminates. Kept
    /// separately, since a process may have a hundred thousand message timers, which its
    /// termination must not iterate over.
    wakes: BTreeMap<(Pid, u64), u64>,
    sequence: u64,
}

impl Timers {
    /// Returns timers in `shards` shards (at most 256).
    pub fn new(shards: usize) -> Timers {
        Timers {
            shards: (0..shards.clamp(1, 1 << SHARD_BITS))
                .map(|_| Shard {
                    queue: Mutex::default(),
                    next: AtomicU64::new(u64::MAX),
                    firing: AtomicUsize::new(0),
                })
                .collect(),
        }
    }

    /// Returns the shard of a timer. Its reference may be from a node with more shards.
    fn shard_of(&self, reference: u64) -> usize {
        (reference & ((1 << SHARD_BITS) - 1)) as usize % self.shards.len()
    }

    /// Returns the number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Sets a timer of `owner` for the time `at`. `due` is created from the timer's reference.
    /// Returns the reference, and whether the timer is now the first of its shard.
    pub fn set(
        &self,
        shard: usize,
        owner: Pid,
        at: u64,
        due: impl FnOnce(u64) -> Due,
    ) -> (u64, bool) {
        let shard = shard % self.shards.len();
        let Shard { queue, next, .. } = &self.shards[shard];
        let mut queue = queue.lock();
        queue.sequence += 1;
        let reference = TIMER_BIT | queue.sequence << SHARD_BITS | shard as u64;
        let due = due(reference);
        queue.of(&due).insert((owner, reference), at);
        queue.by_time.insert((at, reference, owner), due);
        let first = at < next.load(Ordering::Relaxed);
        if first {
            next.store(at, Ordering::Release);
        }
        (reference, first)
    }

    /// Returns when a timer is due; `None` if it is not set.
    pub fn due(&self, owner: Pid, reference: u64) -> Option<u64> {
        let shard = self.shard_of(reference);
        let mut queue = self.shards.get(shard)?.queue.lock();
        queue.at(owner, reference).copied()
    }

    /// Moves a timer to another time. Returns its shard if the timer is now the first of it.
    pub fn move_to(&self, owner: Pid, reference: u64, at: u64) -> Option<usize> {
        let shard = self.shard_of(reference);
        let Shard { queue, next, .. } = self.shards.get(shard)?;
        let mut queue = queue.lock();
        let before = std::mem::replace(queue.at(owner, reference)?, at);
        if let Some(due) = queue.by_time.remove(&(before, reference, owner)) {
            queue.by_time.insert((at, reference, owner), due);
        }
        let first = at < next.load(Ordering::Relaxed);
        next.store(queue.first(), Ordering::Release);
        first.then_some(shard)
    }

    /// Cancels a timer. Returns when it would have been due; `None` if it was not set.
    pub fn cancel(&self, owner: Pid, reference: u64) -> Option<u64> {
        if reference & TIMER_BIT == 0 {
            return None;
        }
        let shard = self.shard_of(reference);
        let Shard { queue, next, .. } = self.shards.get(shard)?;
        let mut queue = queue.lock();
        let key = (owner, reference);
        let at = (queue.messages.remove(&key)).or_else(|| queue.wakes.remove(&key))?;
        queue.by_time.remove(&(at, reference, owner));
        next.store(queue.first(), Ordering::Release);
        Some(at)
    }

    /// Returns the message timers of a process that are not held, in the order of their references:
    /// the reference, when each is due, the receiver and the message. `None`: timers are being
    /// delivered at this moment, perhaps one of them.
    pub(crate) fn messages_of(&self, owner: Pid) -> Option<Vec<(u64, u64, Pid, Envelope)>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            if shard.next.load(Ordering::Acquire) < u64::MAX {
                let queue = shard.queue.lock();
                for ((_, reference), at) in queue.messages.range((owner, 0)..=(owner, u64::MAX)) {
                    if let Some(Due::Message { to, envelope, .. }) =
                        queue.by_time.get(&(*at, *reference, owner))
                    {
                        found.push((*reference, *at, *to, envelope.clone()));
                    }
                }
            }
            // Acquire: pairs with the Release in `Firing`. What is in the queue no more has been
            // delivered by now.
            if shard.firing.load(Ordering::Acquire) > 0 {
                return None;
            }
        }
        found.sort_unstable_by_key(|(reference, ..)| *reference);
        Some(found)
    }

    /// Sets a timer under a reference that it had before, perhaps on a node with another number of
    /// shards; does nothing if it is set. Returns its shard if the timer is now the first of it.
    pub(crate) fn restore(&self, owner: Pid, reference: u64, at: u64, due: Due) -> Option<usize> {
        let shard = self.shard_of(reference);
        let Shard { queue, next, .. } = self.shards.get(shard)?;
        let mut queue = queue.lock();
        if queue.at(owner, reference).is_some() {
            return None;
        }
        // No new timer gets the same reference.
        queue.sequence = queue.sequence.max((reference & !TIMER_BIT) >> SHARD_BITS);
        queue.of(&due).insert((owner, reference), at);
        queue.by_time.insert((at, reference, owner), due);
        let first = at < next.load(Ordering::Relaxed);
        next.store(queue.first(), Ordering::Release);
        first.then_some(shard)
    }

    /// Cancels the wakes of a process that has terminated. Its messages to others are still
    /// delivered, as in Erlang.
    pub(crate) fn cancel_all(&self, owner: Pid) {
        for Shard { queue, next, .. } in &self.shards {
            // Only the owner's runner sets its timers, and it is the one that calls this: a shard
            // that is seen empty here has none of them.
            if next.load(Ordering::Acquire) == u64::MAX {
                continue;
            }
            let mut queue = queue.lock();
            let all = (owner, 0)..=(owner, u64::MAX);
            let gone = queue.wakes.range(all);
            let gone: Vec<(u64, u64)> =
                gone.map(|((_, reference), at)| (*at, *reference)).collect();
            for (at, reference) in gone {
                queue.wakes.remove(&(owner, reference));
                queue.by_time.remove(&(at, reference, owner));
            }
            next.store(queue.first(), Ordering::Release);
        }
    }

    /// Returns when the shard's first timer is due; `u64::MAX` for none.
    #[inline]
    pub fn next(&self, shard: usize) -> u64 {
        self.shards[shard % self.shards.len()]
            .next
            .load(Ordering::Acquire)
    }

    /// Delivers what is due at `now`, in order, at most one burst of timers.
    pub fn fire(&self, shard: usize, now: u64, mut deliver: impl FnMut(Due)) {
        let shard = &self.shards[shard % self.shards.len()];
        if shard.next.load(Ordering::Acquire) > now {
            return;
        }
        let mut queue = shard.queue.lock();
        let mut due = Vec::new();
        while due.len() < BURST {
            match queue.by_time.first_entry() {
                Some(entry) if entry.key().0 <= now => {
                    let (_, reference, owner) = *entry.key();
                    let what = entry.remove();
                    queue.of(&what).remove(&(owner, reference));
                    due.push(what);
                }
                _ => break,
            }
        }
        // Before the queue shows that they are taken: `messages_of` sees either.
        let firing = Firing::begin(&shard.firing);
        shard.next.store(queue.first(), Ordering::Release);
        drop(queue);
        due.into_iter().for_each(&mut deliver);
        drop(firing);
    }

    /// Returns the number of timers that are set.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.queue.lock().by_time.len())
            .sum()
    }

    /// Returns whether none is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A thread that is delivering timers. Dropping this ends it, also if a delivery panics: no process
/// with timers could be captured any more.
struct Firing<'a>(&'a AtomicUsize);

impl Firing<'_> {
    fn begin(firing: &AtomicUsize) -> Firing<'_> {
        firing.fetch_add(1, Ordering::Relaxed);
        Firing(firing)
    }
}

impl Drop for Firing<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `messages_of`.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Queue {
    /// Returns the index, by owner, of timers of this kind.
    fn of(&mut self, due: &Due) -> &mut BTreeMap<(Pid, u64), u64> {
        match due {
            Due::Message { .. } => &mut self.messages,
            Due::Wake(_) => &mut self.wakes,
        }
    }

    /// Returns when a timer is due, for modification.
    fn at(&mut self, owner: Pid, reference: u64) -> Option<&mut u64> {
        let key = (owner, reference);
        (self.messages.get_mut(&key)).or_else(|| self.wakes.get_mut(&key))
    }

    fn first(&self) -> u64 {
        self.by_time
            .first_key_value()
            .map_or(u64::MAX, |((at, ..), _)| *at)
    }
}
