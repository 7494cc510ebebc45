//! The process table: slots that are never given back, only reused, so that a
//! sender can look at a slot without counting references. The generation in a
//! pid, checked under the mailbox's lock, tells the processes of a slot apart.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::atomic::AtomicCell;
use exuvia_abi::Priority;

use crate::mailbox::Mailbox;
use crate::own::Own;
use crate::signal::Signal;
use crate::state::State;
use crate::sync::Mutex;

/// Slots of one chunk: memory is taken in steps of 256 KiB.
const CHUNK: usize = 4096;
/// Most chunks: 33 million processes.
const CHUNKS: usize = 8192;

/// Most processes that a table can hold.
pub const MAX_PROCESSES: usize = CHUNK * CHUNKS;

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

/// All processes of a node.
#[derive(Debug)]
pub struct Table<G> {
    chunks: Box<[Chunk<G>]>,
    free: Mutex<Vec<u32>>,
    /// Slots that were used at least once.
    used: AtomicUsize,
    alive: AtomicUsize,
    limit: usize,
}

impl<G> Table<G> {
    /// An empty table for at most `limit` processes.
    pub fn new(limit: usize) -> Table<G> {
        Table {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            free: Mutex::new(Vec::new()),
            used: AtomicUsize::new(0),
            alive: AtomicUsize::new(0),
            limit: limit.min(MAX_PROCESSES),
        }
    }

    /// A slot by its number, if it was ever used.
    #[inline]
    pub fn slot(&self, index: u32) -> Option<&Slot<G>> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    /// Finds a free slot. `None`: the table is full.
    pub(crate) fn allocate(&self) -> Option<u32> {
        if self.alive.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.alive.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut free = self.free.lock();
        if let Some(index) = free.pop() {
            return Some(index);
        }
        // Under the lock, so that one thread makes the next chunk.
        let index = self.used.load(Ordering::Relaxed);
        if index >= MAX_PROCESSES {
            self.alive.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.chunks[index / CHUNK].get_or_init(|| (0..CHUNK).map(|_| Slot::new()).collect());
        // Release: pairs with the Acquire in `used`, for iteration.
        self.used.store(index + 1, Ordering::Release);
        u32::try_from(index).ok()
    }

    pub(crate) fn release(&self, index: u32) {
        self.free.lock().push(index);
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }

    /// Processes alive, reserved ones among them.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// Numbers of all slots that were used at least once.
    pub fn indices(&self) -> impl Iterator<Item = u32> + use<G> {
        0..u32::try_from(self.used.load(Ordering::Acquire)).unwrap_or(u32::MAX)
    }
}
