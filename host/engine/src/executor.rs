//! The state that all turns of processes share, and the node's interface to it. A turn
//! itself is in `turn`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use exuvia_abi::Reason;
use exuvia_code::CodeServer;
use exuvia_process::{Body, ExitReason};

use crate::frames::blocked::Threads;
use crate::frames::frame::panic_text;
use crate::frames::slots::FrameLease;
use crate::frames::{FrameCounts, FrameTable};
use crate::guest::{Guest, GuestProcess, GuestSystem, Location};
use crate::module::info::Artifact;
use crate::module::stack_policy::Stack;
use crate::observer::{Observer, Services};
use crate::resources::wasi::NodeFiles;
use crate::timing::{Tally, Timing};
use crate::trace::Tracers;

/// How processes are run.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorConfig {
    /// Frames that are kept; see [`crate::default_frames`].
    pub frames: usize,
    /// Bytes of memory that frames keep.
    pub frame_memory: u64,
    /// The number of messages of each process that are transactions after an upgrade.
    pub probation_messages: u32,
}

/// Counters for display, with relaxed ordering.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Images loaded into frames.
    pub page_ins: AtomicU64,
    /// Images saved from frames to free them.
    pub page_outs: AtomicU64,
    /// Frames made.
    pub frames_made: AtomicU64,
    /// Entries that found their process in a frame.
    pub hits: Tally,
    /// The time of a page-in, with the page-out that frees a frame for it.
    pub page_in_time: Timing,
    /// The time of a page-out.
    pub page_out_time: Timing,
}

/// What all turns share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) system: Arc<GuestSystem>,
    pub(crate) code: Arc<CodeServer<Artifact>>,
    pub(crate) frames: FrameTable,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) services: OnceLock<Arc<dyn Services>>,
    pub(crate) threads: OnceLock<Arc<dyn Threads>>,
    pub(crate) metrics: Metrics,
    pub(crate) probation_messages: u32,
    pub(crate) tracers: Tracers,
    /// The number of processes in WASI functions.
    pub(crate) in_host: Arc<AtomicUsize>,
    /// The files that processes have open.
    pub(crate) files: Arc<NodeFiles>,
}

impl std::fmt::Debug for dyn Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

impl Shared {
    /// Returns the engine's part of a new process of a module in the current release, or
    /// `None` if the release has no such module.
    pub(crate) fn new_process(&self, module: &str) -> Option<Guest> {
        let (release, version_ref) = self.code.enter(module)?;
        Some(Guest::new(version_ref, release))
    }

    /// Returns whether the process must be upgraded when it is next at rest.
    #[inline]
    pub(crate) fn upgrade_due(&self, process: &mut GuestProcess) -> bool {
        let id = self.code.current_id();
        process
            .guest()
            .is_some_and(|guest| guest.release != id && self.has_other_version(guest))
    }

    #[cold]
    fn has_other_version(&self, guest: &mut Guest) -> bool {
        let release = self.code.current();
        let other = release
            .version(&guest.version.module)
            .filter(|version| !guest.version.is(version));
        match other {
            // The release contains the process's version again.
            None => guest.clear_upgrade_notes(),
            Some(current) if guest.is_pinned_to_version(current) => {
                guest.pin_to_version(release.id);
                release.progress.exempt.fetch_add(1, Ordering::Relaxed);
                guest.version.exempt(release.id);
            }
            Some(_) => return true,
        }
        guest.release = release.id;
        false
    }

    /// Returns the stack on which the guests of a version should run now.
    #[inline]
    pub(crate) fn stack_of(&self, artifact: &Artifact) -> Stack {
        let stack = artifact.stack_policy.stack();
        if stack == Stack::Thread && self.threads.get().is_none_or(|t| !t.may_block_in_place()) {
            return Stack::Fiber;
        }
        stack
    }

    /// Returns whether a frame's guest runs on a fiber although its version runs on
    /// threads' stacks now. Such a frame is replaced: its store keeps its asynchronous
    /// functions.
    pub(crate) fn is_outdated(&self, artifact: &Artifact, lease: &FrameLease) -> bool {
        lease.frame.stack() == Stack::Fiber
            && lease.frame.reusable
            && self.stack_of(artifact) == Stack::Thread
    }

    /// See [`Executor::look`].
    pub(crate) fn look<R>(
        &self,
        index: u32,
        look: impl FnOnce(&mut GuestProcess) -> R,
    ) -> Option<R> {
        let slot = self.system.table.slot(index)?;
        if !slot.state.claim() {
            return None;
        }
        let looked = slot.take_process().map(|mut process| {
            // A panic must not keep the process from being run again, killed and reported.
            let answer = catch_unwind(AssertUnwindSafe(|| look(&mut process)));
            if let Err(panic) = &answer {
                let text = format!("the host failed: {}", panic_text(&**panic));
                tracing::error!(pid = %process.pid(), "while somebody looked at a process, {text}");
                process.fail(ExitReason::with(Reason::INTERNAL.0, text.as_bytes()));
            }
            let place = process.guest().and_then(|guest| guest.evictable_slot());
            slot.put_process(process);
            (answer.ok(), place)
        });
        let then = match &looked {
            // The process has failed and gets its last turn.
            Some((None, _)) => slot.state.yield_now(),
            _ => slot.state.transition_to_idle(),
        };
        self.system.apply(index, then);
        let (answer, place) = looked?;
        let answer = answer?;
        // The pager may have delisted the frame slot, or skipped it while the process was
        // claimed.
        if let Some(place) = place {
            self.frames.note_at_rest(place);
        }
        Some(answer)
    }
}

/// Runs processes.
#[derive(Clone, Debug)]
pub struct Executor(pub(crate) Arc<Shared>);

impl Executor {
    /// Returns the number of processes in WASI functions, which wait for the system.
    pub fn in_host(&self) -> usize {
        self.0.in_host.load(Ordering::Acquire)
    }

    /// Makes an executor for the processes of `system` and the code of `code`.
    pub fn new(
        system: Arc<GuestSystem>,
        code: Arc<CodeServer<Artifact>>,
        observer: Arc<dyn Observer>,
        config: ExecutorConfig,
    ) -> Executor {
        let frames = FrameTable::new(config.frames, config.frame_memory, system.clone());
        Executor(Arc::new(Shared {
            system,
            code,
            frames,
            observer,
            services: OnceLock::new(),
            threads: OnceLock::new(),
            metrics: Metrics::default(),
            probation_messages: config.probation_messages,
            tracers: Tracers::default(),
            in_host: Arc::default(),
            files: NodeFiles::new(),
        }))
    }

    /// Connects the services that need more than the engine. Only the first call has an
    /// effect.
    pub fn connect(&self, services: Arc<dyn Services>) {
        let _ = self.0.services.set(services);
    }

    /// Lets guests run on the stacks of the threads that call [`Executor::run`]. Without it
    /// they run on fibers only. Only the first call has an effect.
    pub fn set_threads(&self, threads: Arc<dyn Threads>) {
        let _ = self.0.threads.set(threads);
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns the counts of frames and frame slots.
    pub fn frames(&self) -> FrameCounts {
        self.0.frames.counts()
    }

    /// Returns the number of processes that wait for a frame.
    pub fn waiting_for_frames(&self) -> usize {
        self.0.frames.waiters.len()
    }

    /// Returns the body of a new process of a module in the current release, or `None` if
    /// the release has no such module.
    pub fn new_process(&self, module: &str) -> Option<Body<Guest>> {
        self.0.new_process(module).map(Body::Guest)
    }

    /// Makes frames of a version before it becomes current, so that busy processes do not
    /// wait for them: up to `count`, within the limits of the frame table.
    pub fn prepare(&self, artifact: &Artifact, count: usize) {
        self.0.frames.prepare(&self.0, artifact, count);
    }

    /// Drops free frames while there are more than are kept, drops some that were unused
    /// for a while, and reclaims memory while frames have too much. Returns a line for the
    /// log if anything is short. It may take long, so it must not run on a scheduler's
    /// thread.
    pub fn trim_frames(&self) -> Option<String> {
        self.0.frames.trim(&self.0)
    }

    /// Drops the free frames of a version that was unloaded. This takes long if there are
    /// many, so it must not run on a scheduler's thread.
    pub fn forget(&self, artifact: &Artifact) {
        self.0.frames.forget(artifact.id);
    }

    /// Calls `look` with a process at rest, which no scheduler runs meanwhile. Returns
    /// `None` if the process is not at rest, or if `look` panicked.
    pub fn look<R>(&self, index: u32, look: impl FnOnce(&mut GuestProcess) -> R) -> Option<R> {
        self.0.look(index, look)
    }

    /// Drops all processes and frames. Call it only when no scheduler runs any more.
    pub fn clear(&self) {
        let system = &self.0.system;
        for index in system.table.indices() {
            let Some(mut process) = system
                .table
                .slot(index)
                .and_then(|slot| slot.take_process())
            else {
                continue;
            };
            self.abort_transaction(&mut process);
            if let Some(guest) = process.guest() {
                guest.location = Location::Running;
            }
        }
        self.0.frames.clear();
    }
}
