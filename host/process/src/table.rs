//! The process table: slots that are never given back, only reused, so that a
//! sender can look at a slot without counting references. The generation in a
//! pid, checked under the mailbox's lock, tells the processes of a slot apart. A
//! slot whose generations are used up is retired, so that no pid comes twice.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::atomic::AtomicCell;
use exuvia_abi::{Pid, Priority};

use crate::mailbox::Mailbox;
use crate::own::Own;
use crate::signal::Signal;
use crate::state::State;
use crate::vacant::{FRESH, Vacant};

/// Slots of one chunk: memory is taken in steps of 256 KiB.
const CHUNK: usize = 4096;
/// Most processes that a table can hold: all slots that a pid can name.
pub const MAX_PROCESSES: usize = Pid::SLOTS as usize;
/// Most chunks.
const CHUNKS: usize = MAX_PROCESSES / CHUNK;
const _: () = assert!(MAX_PROCESSES.is_multiple_of(CHUNK) && CHUNK.is_multiple_of(FRESH));

/// Slots that guests do not get, at most: for supervisors, which start again what
/// has ended, and for operators, whose requests are processes too.
const MOST_KEPT: usize = 1024;
/// And no more than one of so many.
const KEPT_SHARE: usize = 16;

/// One slot: what senders and observers may touch of a process. It is one line
/// of the cache, and shares it with no other slot.
#[repr(align(64))]
pub struct Slot<G> {
    /// Whether it is idle, queued or running.
    pub state: State,
    /// Signals in transit.
    pub mailbox: Mailbox<Signal<G>>,
    /// The process's own half; empty while a scheduler runs it.
    own: AtomicCell<Option<Box<Own<G>>>>,
    /// Whether it has a registered name, is in a group or owns a table.
    pub(crate) named: AtomicBool,
    /// Whether it may have timers set (see `timers`).
    pub(crate) timed: AtomicBool,
    /// It has run since somebody who looks at all has looked at it last.
    pub ran: AtomicBool,
    /// The only scheduler that may run it, counted from 1; 0: any.
    pin: AtomicU8,
    /// How soon it gets its turn: a number of [`Priority`].
    priority: AtomicU8,
    /// What the process publishes about itself.
    pub stats: Stats,
}

/// Figures that a process publishes after each turn; relaxed, for display and limits.
#[derive(Debug, Default)]
pub struct Stats {
    /// Messages in the inner half of the mailbox.
    pub inbox_messages: AtomicU32,
    /// Those of them that count against the mailbox's limits.
    pub inbox_limited: AtomicU32,
    /// The bytes of those that count.
    pub inbox_bytes: AtomicU64,
}

impl<G> fmt::Debug for Slot<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<G> Slot<G> {
    fn new() -> Slot<G> {
        Slot {
            state: State::default(),
            mailbox: Mailbox::new(),
            own: AtomicCell::new(None),
            named: AtomicBool::new(false),
            timed: AtomicBool::new(false),
            ran: AtomicBool::new(false),
            pin: AtomicU8::new(0),
            priority: AtomicU8::new(Priority::Normal as u8),
            stats: Stats::default(),
        }
    }

    /// The only scheduler that may run the process, if it is pinned.
    #[inline]
    pub fn pinned_to(&self) -> Option<u8> {
        // Relaxed: set before the process is scheduled for the first time.
        self.pin.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(crate) fn pin(&self, scheduler: Option<u8>) {
        let pin = scheduler.map_or(0, |scheduler| scheduler.saturating_add(1));
        self.pin.store(pin, Ordering::Relaxed);
    }

    /// How soon the process gets its turn.
    #[inline]
    pub fn priority(&self) -> Priority {
        // Relaxed: whoever misses a change queues it where it would have been.
        Priority::new(self.priority.load(Ordering::Relaxed).into()).unwrap_or_default()
    }

    pub(crate) fn set_priority(&self, priority: Priority) {
        self.priority.store(priority as u8, Ordering::Relaxed);
    }

    /// Takes the process's own half. Only for who has the state RUNNING, by
    /// `begin` or `claim`.
    pub fn take_own(&self) -> Option<Box<Own<G>>> {
        let mut own = self.own.swap(None)?;
        own.begin_life();
        Some(own)
    }

    /// Puts it back, before the state is left.
    pub fn put_own(&self, own: Box<Own<G>>) {
        self.own.store(Some(own));
    }
}

/// Memory for [`CHUNK`] slots, taken when the first of them is used.
type Chunk<G> = OnceLock<Box<[Slot<G>]>>;

/// Whether there is memory for more processes.
type Admission = Box<dyn Fn() -> bool + Send + Sync>;

/// For whom a slot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A process that the host starts: it may have the last one.
    Host,
    /// A process that a guest starts.
    Guest,
}

/// All processes of a node.
pub struct Table<G> {
    chunks: Box<[Chunk<G>]>,
    vacant: Vacant,
    /// Slots that guests do not get.
    kept: usize,
    admission: OnceLock<Admission>,
}

impl<G> fmt::Debug for Table<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("vacant", &self.vacant)
            .finish_non_exhaustive()
    }
}

impl<G> Table<G> {
    /// An empty table for at most `limit` processes, which `shards` schedulers use.
    pub fn new(limit: usize, shards: usize) -> Table<G> {
        Table {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            vacant: Vacant::new(limit, MAX_PROCESSES, shards),
            kept: MOST_KEPT.min(limit / KEPT_SHARE),
            admission: OnceLock::new(),
        }
    }

    /// Has `admission` asked, once, whether there is memory before the table grows for
    /// a guest's process. It must not take long.
    pub fn admit_by(&self, admission: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.admission.set(Box::new(admission));
    }

    /// A slot by its number, if it was ever made.
    #[inline]
    pub fn slot(&self, index: u32) -> Option<&Slot<G>> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    /// Finds a free slot. `None`: the table is full, or must not grow.
    #[inline]
    pub(crate) fn allocate(&self, shard: usize, whose: For) -> Option<u32> {
        let kept = match whose {
            For::Host => 0,
            For::Guest => self.kept,
        };
        self.vacant.take(shard, kept, |numbers| {
            let refuses = || self.admission.get().is_some_and(|admits| !admits());
            if whose == For::Guest && refuses() {
                return false;
            }
            let chunk = numbers.start as usize / CHUNK;
            // Under the pool's lock, so that one thread makes the chunk.
            self.chunks[chunk].get_or_init(|| (0..CHUNK).map(|_| Slot::new()).collect());
            true
        })
    }

    /// Frees a slot.
    #[inline]
    pub(crate) fn release(&self, shard: usize, index: u32) {
        self.vacant.give(shard, index);
    }

    /// Frees one whose generations are used up: it is not used again.
    pub(crate) fn retire(&self) {
        self.vacant.retire();
    }

    /// Processes alive, reserved ones among them.
    pub fn alive(&self) -> usize {
        self.vacant.taken()
    }

    /// Most processes.
    pub fn limit(&self) -> usize {
        self.vacant.limit()
    }

    /// Most processes, less those that guests do not get.
    pub fn limit_of_guests(&self) -> usize {
        self.vacant.limit() - self.kept
    }

    /// Numbers of all slots that were made.
    pub fn indices(&self) -> impl Iterator<Item = u32> + use<G> {
        0..u32::try_from(self.vacant.made()).unwrap_or(u32::MAX)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
