//! Runs processes: one turn of one process, from the signals that have arrived
//! to the next rest. The scheduler calls it and knows no more than a number.
//!
//! A turn goes: take over signals; cross if new code is due and the process is
//! at rest; get into a frame; enter `run` or resume it; act on how that ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use exuvia_abi::{Reason, RunResult, receive};
use exuvia_code::{Code, Tenancy};
use exuvia_process::{Body, ExitReason, Payload, Slot, Turn, turn};

use crate::artifact::Artifact;
use crate::aside::{Threads, WayBack};
use crate::body::Outcome;
use crate::error::CrossError;
use crate::frame::{Here, panic_text, run_here};
use crate::frames::{FrameCounts, Frames, NoFrame};
use crate::guest::{Guest, GuestOwn, GuestSystem, Residence};
use crate::image::After;
use crate::instrument::SLICE;
use crate::observer::{Observer, Services};
use crate::places::Seated;
use crate::probation::{State, Transaction, take_transaction};
use crate::stack::Stack;
use crate::timing::{Tally, Timing};
use crate::upgrade::upgrade_failed;

/// Entries of one turn at most, so that a process that returns after each
/// message gets as much done as one that loops, and no more.
const ENTRIES: u32 = 16;

/// How processes are run.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorConfig {
    /// Frames that are kept; see [`crate::default_frames`].
    pub frames: usize,
    /// Bytes of memory that frames keep.
    pub frame_memory: u64,
    /// Messages of each process that are transactions after a crossing.
    pub probation: u32,
}

/// Counters for display; relaxed.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Images put into frames.
    pub page_ins: AtomicU64,
    /// Images taken out of frames to make room.
    pub page_outs: AtomicU64,
    /// Frames made.
    pub frames_made: AtomicU64,
    /// Entries that found their process in a frame.
    pub hits: Tally,
    /// The time of a page-in, with the page-out that makes room for it.
    pub page_in_time: Timing,
    /// The time of a page-out.
    pub page_out_time: Timing,
}

/// What all turns share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) system: Arc<GuestSystem>,
    pub(crate) code: Arc<Code<Artifact>>,
    pub(crate) frames: Frames,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) services: OnceLock<Arc<dyn Services>>,
    pub(crate) threads: OnceLock<Arc<dyn Threads>>,
    pub(crate) metrics: Metrics,
    pub(crate) probation: u32,
}

impl std::fmt::Debug for dyn Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

impl Shared {
    /// The engine's half of a new process of a module in the current release.
    pub(crate) fn newborn(&self, module: &str) -> Option<Guest> {
        let release = self.code.current();
        let version = release.version(module)?.clone();
        Some(Guest::new(Tenancy::new(version), release.id))
    }

    /// Whether the process must cross at its next rest.
    #[inline]
    pub(crate) fn crossing_due(&self, own: &mut GuestOwn) -> bool {
        let id = self.code.current_id();
        own.guest()
            .is_some_and(|guest| guest.release != id && self.has_other_version(guest))
    }

    #[cold]
    fn has_other_version(&self, guest: &mut Guest) -> bool {
        let release = self.code.current();
        let other = release
            .version(&guest.tenancy.module)
            .is_some_and(|version| !guest.tenancy.is(version));
        if !other || guest.left_behind {
            guest.release = release.id;
            if !other {
                // The code has come back to it.
                guest.stuck = None;
            } else {
                release.progress.left.fetch_add(1, Ordering::Relaxed);
                guest.tenancy.stay(release.id);
            }
            return false;
        }
        true
    }

    /// On which stack the guests of a version are to run now.
    #[inline]
    pub(crate) fn stack_of(&self, artifact: &Artifact) -> Stack {
        let stack = artifact.manner.stack();
        if stack == Stack::Thread && self.threads.get().is_none_or(|t| !t.may_step_aside()) {
            return Stack::Fiber;
        }
        stack
    }

    /// See [`Executor::look`].
    pub(crate) fn look<R>(&self, index: u32, look: impl FnOnce(&mut GuestOwn) -> R) -> Option<R> {
        let slot = self.system.table.slot(index)?;
        if !slot.state.claim() {
            return None;
        }
        let looked = slot.take_own().map(|mut own| {
            let answer = look(&mut own);
            let place = own.guest().and_then(|guest| guest.place_at_rest());
            slot.put_own(own);
            (answer, place)
        });
        let then = slot.state.end();
        self.system.then(index, then);
        let (answer, place) = looked?;
        // The pager has taken it off its list, or may have passed it over.
        if let Some(place) = place {
            self.frames.rest(place);
        }
        Some(answer)
    }
}

/// What became of a process in its turn.
#[derive(Debug)]
pub enum Ran {
    /// It waits, or it is no more.
    Idle,
    /// It has more to do: its state is QUEUED, and the caller puts it into a queue.
    Again,
    /// Its turn goes on on another thread, which needs a scheduler: the way back
    /// leads there. Without one: somebody else has the process, and this thread
    /// is no scheduler's any more.
    Elsewhere(Option<Arc<dyn WayBack>>),
}

/// Runs processes.
#[derive(Clone, Debug)]
pub struct Executor(pub(crate) Arc<Shared>);

/// Why a process did not get a frame.
enum NotSeated {
    Later,
    Broken(ExitReason),
}

impl Executor {
    /// An executor for the processes of `system` and the code of `code`.
    pub fn new(
        system: Arc<GuestSystem>,
        code: Arc<Code<Artifact>>,
        observer: Arc<dyn Observer>,
        config: ExecutorConfig,
    ) -> Executor {
        Executor(Arc::new(Shared {
            system,
            code,
            frames: Frames::new(config.frames, config.frame_memory),
            observer,
            services: OnceLock::new(),
            threads: OnceLock::new(),
            metrics: Metrics::default(),
            probation: config.probation,
        }))
    }

    /// Connects what needs more than the engine, once.
    pub fn connect(&self, services: Arc<dyn Services>) {
        let _ = self.0.services.set(services);
    }

    /// Lets guests run on the stacks of the threads that call [`Executor::run`],
    /// once. Without it they run on fibers only.
    pub fn lend_stacks(&self, threads: Arc<dyn Threads>) {
        let _ = self.0.threads.set(threads);
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What has become of the places of all frames.
    pub fn frames(&self) -> FrameCounts {
        self.0.frames.counts()
    }

    /// The body of a new process of a module in the current release. `None`:
    /// the release has no such module.
    pub fn newborn(&self, module: &str) -> Option<Body<Guest>> {
        self.0.newborn(module).map(Body::Guest)
    }

    /// Makes frames of a version before it is current, so that busy processes
    /// do not wait for them: up to `count`, as far as there is room.
    pub fn prepare(&self, artifact: &Artifact, count: usize) {
        self.0.frames.prepare(&self.0, artifact, count);
    }

    /// Drops free frames while there are more frames than are kept, and gives
    /// memory back while frames have too much. Answers a line for the log, if
    /// anything is short. It takes its time: not for a scheduler's thread.
    pub fn trim_frames(&self) -> Option<String> {
        self.0.frames.trim(&self.0)
    }

    /// Drops the free frames of a version that was unloaded.
    pub fn forget(&self, artifact: &Artifact) {
        self.0.frames.forget(artifact.id);
    }

    /// Looks at a process at rest, which no scheduler runs meanwhile. `None`: it
    /// is not at rest.
    pub fn look<R>(&self, index: u32, look: impl FnOnce(&mut GuestOwn) -> R) -> Option<R> {
        self.0.look(index, look)
    }

    /// Drops all processes and frames. Only when no scheduler runs any more.
    pub fn clear(&self) {
        let system = &self.0.system;
        for index in system.table.indices() {
            let Some(mut own) = system.table.slot(index).and_then(|slot| slot.take_own()) else {
                continue;
            };
            if let Some(guest) = own.guest() {
                guest.residence = Residence::Running;
            }
        }
        self.0.frames.clear();
    }

    /// Gives the process of a slot one turn.
    pub fn run(&self, index: u32) -> Ran {
        let system = &self.0.system;
        let Some(slot) = system.table.slot(index) else {
            return Ran::Idle;
        };
        if !slot.state.begin() {
            return Ran::Idle;
        }
        let mut cell = slot.take_own();
        let pid = cell.as_ref().map(|own| own.pid());
        let turn = catch_unwind(AssertUnwindSafe(|| self.turn(&mut cell)));
        let turn = match turn {
            Ok(Went::Turn(turn)) => turn,
            Ok(Went::Elsewhere(way_back)) => return Ran::Elsewhere(way_back),
            Err(panic) => {
                let text = format!("the host failed: {}", panic_text(&*panic));
                Turn::Exit(ExitReason::with(Reason::INTERNAL.0, text.as_bytes()))
            }
        };
        let Some(own) = cell else {
            // The process was lost in a panic: its slot must not stay taken.
            tracing::error!(?pid, "a process was lost; this is a bug of the host");
            if let Some(pid) = pid {
                system.abandon(pid);
            }
            return Ran::Idle;
        };
        self.leave(slot, own, turn)
    }

    /// A guest waits on the stack of the thread that ran it. This is what is
    /// left to do of its turn, on the thread that goes on as the scheduler.
    pub(crate) fn stepped_aside(&self, mut own: Box<GuestOwn>, seated: Seated) -> Ran {
        let Some(slot) = self.0.system.table.slot(own.pid().slot()) else {
            return Ran::Idle;
        };
        let turn = self.suspended(&mut own, seated);
        self.leave(slot, own, turn)
    }

    /// The end of a turn.
    fn leave(&self, slot: &Slot<Guest>, mut own: Box<GuestOwn>, turn: Turn) -> Ran {
        let system = &self.0.system;
        let more = match turn {
            Turn::Rest => {
                let place = own.guest().and_then(|guest| guest.place_at_rest());
                own.publish_stats(system);
                slot.put_own(own);
                let schedule = slot.state.end() == exuvia_process::Then::Schedule;
                if !schedule && let Some(place) = place {
                    self.0.frames.rest(place);
                }
                schedule
            }
            Turn::Again => {
                own.publish_stats(system);
                slot.put_own(own);
                slot.state.again() == exuvia_process::Then::Schedule
            }
            Turn::Exit(reason) => {
                self.end(own, &reason);
                false
            }
        };
        if more { Ran::Again } else { Ran::Idle }
    }

    fn turn(&self, cell: &mut Option<Box<GuestOwn>>) -> Went {
        match cell {
            None => Went::Turn(Turn::Rest),
            Some(own) => match own.body {
                Body::Native(_) => Went::Turn(turn(own, &self.0.system)),
                Body::Guest(_) => match self.guest_turn(cell) {
                    Entered::Stop(turn) => Went::Turn(turn),
                    Entered::GoOn => Went::Turn(Turn::Again),
                    Entered::Elsewhere(way_back) => Went::Elsewhere(way_back),
                },
            },
        }
    }

    /// The end of a process: its frame goes back, everybody is told. What
    /// panics in it does not keep the rest from being done.
    fn end(&self, mut own: Box<GuestOwn>, reason: &ExitReason) {
        let shared = &self.0;
        let pid = own.pid();
        let guarded = |what: &str, act: &mut dyn FnMut()| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(act)) {
                let text = panic_text(&*panic);
                tracing::error!(%pid, "the host failed to {what} of a process that ends: {text}");
            }
        };
        guarded("take back the effects", &mut || self.take_back(&mut own));
        guarded("take the frame", &mut || self.take_frame(&mut own));
        // Who is done before its start is acknowledged has failed to start.
        let failed = if reason.is_normal() {
            own.is_awaited()
        } else {
            !reason.is_orderly()
        };
        if failed && let Some(guest) = own.guest() {
            let version = guest.tenancy.version();
            guarded("tell of the failure", &mut || {
                shared.observer.failed(pid, version, reason);
            });
        }
        shared.system.bury(own, reason);
    }

    fn take_frame(&self, own: &mut GuestOwn) {
        let shared = &self.0;
        let pid = own.pid();
        let Some(guest) = own.guest() else { return };
        if let Some(timer) = guest.wait.take().and_then(|wait| wait.timer) {
            shared.system.timers.cancel(pid, timer);
        }
        if let Residence::Frame {
            mut frame,
            suspended,
            ..
        } = std::mem::replace(&mut guest.residence, Residence::Running)
        {
            if suspended {
                frame.frame.cancel();
            }
            shared.frames.retire(frame);
        }
    }

    /// `GoOn`: it has more to do.
    fn guest_turn(&self, cell: &mut Option<Box<GuestOwn>>) -> Entered {
        let shared = &self.0;
        let Some(own) = cell else {
            return Entered::Stop(Turn::Rest);
        };
        if let Some(reason) = own.drain(&shared.system) {
            return Entered::Stop(Turn::Exit(reason));
        }
        // Asked again while it rests in a frame: the pager lets it stay. By turns,
        // not entries: one that handles two messages in one was asked once.
        let in_frame = (own.guest()).is_some_and(|guest| guest.place_at_rest().is_some());
        // All entries of a turn share a slice.
        let until = own.reductions + u64::from(SLICE.cast_unsigned());
        for entry in 0..ENTRIES {
            let Some(own) = cell else {
                return Entered::Stop(Turn::Rest);
            };
            if entry > 0 && own.reductions >= until {
                return Entered::GoOn;
            }
            let due = shared.crossing_due(own);
            let suspended = own.guest().is_some_and(|guest| guest.is_suspended());
            if suspended {
                if !self.wait_is_over(own, due) {
                    return match own.guest() {
                        Some(guest) if guest.is_preempted() => Entered::GoOn,
                        _ => Entered::Stop(Turn::Rest),
                    };
                }
            } else {
                if due && self.may_cross(own) {
                    match self.cross(own) {
                        Ok(()) => {}
                        Err(CrossError::NoFrame) => return Entered::GoOn,
                        Err(error) => {
                            return Entered::Stop(Turn::Exit(upgrade_failed(&error.to_string())));
                        }
                    }
                }
                if own.position(receive::ANY, 0).is_none() {
                    return Entered::Stop(Turn::Rest);
                }
                if entry == 0
                    && let Some(guest) = own.guest()
                {
                    guest.touched = in_frame;
                }
            }
            let seated = match self.seat(own) {
                Ok(seated) => seated,
                Err(NotSeated::Later) => return Entered::GoOn,
                Err(NotSeated::Broken(reason)) => return Entered::Stop(Turn::Exit(reason)),
            };
            match self.enter(cell, seated, suspended) {
                Entered::GoOn => {}
                stop => return stop,
            }
        }
        Entered::GoOn
    }

    fn wait_is_over(&self, own: &mut GuestOwn, due: bool) -> bool {
        let Some(wait) = own.guest().and_then(|guest| guest.wait.take()) else {
            return true;
        };
        let now = if wait.deadline.is_some() {
            self.0.system.clock.now()
        } else {
            0
        };
        let over = wait.is_over(own, &self.0.system, now, due);
        if let Some(guest) = own.guest() {
            guest.wait.set(wait);
        }
        over
    }

    /// Puts the process's state into a frame, if it is in none.
    fn seat(&self, own: &mut GuestOwn) -> Result<Seated, NotSeated> {
        let shared = &self.0;
        let slot = own.pid().slot();
        let Some(guest) = own.guest() else {
            return Err(NotSeated::Later);
        };
        // The common case first: most that are asked have just been asked.
        if let Residence::Frame { suspended, .. } = guest.residence
            && let Residence::Frame { frame, waiting, .. } =
                std::mem::replace(&mut guest.residence, Residence::Running)
        {
            if suspended || frame.frame.stack() == shared.stack_of(&guest.tenancy.artifact) {
                shared.metrics.hits.add();
                return Ok(frame);
            }
            let (frame, residence) = self.change_stack(frame, waiting)?;
            guest.residence = residence;
            if let Some(frame) = frame {
                shared.metrics.hits.add();
                return Ok(frame);
            }
        }
        let artifact = guest.tenancy.version().clone();
        let artifact = &artifact.artifact;
        if !artifact.resident_only().is_empty() && !shared.frames.may_block() {
            return Err(NotSeated::Broken(ExitReason::with(
                Reason::LIMIT.0,
                b"its module is resident-only, and as many frames as may be are held by processes that keep theirs; raise `frames` or `frame_memory` in `[node]`",
            )));
        }
        let (metrics, clock) = (&shared.metrics, &shared.system.clock);
        let begun = || Timing::begin(metrics.page_ins.load(Ordering::Relaxed), clock);
        let acquire = |pages, stamp| {
            shared
                .frames
                .acquire(shared, artifact, pages, stamp)
                .map_err(|none| match none {
                    NoFrame::AllBusy => NotSeated::Later,
                    NoFrame::Broken(reason) => NotSeated::Broken(ExitReason::with(
                        Reason::INTERNAL.0,
                        format!("no frame could be made: {reason}").as_bytes(),
                    )),
                })
        };
        match std::mem::replace(&mut guest.residence, Residence::Running) {
            Residence::Newborn => {
                let mut seated = acquire(artifact.base_pages(), None)
                    .inspect_err(|_| guest.residence = Residence::Newborn)?;
                if let Err(reason) = seated.frame.initialize(artifact) {
                    shared.frames.retire(seated);
                    return Err(NotSeated::Broken(ExitReason::with(
                        Reason::TRAP.0,
                        format!("initialization failed: {reason}").as_bytes(),
                    )));
                }
                shared.frames.occupy(&mut seated, slot);
                Ok(seated)
            }
            Residence::Image {
                image,
                waiting,
                stamp,
            } => match (begun(), acquire(image.memory_pages(), stamp)) {
                (began, Ok(mut seated)) => {
                    metrics.page_ins.fetch_add(1, Ordering::Relaxed);
                    if let Err(reason) = seated.frame.load(&image) {
                        shared.frames.retire(seated);
                        return Err(NotSeated::Broken(ExitReason::with(
                            Reason::INTERNAL.0,
                            format!("it could not be paged in: {reason}").as_bytes(),
                        )));
                    }
                    shared.frames.occupy(&mut seated, slot);
                    metrics.page_in_time.end(began, clock);
                    Ok(seated)
                }
                (_, Err(none)) => {
                    guest.residence = Residence::Image {
                        image,
                        waiting,
                        stamp,
                    };
                    Err(none)
                }
            },
            Residence::Frame { .. } | Residence::Running => {
                Err(NotSeated::Broken(ExitReason::new(Reason::INTERNAL)))
            }
        }
    }

    /// The process rests in a frame whose guest is to run on another stack from
    /// now on. Answers the frame, or what to bring into another one.
    fn change_stack(
        &self,
        mut seated: Seated,
        waiting: bool,
    ) -> Result<(Option<Seated>, Residence), NotSeated> {
        let broken = |reason: String| {
            NotSeated::Broken(ExitReason::with(Reason::INTERNAL.0, reason.as_bytes()))
        };
        match seated.frame.stack() {
            Stack::Thread => {
                // If there is no room for a fiber, it goes on as it was: if it
                // waits, its thread steps aside once more.
                self.0
                    .frames
                    .to_fibers(&self.0, &mut seated)
                    .map_err(broken)?;
                Ok((Some(seated), Residence::Running))
            }
            // Its store has asynchronous functions, for good.
            Stack::Fiber if seated.frame.reusable => {
                let image = seated.frame.save(After::Keep).map_err(broken)?;
                let stamp = Some(seated.pool().stamp());
                let residence = Residence::Image {
                    image,
                    waiting,
                    stamp,
                };
                Ok((None, residence))
            }
            Stack::Fiber => Ok((Some(seated), Residence::Running)),
        }
    }

    fn enter(
        &self,
        cell: &mut Option<Box<GuestOwn>>,
        mut seated: Seated,
        suspended: bool,
    ) -> Entered {
        let shared = &self.0;
        let Some(mut own) = cell.take() else {
            return Entered::Stop(Turn::Rest);
        };
        if let Some(guest) = own.guest() {
            guest.has_run = true;
            if suspended {
                seated.let_go();
            } else if let Some(trial) = &mut guest.trial {
                // The state before the message: where the process goes back
                // to if new code fails it.
                if trial.state.is_none() && seated.frame.reusable {
                    trial.state = seated.frame.save(After::Keep).ok().map(State::New);
                }
                trial.transaction = Some(Transaction::default());
            }
        }
        let (seated, own, outcome) = match run(seated, own) {
            Entry::Ended(seated, own, outcome) => (seated, own, outcome),
            Entry::Elsewhere(way_back) => return Entered::Elsewhere(way_back),
            Entry::Lost => {
                return Entered::Stop(Turn::Exit(ExitReason::new(Reason::INTERNAL)));
            }
        };
        let own = cell.insert(own);
        match outcome {
            Outcome::Returned { result, taken } => self.returned(own, seated, result, taken),
            Outcome::Suspended => Entered::Stop(self.suspended(own, seated)),
            Outcome::Exited(reason) => {
                shared.frames.retire(seated);
                let reason = match reason.code() == Reason::NORMAL.0 && reason.bytes().is_empty() {
                    true => ended_well(own, "it called `exit` with 0 (NORMAL)"),
                    false => reason,
                };
                Entered::Stop(Turn::Exit(self.blame(own, reason)))
            }
            Outcome::Panicked(reason) => {
                drop(seated);
                Entered::Stop(Turn::Exit(reason))
            }
            Outcome::Trapped(reason) => {
                shared.frames.retire(seated);
                self.trapped(own, reason)
            }
        }
    }

    fn returned(&self, own: &mut GuestOwn, seated: Seated, result: i32, taken: u32) -> Entered {
        let shared = &self.0;
        let transaction = take_transaction(own);
        if let Some(guest) = own.guest() {
            guest.tenancy.artifact.manner.returned();
        }
        let waiting = match result {
            r if r == RunResult::Rest as i32 => false,
            r if r == RunResult::Waiting as i32 => true,
            r => {
                shared.frames.retire(seated);
                let reason = if r == RunResult::Done as i32 {
                    if let Some(transaction) = transaction {
                        transaction.release(own, &shared.system);
                    }
                    // A start that it has refused says why it ends.
                    own.drain(&shared.system)
                        .unwrap_or_else(|| ended_well(own, "`run` answered 2 (DONE)"))
                } else {
                    let text = format!(
                        "`run` answered {r}: it must answer 0 (REST), 1 (WAITING) or 2 (DONE)"
                    );
                    ExitReason::with(Reason::CONTRACT.0, text.as_bytes())
                };
                return Entered::Stop(Turn::Exit(reason));
            }
        };
        if let Some(guest) = own.guest() {
            guest.residence = Residence::Frame {
                frame: seated,
                suspended: false,
                waiting,
            };
            if let Some(trial) = &mut guest.trial
                && taken > 0
            {
                trial.state = None;
                trial.left = trial.left.saturating_sub(1);
                if trial.left == 0 {
                    guest.trial = None;
                }
            }
        }
        if let Some(transaction) = transaction {
            transaction.release(own, &shared.system);
        }
        if own.is_starting() {
            own.acknowledge(&shared.system, 0, Payload::empty());
        }
        if let Some(reason) = own.drain_news(&shared.system) {
            return Entered::Stop(Turn::Exit(reason));
        }
        if taken == 0 && !shared.crossing_due(own) {
            // It wants none of what is there: it waits for something else.
            return Entered::Stop(Turn::Rest);
        }
        Entered::GoOn
    }

    fn suspended(&self, own: &mut GuestOwn, mut seated: Seated) -> Turn {
        let shared = &self.0;
        let mut preempted = false;
        if let Some(guest) = own.guest() {
            guest.tenancy.artifact.manner.waited();
            preempted = guest.is_preempted();
            if !preempted {
                seated.hold();
            }
            guest.residence = Residence::Frame {
                frame: seated,
                suspended: true,
                waiting: false,
            };
        }
        if preempted {
            return Turn::Again;
        }
        if own.is_starting() {
            own.acknowledge(&shared.system, 0, Payload::empty());
        }
        Turn::Rest
    }
}

/// The reason of a process that ends because its work is done. If somebody
/// waits for its start, that fails, and without a word nobody would see why.
fn ended_well(own: &GuestOwn, how: &str) -> ExitReason {
    if !own.is_awaited() {
        return ExitReason::new(Reason::NORMAL);
    }
    let text = format!(
        "{how} before the start was acknowledged; to stay, answer 0 (REST), and to do all the work at once, call `init_ack` with status 0 first"
    );
    ExitReason::with(Reason::NORMAL.0, text.as_bytes())
}

/// What becomes of a turn after an entry.
pub(crate) enum Entered {
    GoOn,
    Stop(Turn),
    /// See [`Ran::Elsewhere`].
    Elsewhere(Option<Arc<dyn WayBack>>),
}

/// How an entry has ended.
enum Entry {
    /// The process is back, in a seat that need not be the one it began in.
    Ended(Seated, Box<GuestOwn>, Outcome),
    /// See [`Ran::Elsewhere`].
    Elsewhere(Option<Arc<dyn WayBack>>),
    /// A bug of the host has lost it.
    Lost,
}

/// Enters or resumes the guest that sits there.
fn run(mut seated: Seated, own: Box<GuestOwn>) -> Entry {
    if let Some(held) = seated.frame.from_aside() {
        return Entry::Elsewhere(held.resume(own, seated));
    }
    let (mut seated, own) = match run_here(seated, own) {
        Ok(Here::Ended(seated, own, outcome)) => return Entry::Ended(seated, own, outcome),
        Ok(Here::Elsewhere) => return Entry::Elsewhere(None),
        Ok(Here::Lost) => return Entry::Lost,
        Err(fiber) => fiber,
    };
    match seated.frame.run(own) {
        Some((own, outcome)) => Entry::Ended(seated, own, outcome),
        None => Entry::Lost,
    }
}

/// How a turn has ended.
enum Went {
    Turn(Turn),
    /// See [`Ran::Elsewhere`].
    Elsewhere(Option<Arc<dyn WayBack>>),
}
