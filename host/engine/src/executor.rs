//! What all turns of processes share, and what the node does with it. A turn
//! itself is in `turn`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use exuvia_abi::Reason;
use exuvia_code::Code;
use exuvia_process::{Body, ExitReason};

use crate::artifact::Artifact;
use crate::aside::Threads;
use crate::frame::panic_text;
use crate::frames::{FrameCounts, Frames};
use crate::guest::{Guest, GuestOwn, GuestSystem, Residence};
use crate::observer::{Observer, Services};
use crate::places::Seated;
use crate::stack::Stack;
use crate::timing::{Tally, Timing};
use crate::trace::Tracers;
use crate::wasi::NodeFiles;

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
    pub(crate) tracers: Tracers,
    /// Processes in functions of WASI.
    pub(crate) in_host: Arc<AtomicUsize>,
    /// Files that they have open.
    pub(crate) files: Arc<NodeFiles>,
}

impl std::fmt::Debug for dyn Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

impl Shared {
    /// The engine's half of a new process of a module in the current release.
    pub(crate) fn newborn(&self, module: &str) -> Option<Guest> {
        let (release, tenancy) = self.code.enter(module)?;
        Some(Guest::new(tenancy, release))
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
            .filter(|version| !guest.tenancy.is(version));
        match other {
            // The code has come back to it.
            None => guest.is_current(),
            Some(current) if guest.is_left(current) => {
                guest.leave_behind(release.id);
                release.progress.left.fetch_add(1, Ordering::Relaxed);
                guest.tenancy.stay(release.id);
            }
            Some(_) => return true,
        }
        guest.release = release.id;
        false
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

    /// Whether a frame's guest runs on a fiber, and need not any more: its store
    /// has asynchronous functions, for good.
    pub(crate) fn is_outdated(&self, artifact: &Artifact, seated: &Seated) -> bool {
        seated.frame.stack() == Stack::Fiber
            && seated.frame.reusable
            && self.stack_of(artifact) == Stack::Thread
    }

    /// See [`Executor::look`].
    pub(crate) fn look<R>(&self, index: u32, look: impl FnOnce(&mut GuestOwn) -> R) -> Option<R> {
        let slot = self.system.table.slot(index)?;
        if !slot.state.claim() {
            return None;
        }
        let looked = slot.take_own().map(|mut own| {
            // Nothing may keep it from being run again, killed, and told of.
            let answer = catch_unwind(AssertUnwindSafe(|| look(&mut own)));
            if let Err(panic) = &answer {
                let text = format!("the host failed: {}", panic_text(&**panic));
                tracing::error!(pid = %own.pid(), "while somebody looked at a process, {text}");
                own.fail(ExitReason::with(Reason::INTERNAL.0, text.as_bytes()));
            }
            let place = own.guest().and_then(|guest| guest.place_at_rest());
            slot.put_own(own);
            (answer.ok(), place)
        });
        let then = match &looked {
            // It has its last turn.
            Some((None, _)) => slot.state.again(),
            _ => slot.state.end(),
        };
        self.system.then(index, then);
        let (answer, place) = looked?;
        let answer = answer?;
        // The pager has taken it off its list, or may have passed it over.
        if let Some(place) = place {
            self.frames.rest(place);
        }
        Some(answer)
    }
}

/// Runs processes.
#[derive(Clone, Debug)]
pub struct Executor(pub(crate) Arc<Shared>);

impl Executor {
    /// How many processes are in functions of WASI: the system has to answer them.
    pub fn in_host(&self) -> usize {
        self.0.in_host.load(Ordering::Acquire)
    }

    /// An executor for the processes of `system` and the code of `code`.
    pub fn new(
        system: Arc<GuestSystem>,
        code: Arc<Code<Artifact>>,
        observer: Arc<dyn Observer>,
        config: ExecutorConfig,
    ) -> Executor {
        let frames = Frames::new(config.frames, config.frame_memory, system.clone());
        Executor(Arc::new(Shared {
            system,
            code,
            frames,
            observer,
            services: OnceLock::new(),
            threads: OnceLock::new(),
            metrics: Metrics::default(),
            probation: config.probation,
            tracers: Tracers::default(),
            in_host: Arc::default(),
            files: NodeFiles::new(),
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

    /// Processes that wait for a frame.
    pub fn waiting_for_frames(&self) -> usize {
        self.0.frames.waiters.len()
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

    /// Drops free frames while there are more frames than are kept, and those that
    /// nobody has wanted for a while, and gives memory back while frames have too much. Answers a line for the log, if
    /// anything is short. It takes its time: not for a scheduler's thread.
    pub fn trim_frames(&self) -> Option<String> {
        self.0.frames.trim(&self.0)
    }

    /// Drops the free frames of a version that was unloaded. If they are many, it
    /// takes its time: not for a scheduler's thread.
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
            self.take_back(&mut own);
            if let Some(guest) = own.guest() {
                guest.residence = Residence::Running;
            }
        }
        self.0.frames.clear();
    }
}
