//! The loop of one worker thread.
//!
//! Only the thread that has a `Worker` uses it: in the loop, and during a slice or a tick through a
//! thread-local, with which a wake finds the queue of the thread it is on. A slice that blocks in
//! place hands the worker over to another thread (see `handoff`).
//!
//! # The order of work
//!
//! 1. High priority, except for the share of the others: each high-priority slice adds to what the
//!    others are owed, and when that amounts to a whole slice they get it, from wherever one is
//!    found. Then low priority, every [`LOW_EVERY`]th pick.
//! 2. Every [`INJECTOR_EVERY`]th pick checks the injector first, so that a worker that never runs
//!    out of work still takes what comes from outside; so does the first pick after a handoff to
//!    another thread (`handoff`).
//! 3. The slot, at most [`SLOT_LIMIT`] times in a row, so that two processes that wake each other
//!    cannot starve the queue.
//! 4. In alternation: what is pinned here, and the front of the queue. [`Next::Again`] goes to its
//!    back.
//! 5. The slot again, and what is pinned: the queue had its turn and was empty.
//! 6. A search: high priority, the injector, the queues of other workers from a random one on, then
//!    low priority; many rounds with short spins between them.
//! 7. Sleep, or a wait at the poller if that has anything to wait for (see `poller`).
//!
//! Before each slice, if something else waits in the queue, one sleeper is woken (unless a worker
//! is searching already).
//!
//! # The slot
//!
//! A process that sends and then waits is best followed at once, on the same worker, by the one it
//! woke: the message is still in the cache. So a local wake goes to the slot, and the previous
//! occupant moves to the back of the queue.
//!
//! No other worker can take what is in the slot. Allowing that would cost a locked instruction for
//! every hop: 25 ns instead of 14 ns for a pair of processes that wake each other. The price is
//! that the occupant may wait for two slices (the current one, and one turn of the queue) although
//! another worker is idle. Slices are short and bounded, so this costs less than waking that
//! worker. If a slice is known to be long, its code announces that ([`Worker::slice_gets_long`]).

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt, hint,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_deque::Worker as Queue;

use crate::{
    config::OnStart,
    idle::Parked,
    parker::Parker,
    poller::Poller,
    scheduler::{Next, Run},
    shared::{HOLD, PINNED, Remote, STOP, SchedulerState, until_settled},
};

/// A prime, as in the schedulers of Go and tokio, so that it does not fall into step with other
/// periods.
const INJECTOR_EVERY: u32 = 61;
/// As in Erlang, where a low-priority process is skipped seven times out of eight.
const LOW_EVERY: u32 = 8;
/// A request and its reply are two uses; one more lets the requester continue.
const SLOT_LIMIT: u32 = 3;
/// Rounds of a search, and pauses between two of them. Together they last a few microseconds, about
/// what it costs to sleep and be woken again. Longer pauses make a hop between workers slower
/// (measured: 490 ns with 4, 600 ns when they double up to 64).
const SEARCH_ROUNDS: u32 = 80;
const ROUND_PAUSES: u32 = 4;
/// `tick` is due when the slices since the last one took this long, as estimated from their average
/// so far: half of the lateness that timers may have (0.1 ms).
const TICK_TARGET_NS: u64 = 50_000;
/// Maximum number of slices between two ticks. Slices may become long without notice, and each ends
/// within about a millisecond, so this bounds the delay; and a tick shared by 32 slices costs each
/// of them some 3 ns.
const TICK_UNITS_MAX: u32 = 32;
/// A slice that ended with [`Next::Again`] counts as eight: it probably used its whole budget, but
/// it may also be a short slice of a process that was woken meanwhile.
const AGAIN_UNITS: u32 = 8;

thread_local! {
    /// The worker of this thread, during slices and ticks.
    static CURRENT: RefCell<Option<Box<Worker>>> = const { RefCell::new(None) };
}

/// Calls `f` with this thread's worker if it belongs to that scheduler.
#[inline]
pub(crate) fn with_current<T>(
    shared: &Arc<SchedulerState>,
    f: impl FnOnce(&Worker) -> T,
) -> Option<T> {
    // `try_with` fails while the thread's locals are destroyed; then the thread counts as outside.
    CURRENT
        .try_with(|current| {
            let current = current.try_borrow().ok()?;
            let worker = current.as_deref()?;
            worker.is_of(shared).then(|| f(worker))
        })
        .ok()
        .flatten()
}

/// Makes it this thread's worker for the duration of a slice or a tick.
pub(crate) fn publish(worker: Box<Worker>) {
    CURRENT.with(|current| current.replace(Some(worker)));
}

/// Returns the worker that was published here, unless another thread has taken it over.
pub(crate) fn take_back() -> Option<Box<Worker>> {
    CURRENT.with(RefCell::take)
}

/// The poller of a worker; `None` while it is at work, and if there is none.
struct WorkerPoller(Option<Box<dyn Poller>>);

impl fmt::Debug for WorkerPoller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerPoller")
            .field(&self.0.is_some())
            .finish()
    }
}

#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<SchedulerState>,
    /// This worker's entry of `shared.remotes`.
    own: Arc<Remote>,
    number: usize,
    queue: Queue<u32>,
    /// The process that was woken last on this worker.
    slot: Cell<Option<u32>>,
    slot_uses: Cell<u32>,
    /// Processes that only this worker runs; they are never stolen.
    pinned: RefCell<VecDeque<u32>>,
    /// Whether these are next, before the queue.
    pinned_turn: Cell<bool>,
    /// Whether wakes bypass the slot for the rest of the slice.
    long_slice: Cell<bool>,
    parker: Parker,
    poller: WorkerPoller,
    /// Whether this thread waits at the poller, so that a wake has to end that.
    waits_at_poller: Cell<bool>,
    /// Whether it handles what is ready there between two slices.
    looks_at_poller: Cell<bool>,
    /// Whether this worker is counted as searching in `idle`.
    searching: Cell<bool>,
    picks_to_injector: Cell<u32>,
    /// Picks until the next one from the low-priority queue.
    picks_to_low: Cell<u32>,
    /// What other processes are owed because of high-priority slices: see `pick_high`.
    owed: Cell<u32>,
    /// Whether the next of these slices goes to the injector.
    owed_to_outside: Cell<bool>,
    /// Units (slices, some of which count more) since the last tick, and how many make the next one
    /// due.
    tick_units: Cell<u32>,
    tick_due: Cell<u32>,
    tick_since: Cell<Instant>,
    random: Cell<u64>,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<SchedulerState>,
        number: usize,
        queue: Queue<u32>,
        (parker, poller): (Parker, Option<Box<dyn Poller>>),
    ) -> Self {
        Worker {
            own: Arc::clone(&shared.remotes[number]),
            number,
            queue,
            slot: Cell::new(None),
            slot_uses: Cell::new(0),
            pinned: RefCell::default(),
            pinned_turn: Cell::new(false),
            long_slice: Cell::new(false),
            parker,
            poller: WorkerPoller(poller),
            waits_at_poller: Cell::new(false),
            looks_at_poller: Cell::new(false),
            searching: Cell::new(false),
            picks_to_injector: Cell::new(INJECTOR_EVERY),
            picks_to_low: Cell::new(LOW_EVERY),
            owed: Cell::new(0),
            owed_to_outside: Cell::new(false),
            tick_units: Cell::new(0),
            tick_due: Cell::new(1),
            tick_since: Cell::new(now()),
            // Any odd number is valid; each worker gets a different one.
            random: Cell::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 * 2 + 1)),
            shared,
        }
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn is_of(&self, shared: &Arc<SchedulerState>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// Runs the loop on a worker's first thread: until the STOP order, or until another thread
    /// continues.
    pub(crate) fn enter<R: Run + ?Sized>(self: Box<Self>, run: &Arc<R>, on_start: Option<OnStart>) {
        let number = self.number;
        let (worker, started) = self.lend(|| {
            on_start
                .is_none_or(|on_start| catch_unwind(AssertUnwindSafe(|| on_start(number))).is_ok())
        });
        let Some(worker) = worker else { return };
        if !started {
            // The panic hook has reported it. A scheduler without this worker would be worse.
            worker.own.counters.panics.add(1);
        }
        worker.work(run);
    }

    /// Runs `act` while wakes find this worker. `None`: another thread has taken the worker over.
    #[inline]
    fn lend<T>(self: Box<Self>, act: impl FnOnce() -> T) -> (Option<Box<Self>>, T) {
        publish(self);
        let done = act();
        (take_back(), done)
    }

    /// Handles a wake from inside a slice, a tick or the poller.
    #[inline]
    pub(crate) fn wake(&self, index: u32) {
        if self.long_slice.get() {
            self.wake_for_later(index);
        } else if let Some(displaced) = self.slot.replace(Some(index)) {
            self.queue.push(displaced);
            self.notify();
        }
    }

    /// Handles a wake in a slice that lasts, or at the poller.
    #[cold]
    fn wake_for_later(&self, index: u32) {
        self.queue.push(index);
        if self.waits_at_poller.get() {
            // What is ready besides is still handled; then the worker goes on here.
            self.parker.unparker().unpark();
        } else if !self.looks_at_poller.get() {
            self.notify_for_long();
        }
    }

    /// Handles a wake of a process that only this worker runs.
    pub(crate) fn wake_pinned(&self, index: u32) {
        self.pinned.borrow_mut().push_back(index);
        if self.waits_at_poller.get() {
            self.parker.unparker().unpark();
        }
    }

    /// Moves the slot's occupant, and all further wakes of this slice, to the queue for other
    /// workers to take.
    pub(crate) fn slice_gets_long(&self) {
        self.long_slice.set(true);
        if let Some(index) = self.slot.take() {
            self.queue.push(index);
        }
        if !self.queue.is_empty() {
            self.notify_for_long();
        }
    }

    /// Runs the loop until the STOP order, or until another thread continues.
    pub(crate) fn work<R: Run + ?Sized>(mut self: Box<Self>, run: &Arc<R>) {
        while self.obey() {
            let went_on = match self.pick().or_else(|| self.search()) {
                Some(index) => self.slice(&**run, index),
                None => self.park(&**run),
            };
            match went_on {
                Some(worker) => self = worker,
                None => return,
            }
        }
        self.own.gate.leave();
    }

    /// Follows orders. Returns false if the worker must stop.
    #[inline]
    fn obey(&self) -> bool {
        self.own.orders() == 0 || self.obey_slow()
    }

    #[cold]
    fn obey_slow(&self) -> bool {
        self.fetch_pinned();
        if self.own.orders() & (STOP | HOLD) == 0 {
            return true;
        }
        // A held searcher would keep wakers from waking other workers.
        self.end_search();
        let stopping = || self.own.orders() & STOP != 0;
        if !stopping() {
            self.own.gate.stand(stopping);
        }
        !stopping()
    }

    /// Takes over the processes pinned here that other threads have woken.
    fn fetch_pinned(&self) {
        if self.own.orders() & PINNED == 0 {
            return;
        }
        // Before taking: a later push gives the order again.
        self.own.take_back(PINNED);
        let mut pinned = self.pinned.borrow_mut();
        while let Some(index) = until_settled(|| self.own.pinned.steal()) {
            pinned.push_back(index);
        }
    }

    #[inline]
    fn pop_pinned(&self) -> Option<u32> {
        let index = self.pinned.borrow_mut().pop_front()?;
        self.slot_uses.set(0);
        Some(index)
    }

    /// Returns work by steps 1 to 5 of the order of work.
    #[inline]
    fn pick(&self) -> Option<u32> {
        if !self.shared.high.is_empty()
            && let Some(index) = self.pick_high()
        {
            return Some(index);
        }
        self.pick_other()
    }

    /// Returns a high-priority process, or another one if the others are owed a slice. So that
    /// `share` slices of a hundred are theirs, each slice that they do not get adds `share`, and
    /// each that they get subtracts the rest.
    #[cold]
    fn pick_high(&self) -> Option<u32> {
        let share = self.shared.others_share;
        let slice = 100 - share;
        let owed = self.owed.get();
        if owed >= slice {
            // Alternates between the injector and the local work: otherwise the injector's regular
            // turn would come far too late.
            let outside = self.owed_to_outside.replace(!self.owed_to_outside.get());
            let found = outside.then(|| self.pop_injector()).flatten();
            let found = found
                .or_else(|| self.pick_other())
                .or_else(|| self.pop_injector())
                .or_else(|| self.steal())
                .or_else(|| self.shared.low.pop());
            if let Some(index) = found {
                self.owed.set(owed - slice);
                return Some(index);
            }
        }
        let index = self.shared.high.pop()?;
        // The debt is capped: processes that were absent are not owed more than one slice.
        self.owed.set((owed + share).min(slice.max(share)));
        Some(index)
    }

    /// Returns work by steps 1 to 5 without high priority.
    #[inline]
    fn pick_other(&self) -> Option<u32> {
        if !self.shared.low.is_empty()
            && let Some(index) = self.pop_low()
        {
            return Some(index);
        }
        let to_injector = self.picks_to_injector.get() - 1;
        self.picks_to_injector.set(to_injector);
        if to_injector == 0 {
            self.picks_to_injector.set(INJECTOR_EVERY);
            if let Some(index) = self.pop_injector() {
                return Some(index);
            }
        }
        if self.slot_uses.get() < SLOT_LIMIT
            && let Some(index) = self.pop_slot()
        {
            return Some(index);
        }
        if self.pinned_turn.replace(!self.pinned_turn.get())
            && let Some(index) = self.pop_pinned()
        {
            return Some(index);
        }
        if let Some(index) = self.queue.pop() {
            self.slot_uses.set(0);
            return Some(index);
        }
        self.pop_slot().or_else(|| self.pop_pinned())
    }

    /// Returns a low-priority process if it is their turn.
    #[cold]
    fn pop_low(&self) -> Option<u32> {
        let left = self.picks_to_low.get() - 1;
        if left > 0 {
            self.picks_to_low.set(left);
            return None;
        }
        self.picks_to_low.set(LOW_EVERY);
        self.shared.low.pop()
    }

    #[inline]
    fn pop_slot(&self) -> Option<u32> {
        let index = self.slot.take()?;
        self.slot_uses.set(self.slot_uses.get().saturating_add(1));
        self.own.counters.slot_hits.add(1);
        Some(index)
    }

    /// Makes the next pick take from the injector, if it is not empty.
    pub(crate) fn look_outside(&self) {
        self.picks_to_injector.set(1);
    }

    fn pop_injector(&self) -> Option<u32> {
        let injector = &self.shared.injector;
        // Cheaper than an attempt, and usually the case.
        if injector.is_empty() {
            return None;
        }
        let index = until_settled(|| injector.steal_batch_and_pop(&self.queue))?;
        self.slot_uses.set(0);
        self.own.counters.injector_pops.add(1);
        Some(index)
    }

    /// Step 6. Leaves `searching` set if it finds nothing, so that `park` can change the counts in
    /// one step.
    #[cold]
    fn search(&self) -> Option<u32> {
        if !self.searching.get() {
            if !self.shared.idle.start_search() {
                return None;
            }
            self.searching.set(true);
        }
        // What is ready at the poller is work as well: it is looked at sooner.
        let rounds = if self.polls() { 1 } else { SEARCH_ROUNDS };
        for _ in 0..rounds {
            let shared = &self.shared;
            let found = shared.high.pop().or_else(|| self.pop_injector());
            let found = found.or_else(|| self.steal());
            if let Some(index) = found.or_else(|| shared.low.pop()) {
                return Some(index);
            }
            if self.own.orders() != 0 {
                self.fetch_pinned();
                return self.pop_pinned();
            }
            for _ in 0..ROUND_PAUSES {
                hint::spin_loop();
            }
        }
        None
    }

    /// Checks every other worker's queue once. A batch goes to this worker's queue; its first
    /// process is returned.
    fn steal(&self) -> Option<u32> {
        let remotes = &self.shared.remotes;
        let start = self.random_below(remotes.len());
        (start..remotes.len()).chain(0..start).find_map(|victim| {
            let stealer = &remotes[victim].stealer;
            if victim == self.number || stealer.is_empty() {
                return None;
            }
            let index = until_settled(|| stealer.steal_batch_and_pop(&self.queue))?;
            self.slot_uses.set(0);
            self.own.counters.steals.add(1);
            Some(index)
        })
    }

    /// Runs one slice, and `tick` if it is due. `None`: another thread has the worker.
    #[inline]
    fn slice<R: Run + ?Sized>(self: Box<Self>, run: &R, index: u32) -> Option<Box<Self>> {
        self.end_search();
        self.share();
        self.own.counters.slices.add(1);
        let number = self.number;
        // `Run` is notified of the panic and repairs its own state, so no invariant here is broken.
        let (worker, outcome) =
            self.lend(|| catch_unwind(AssertUnwindSafe(|| run.run(number, index))));
        // May be another worker, if this thread was blocked in place meanwhile. `None` if the slice
        // ended elsewhere: then this thread has nothing more to do with the process.
        worker?.after_slice(run, index, outcome)
    }

    /// Handles the outcome of a slice.
    #[inline]
    pub(crate) fn after_slice<R: Run + ?Sized>(
        self: Box<Self>,
        run: &R,
        index: u32,
        outcome: thread::Result<Next>,
    ) -> Option<Box<Self>> {
        let mut units = self.tick_units.get() + 1;
        if self.long_slice.replace(false) {
            units += AGAIN_UNITS - 1;
        }
        match outcome {
            Ok(Next::Idle) => {}
            Ok(Next::Again) => {
                self.queue.push(index);
                units += AGAIN_UNITS - 1;
            }
            Ok(Next::AgainHigh) => {
                self.shared.inject_with_priority(&self.shared.high, index);
                units += AGAIN_UNITS - 1;
            }
            Ok(Next::AgainLow) => {
                self.shared.inject_with_priority(&self.shared.low, index);
                units += AGAIN_UNITS - 1;
            }
            Ok(Next::AgainHere) => {
                self.wake_pinned(index);
                units += AGAIN_UNITS - 1;
            }
            Ok(Next::Elsewhere(resume_handle)) => {
                resume_handle.give(self);
                return None;
            }
            Err(payload) => return self.panicked(run, index, payload),
        }
        self.tick_units.set(units);
        if units >= self.tick_due.get() {
            return self.tick_between_slices(run);
        }
        Some(self)
    }

    #[cold]
    fn panicked<R: Run + ?Sized>(
        self: Box<Self>,
        run: &R,
        index: u32,
        payload: Box<dyn Any + Send>,
    ) -> Option<Box<Self>> {
        self.own.counters.panics.add(1);
        let number = self.number;
        let (worker, reported) =
            self.lend(|| catch_unwind(AssertUnwindSafe(|| run.panicked(number, index, payload))));
        let worker = worker?;
        if reported.is_err() {
            worker.own.counters.panics.add(1);
        }
        Some(worker)
    }

    /// Wakes a sleeper if the queue has more than the slice about to run.
    #[inline]
    fn share(&self) {
        let idle = &self.shared.idle;
        if idle.wanted() && !self.queue.is_empty() {
            self.notify();
        }
    }

    fn has_local_work(&self) -> bool {
        !self.queue.is_empty() || self.slot.get().is_some() || !self.pinned.borrow().is_empty()
    }

    #[inline]
    fn notify(&self) {
        if self.shared.idle.notify_local() {
            self.own.counters.unparks.add(1);
        }
    }

    /// Wakes a sleeper with the fence, since this worker will not check its queue soon and the
    /// notification must not be missed.
    #[cold]
    fn notify_for_long(&self) {
        if self.shared.idle.notify_outside() {
            self.own.counters.unparks.add(1);
        }
    }

    #[inline]
    fn end_search(&self) {
        if self.searching.replace(false) {
            self.end_search_slow();
        }
    }

    #[cold]
    fn end_search_slow(&self) {
        if self.shared.idle.end_search(|| self.shared.has_work()) {
            self.own.counters.unparks.add(1);
        }
    }

    fn tick_between_slices<R: Run + ?Sized>(self: Box<Self>, run: &R) -> Option<Box<Self>> {
        let (worker, _) = self.tick(run);
        let worker = worker?;
        let ticked = now();
        let took = ticked.duration_since(worker.tick_since.get()).as_nanos() as u64;
        // As many units as fit into the target at the average since the last tick. The number may
        // drop at once but at most double: a first short slice after a sleep says little about the
        // next.
        let fit = TICK_TARGET_NS * u64::from(worker.tick_units.get()) / took.max(1);
        let most = TICK_UNITS_MAX.min(2 * worker.tick_due.get());
        let due = fit.clamp(1, u64::from(most)) as u32;
        if !worker.polls() {
            worker.plan_tick(due, ticked);
            return Some(worker);
        }
        // The time there is none of the slices'.
        let worker = worker.look_at_poller()?;
        worker.plan_tick(due, now());
        Some(worker)
    }

    fn plan_tick(&self, due: u32, now: Instant) {
        self.tick_units.set(0);
        self.tick_due.set(due);
        self.tick_since.set(now);
    }

    fn tick<R: Run + ?Sized>(self: Box<Self>, run: &R) -> (Option<Box<Self>>, Option<Duration>) {
        self.own.counters.ticks.add(1);
        let number = self.number;
        let (worker, ticked) = self.lend(|| catch_unwind(AssertUnwindSafe(|| run.tick(number))));
        let wait = ticked.unwrap_or_else(|_| {
            if let Some(worker) = &worker {
                worker.own.counters.panics.add(1);
            }
            // The returned time is lost, so `tick` is called again soon, but not in a tight loop.
            Some(Duration::from_millis(1))
        });
        (worker, wait)
    }

    /// Step 7. Timers are fired before and after.
    #[cold]
    fn park<R: Run + ?Sized>(self: Box<Self>, run: &R) -> Option<Box<Self>> {
        let (worker, wait) = self.tick(run);
        let worker = worker?;
        if wait == Some(Duration::ZERO) || worker.has_local_work() {
            return Some(worker);
        }
        let (worker, parked) = match worker.polls() {
            true => worker.wait_at_poller(wait),
            false => {
                let parked = worker.sleep(wait);
                (Some(worker), parked)
            }
        };
        let worker = worker?;
        worker.searching.set(parked.searching);
        let ended = now();
        if parked.slept {
            worker.own.counters.parks.add(1);
        }
        let worker = worker.tick(run).0?;
        worker.plan_tick(1, ended);
        Some(worker)
    }

    fn sleep(&self, wait: Option<Duration>) -> Parked {
        let counters = &self.own.counters;
        self.shared.idle.park(
            self.number,
            self.searching.get(),
            || {
                counters.sleeps(true);
                self.parker.park(wait);
                counters.sleeps(false);
            },
            || self.shared.has_work(),
        )
    }

    fn wait_at_poller(self: Box<Self>, wait: Option<Duration>) -> (Option<Box<Self>>, Parked) {
        let (number, searching) = (self.number, self.searching.get());
        let (shared, unparker) = (Arc::clone(&self.shared), self.parker.unparker().clone());
        self.waits_at_poller.set(true);
        let (worker, parked) = self.at_poller(|poller| {
            shared.idle.park(
                number,
                searching,
                || {
                    let waited = unparker.park_at_poller(|| poller.wait(wait));
                    if !waited {
                        poller.poll();
                    }
                },
                || shared.has_work(),
            )
        });
        if let Some(worker) = &worker {
            worker.waits_at_poller.set(false);
        }
        (worker, parked)
    }

    /// Handles what is ready at the poller, without waiting.
    fn look_at_poller(self: Box<Self>) -> Option<Box<Self>> {
        self.looks_at_poller.set(true);
        let (worker, ()) = self.at_poller(Poller::poll);
        worker.inspect(|worker| worker.looks_at_poller.set(false))
    }

    /// Returns whether there is anything to wait for at the poller.
    fn polls(&self) -> bool {
        (self.poller.0.as_ref()).is_some_and(|poller| poller.is_in_use())
    }

    /// Runs `act` with the poller, while wakes go to this worker's queue.
    fn at_poller<T>(
        mut self: Box<Self>,
        act: impl FnOnce(&mut dyn Poller) -> T,
    ) -> (Option<Box<Self>>, T) {
        let mut poller = self.poller.0.take().expect("`polls` has found one");
        self.long_slice.set(true);
        let (mut worker, done) = self.lend(|| act(&mut *poller));
        if let Some(worker) = &mut worker {
            worker.long_slice.set(false);
            worker.poller = WorkerPoller(Some(poller));
        }
        (worker, done)
    }

    /// Marsaglia's xorshift; good enough to spread thieves over the queues.
    fn random_below(&self, end: usize) -> usize {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        // The high half, scaled: no division.
        (((x >> 32) * end as u64) >> 32) as usize
    }
}

/// Returns the time of the scheduler's only clock. It plans ticks and measures sleep; it never
/// decides what runs.
#[allow(
    clippy::disallowed_methods,
    reason = "timers and their clock belong to `Run::tick`; this one is for the worker's own pace"
)]
fn now() -> Instant {
    Instant::now()
}
