//! The state that all turns of processes share, and the node's interface to it. The layers above
//! add what they do with a process: `upgrade` brings it to new code, `process` gives it its turns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use exuvia_abi::{HostCall, Reason};
use exuvia_code::CodeServer;
use exuvia_process::call::{Caller, ReductionDebt};
use exuvia_process::{Body, ExitReason, Pid, Turn};

use crate::frames::{FrameCounts, FrameLimits, FrameTable, Metrics};
use crate::guest::{Guest, GuestProcess, GuestSystem};
use crate::host::{FinishTurn, Host};
use crate::host_calls::{HostCaller, HostServices};
use crate::module::info::Artifact;
use crate::observer::{Observer, Services};
use crate::resources;
use crate::suspend::thread::{Threads, TurnResult};
use crate::trace::Traced;

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

/// What all turns share.
#[derive(Debug)]
pub(crate) struct ExecutorState {
    pub(crate) host: Arc<Host>,
    pub(crate) frames: FrameTable,
    /// The number of messages of each process that are transactions after an upgrade.
    pub(crate) probation_messages: u32,
}

/// Why a turn takes no further step.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The turn is over.
    Turn(Turn),
    /// The process is at rest, and continues when there is a frame for it.
    NoFrame,
    /// Another thread has the process; this is the result of the turn here.
    Away(TurnResult),
}

impl Stop {
    /// The process exits with this reason.
    pub(crate) fn exit(reason: Reason) -> Stop {
        Stop::Turn(Turn::Exit(ExitReason::new(reason)))
    }

    /// The process exits with this reason and an explanation.
    pub(crate) fn exit_with(reason: Reason, text: &str) -> Stop {
        Stop::Turn(Turn::Exit(ExitReason::with(reason.0, text.as_bytes())))
    }
}

/// Runs processes.
#[derive(Clone, Debug)]
pub struct Executor(pub(crate) Arc<ExecutorState>);

impl Executor {
    /// Returns the number of processes in functions of the host that may wait for the system.
    pub fn in_host(&self) -> usize {
        self.0.host.in_host.load(Ordering::Acquire)
    }

    /// Makes an executor for the processes of `system` and the code of `code`.
    pub fn new(
        system: Arc<GuestSystem>,
        code: Arc<CodeServer<Artifact>>,
        observer: Arc<dyn Observer>,
        config: ExecutorConfig,
    ) -> Executor {
        let limits = FrameLimits::new(config.frames, config.frame_memory);
        Executor::with_limits(system, code, observer, limits, config.probation_messages)
    }

    pub(crate) fn with_limits(
        system: Arc<GuestSystem>,
        code: Arc<CodeServer<Artifact>>,
        observer: Arc<dyn Observer>,
        limits: FrameLimits,
        probation_messages: u32,
    ) -> Executor {
        let host = Arc::new(Host::new(system, code, observer, limits.block_quota()));
        let state = Arc::new(ExecutorState {
            frames: FrameTable::new(limits, host.clone(), resources::IMPORTS),
            host,
            probation_messages,
        });
        let turns: Arc<dyn FinishTurn> = state.clone();
        let _ = state.host.turns.set(Arc::downgrade(&turns));
        Executor(state)
    }

    /// Connects the services that need more than the engine. Only the first call has an
    /// effect.
    pub fn connect(&self, services: Arc<dyn Services>) {
        let _ = self.0.host.services.set(services);
    }

    /// Lets guests run on the stacks of the threads that call [`Executor::run`]. Without it
    /// they run on fibers only. Only the first call has an effect.
    pub fn set_threads(&self, threads: Arc<dyn Threads>) {
        let _ = self.0.host.threads.set(threads);
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.frames.metrics
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
        self.0.host.new_process(module).map(Body::Guest)
    }

    /// Links the code of a version before it becomes current, and makes up to `count` frames of it
    /// within the limits of the frame table, so that busy processes do not wait for them. It takes
    /// long, so it must not run on a scheduler's thread.
    pub fn prepare(&self, artifact: &Artifact, count: usize) {
        self.0.frames.prepare(artifact, count);
    }

    /// Drops free frames while there are more than are kept, drops some that were unused
    /// for a while, and reclaims memory while frames have too much. Returns a line for the
    /// log if anything is short. It may take long, so it must not run on a scheduler's
    /// thread.
    pub fn trim_frames(&self) -> Option<String> {
        self.0.frames.trim()
    }

    /// Drops the free frames of a version that was unloaded. This takes long if there are
    /// many, so it must not run on a scheduler's thread.
    pub fn forget(&self, artifact: &Artifact) {
        self.0.frames.forget(artifact.id);
    }

    /// Calls `act` with a process at rest, which no scheduler runs meanwhile. Returns
    /// `None` if the process is not at rest, or if `act` panicked.
    pub fn examine<R>(&self, index: u32, act: impl FnOnce(&mut GuestProcess) -> R) -> Option<R> {
        self.0.frames.examine(index, act)
    }

    /// Starts to trace a process, for at most `limit` messages. Replaces a trace of it that is
    /// under way. The caller must also mark the process, by [`exuvia_process::Process::traced`].
    /// When the receiver is dropped, the trace ends at the next message.
    pub fn trace(&self, pid: Pid, limit: u64) -> Receiver<Traced> {
        self.0.host.tracers.begin(pid, limit)
    }

    /// Ends the trace of a process.
    pub fn end_trace(&self, pid: Pid) {
        self.0.host.tracers.ended(pid);
    }

    /// Has a process make a call, as if its own code did: for processes of the host. What the call
    /// costs is charged to the process.
    pub fn call<T>(
        &self,
        process: &mut GuestProcess,
        call: &HostCall,
        make: impl FnOnce(&mut HostCaller<'_>) -> T,
    ) -> T {
        let mut debt = ReductionDebt::default();
        let services = HostServices(&self.0.host);
        let made = make(&mut Caller::new(
            process,
            &self.0.host.system,
            &services,
            &mut debt,
            call,
        ));
        process.reductions += u64::from(debt.take());
        made
    }
}
