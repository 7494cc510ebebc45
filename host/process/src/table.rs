//! The process table. Slots are never freed, only reused, so that a sender can access a slot
//! without counting references. The generation in a pid, checked under the mailbox's lock,
//! distinguishes the processes of a slot. A slot whose generations are used up is retired, so that
//! no pid is ever reused.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use exuvia_abi::{Pid, Priority};

use crate::box_cell::BoxCell;
use crate::item::Item;
use crate::mailbox::Mailbox;
use crate::process::Process;
use crate::state::StateWord;
use crate::vacant::{FRESH, Vacant};

/// Slots of one chunk: memory is allocated in steps of 256 KiB.
pub(crate) const CHUNK: usize = 4096;
/// Maximum number of processes of a table: all slots that a pid can name.
pub const MAX_PROCESSES: usize = Pid::SLOTS as usize;
/// Maximum number of chunks.
const CHUNKS: usize = MAX_PROCESSES / CHUNK;
const _: () = assert!(MAX_PROCESSES.is_multiple_of(CHUNK) && CHUNK.is_multiple_of(FRESH));

/// Maximum number of slots reserved for the host: for supervisors, which restart processes, and for
/// operators, whose requests are processes too.
const MOST_KEPT: usize = 1024;
/// At most one slot of so many is reserved.
const KEPT_SHARE: usize = 16;

/// One slot: the shared half of a process, for senders and observers. It takes exactly one cache
/// line.
#[repr(align(64))]
pub struct Slot<G> {
    /// Whether the process is idle, queued or running.
    pub state: StateWord,
    /// Signals in transit.
    pub mailbox: Mailbox<Item<G>>,
    /// The private half; empty while it runs.
    process: BoxCell<Process<G>>,
    /// Whether the process has a registered name, is in a group or owns a table.
    pub(crate) named: AtomicBool,
    /// Whether the process may have timers set (see `timers`).
    pub(crate) timed: AtomicBool,
    /// Threads that are notifying others of the exit of a process of this slot. A number and not a
    /// state: the slot may have its next process, and even lose it again, before all are notified.
    notifying: AtomicU16,
    /// Set when the process runs; cleared by the observer that scans all processes.
    pub ran: AtomicBool,
    /// The only scheduler that may run it, counted from 1; 0: any.
    pin: AtomicU8,
    /// The scheduling priority: a number of [`Priority`].
    priority: AtomicU8,
    /// What the process publishes about itself.
    pub stats: Stats,
}

/// Figures that a process publishes after each turn; relaxed, for display and for limits.
#[derive(Debug, Default)]
pub struct Stats {
    /// Messages in the inner half of the mailbox.
    pub inbox_messages: AtomicU32,
    /// Those of these messages that count against the mailbox's limits.
    pub inbox_limited: AtomicU32,
    /// The bytes of the messages that count.
    pub inbox_bytes: AtomicU64,
}

impl Stats {
    /// Returns the messages that count against the mailbox's limits, and their bytes.
    #[inline]
    pub(crate) fn inbox_counts(&self) -> (u32, u64) {
        let messages = self.inbox_limited.load(Ordering::Relaxed);
        (messages, self.inbox_bytes.load(Ordering::Relaxed))
    }
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
            state: StateWord::default(),
            mailbox: Mailbox::new(),
            process: BoxCell::new(),
            named: AtomicBool::new(false),
            timed: AtomicBool::new(false),
            notifying: AtomicU16::new(0),
            ran: AtomicBool::new(false),
            pin: AtomicU8::new(0),
            priority: AtomicU8::new(Priority::Normal as u8),
            stats: Stats::default(),
        }
    }

    /// Returns the only scheduler that may run the process, if it is pinned.
    #[inline]
    pub fn pinned_to(&self) -> Option<u8> {
        // Relaxed: set before the process is scheduled for the first time.
        self.pin.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(crate) fn pin(&self, scheduler: Option<u8>) {
        let pin = scheduler.map_or(0, |scheduler| scheduler.saturating_add(1));
        self.pin.store(pin, Ordering::Relaxed);
    }

    /// Returns the scheduling priority.
    #[inline]
    pub fn priority(&self) -> Priority {
        // Relaxed: a thread that misses a change queues the process with its previous priority.
        Priority::new(self.priority.load(Ordering::Relaxed).into()).unwrap_or_default()
    }

    /// Notes that others are being notified of an exit, before the slot is freed. That ends when the
    /// result is dropped.
    #[must_use]
    pub(crate) fn begin_notifying(&self) -> Notifying<'_> {
        // Relaxed: the slot is freed afterwards, under a lock that a restore takes first.
        self.notifying.fetch_add(1, Ordering::Relaxed);
        Notifying(&self.notifying)
    }

    /// Returns whether others are still being notified of the exit of a process of this slot. The
    /// caller must have allocated the slot.
    pub(crate) fn is_notifying(&self) -> bool {
        self.notifying.load(Ordering::Acquire) > 0
    }

    pub(crate) fn set_priority(&self, priority: Priority) {
        self.priority.store(priority as u8, Ordering::Relaxed);
    }

    /// Takes the private half. Only for a thread that has set the state to RUNNING, with
    /// `transition_to_running` or `claim`.
    pub fn take_process(&self) -> Option<Box<Process<G>>> {
        let mut process = self.process.take()?;
        process.deliver_init();
        Some(process)
    }

    /// Puts the private half back. To be called before the state changes from RUNNING.
    pub fn put_process(&self, process: Box<Process<G>>) {
        self.process.put(process);
    }
}

/// A thread that is notifying others of an exit. Dropping this ends it, also if a notification
/// panics: no process of the slot could be restored any more.
pub(crate) struct Notifying<'a>(&'a AtomicU16);

impl Drop for Notifying<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `is_notifying`, whose caller's signals then come after
        // these notifications.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Memory for [`CHUNK`] slots, allocated when the first of them is used.
type Chunk<G> = OnceLock<Box<[Slot<G>]>>;

/// Returns whether there is memory for more processes.
type Admission = Box<dyn Fn() -> bool + Send + Sync>;

/// On whose behalf a slot is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// A process that the host starts: it may have a reserved slot.
    Host,
    /// A process that a guest starts.
    Guest,
    /// A process that takes the place of one which has ended, under a supervisor that a guest has
    /// started.
    Restart,
}

/// No generation is above those of all processes that a node with the same number has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationsUsedUp;

impl fmt::Display for GenerationsUsedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the node that the processes were captured on has used the last generation of a slot, so \
             pids of a new node with its number could be those of old processes; give the new node \
             another number, and start its processes anew instead of restoring them",
        )
    }
}

impl std::error::Error for GenerationsUsedUp {}

/// All processes of a node.
pub struct Table<G> {
    chunks: Box<[Chunk<G>]>,
    vacant: Vacant,
    /// Slots reserved for the host.
    kept: usize,
    admission: OnceLock<Admission>,
    /// The node is stopping: guests start no more processes.
    is_closed: AtomicBool,
    /// The generation that a new process has at least, in any slot.
    least_generation: AtomicU64,
}

impl<G> fmt::Debug for Table<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("vacant", &self.vacant)
            .finish_non_exhaustive()
    }
}

impl<G> Table<G> {
    /// Creates an empty table for at most `limit` processes, used by `shards` schedulers.
    pub fn new(limit: usize, shards: usize) -> Table<G> {
        Table {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            vacant: Vacant::new(limit, MAX_PROCESSES, shards),
            kept: MOST_KEPT.min(limit / KEPT_SHARE),
            admission: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            least_generation: AtomicU64::new(0),
        }
    }

    /// Refuses every further process that a guest starts, because the node is stopping. A guest
    /// that spawns without end would else outgrow the processes that are being stopped. Supervisors
    /// continue to restart until they are stopped themselves, as in OTP: that replaces processes, and
    /// their intensity bounds it.
    pub fn close_to_guests(&self) {
        // Relaxed: a spawn that is just under way may still succeed.
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Returns whether guests can start no more processes.
    pub fn is_closed_to_guests(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Has all processes that start from now on begin at this generation or above, in any slot; see
    /// [`Table::next_generation`]. Restored processes keep their own.
    ///
    /// # Errors
    ///
    /// Returns [`GenerationsUsedUp`], and changes nothing, if there is no such generation. Then the
    /// set must not be restored here, and no process started: pids would come again.
    pub fn raise_generations(&self, least: u64) -> Result<(), GenerationsUsedUp> {
        if least > Pid::LAST_GENERATION {
            return Err(GenerationsUsedUp);
        }
        // Relaxed here and below: called before a process starts whose pid could be an old one.
        self.least_generation.fetch_max(least, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the generation that a new process has at least.
    #[inline]
    pub(crate) fn least_generation(&self) -> u64 {
        self.least_generation.load(Ordering::Relaxed)
    }

    /// Returns a generation above those of all processes that this node has had. If a set of
    /// processes is captured to be restored on another node with the same number, this is kept with
    /// the set, and passed to [`Table::raise_generations`] there: the slots that are not in the set
    /// may have had processes, too. To be called when no more processes start. Takes time in
    /// proportion to the number of slots.
    ///
    /// Beyond [`Pid::LAST_GENERATION`] if a slot has had that one: a new node with the same number
    /// cannot avoid all pids that this node has used.
    pub fn next_generation(&self) -> u64 {
        let slots = self.indices().filter_map(|index| self.slot(index));
        let next = slots.map(|slot| slot.mailbox.next_generation()).max();
        next.unwrap_or(0).max(self.least_generation())
    }

    /// Sets the function that decides, before the table grows for a guest's process, whether there
    /// is memory. Only the first call has an effect. The function must be fast.
    pub fn admit_by(&self, admission: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.admission.set(Box::new(admission));
    }

    /// Returns a slot by its number, if it was created.
    #[inline]
    pub fn slot(&self, index: u32) -> Option<&Slot<G>> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    /// Allocates a free slot. `None`: the table is full, or must not grow.
    #[inline]
    pub(crate) fn allocate(&self, shard: usize, whose: Requester) -> Option<u32> {
        let kept = match whose {
            Requester::Host => 0,
            Requester::Guest if self.is_closed.load(Ordering::Relaxed) => return None,
            Requester::Guest | Requester::Restart => self.kept,
        };
        self.vacant.take(shard, kept, |numbers| {
            let refuses = || self.admission.get().is_some_and(|admits| !admits());
            if whose != Requester::Host && refuses() {
                return false;
            }
            self.create(&numbers);
            true
        })
    }

    /// Allocates this slot. Returns false if it is taken, or beyond the limit on processes.
    pub(crate) fn allocate_at(&self, index: u32) -> bool {
        self.vacant.claim(index, |numbers| self.create(&numbers))
    }

    /// Creates the slots of a batch, which lie in one chunk. Called under the pool's lock, so that
    /// only one thread creates the chunk.
    fn create(&self, numbers: &Range<u32>) {
        let chunk = numbers.start as usize / CHUNK;
        self.chunks[chunk].get_or_init(|| (0..CHUNK).map(|_| Slot::new()).collect());
    }

    /// Frees a slot.
    #[inline]
    pub(crate) fn release(&self, shard: usize, index: u32) {
        self.vacant.give(shard, index);
    }

    /// Notes that a slot's generations are used up: it is not used again.
    pub(crate) fn retire(&self) {
        self.vacant.retire();
    }

    /// Returns the number of living processes, including reserved pids.
    pub fn alive(&self) -> usize {
        self.vacant.taken()
    }

    /// Returns the maximum number of processes.
    pub fn limit(&self) -> usize {
        self.vacant.limit()
    }

    /// Returns the maximum number of processes, less the slots reserved for the host.
    pub fn limit_of_guests(&self) -> usize {
        self.vacant.limit() - self.kept
    }

    /// Returns the numbers of all slots that were created.
    pub fn indices(&self) -> impl Iterator<Item = u32> + use<G> {
        0..u32::try_from(self.vacant.made()).unwrap_or(u32::MAX)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
