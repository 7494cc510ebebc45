//! The node: its parts, put together. `spawn` starts processes in it, `outside` sends messages to
//! them, `operate` is what an operator does with them, `edit` is what an edited manifest changes.
//!
//! What a part does is in the part; here is what users call.

mod edit;
mod operate;
mod outside;
mod spawn;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exuvia_abi::Pid;
use exuvia_engine::GuestSystem;
use exuvia_io::{ClientError, InheritedSockets, ListenError};
use exuvia_manifest::Listen;
use exuvia_scheduler::Handle;
use tokio::sync::broadcast;

use crate::background_upgrader;
use crate::config::NodeConfig;
use crate::core::Core;
use crate::error::{NodeError, SwapError, TargetError};
use crate::event::{Event, Events, TimedEvent};
use crate::from_manifest;
use crate::inspect::{
    Branch, Description, Filter, Inspection, Inspector, NodeInfo, ProcessInfo, ReleaseInfo,
};
use crate::network::Network;
use crate::release_log::ReleaseLog;
use crate::report::{Outdated, SwapReport};
use crate::request::{DeployOptions, ModuleBytes};
use crate::sampler::{Sampler, Sort, Top};
use crate::supervision::{GuestServices, Supervision};
use crate::swap::{self, Swapper};

pub use edit::{ExcessMemory, LimitChanges};
pub use outside::Reply;
pub use spawn::SpawnOptions;

/// A running node. Clones refer to the same node.
#[derive(Clone, Debug)]
pub struct Node(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    core: Arc<Core>,
    supervision: Arc<Supervision>,
    swapper: Arc<Swapper>,
    sampler: Sampler,
    network: Network,
}

impl Node {
    /// Starts the schedulers; there is no code yet.
    ///
    /// # Errors
    ///
    /// If this machine cannot run compiled Wasm, if its mapping limit is too low for the frames, or
    /// if no thread can be started.
    pub fn start(config: NodeConfig) -> Result<Node, NodeError> {
        Node::start_with(config, Events::default())
    }

    /// Starts a node that sends its events to `events`, which may have subscribers already.
    ///
    /// # Errors
    ///
    /// As [`Node::start`].
    pub fn start_with(config: NodeConfig, events: Events) -> Result<Node, NodeError> {
        let log = ReleaseLog::new(None, events.clone());
        Node::start_after(0, log, config, events)
    }

    /// Starts a node whose first release has the number after `last`.
    pub(crate) fn start_after(
        last: u64,
        log: ReleaseLog,
        config: NodeConfig,
        events: Events,
    ) -> Result<Node, NodeError> {
        let (core, commits) = Core::start(last, log, config, events)?;
        let core = Arc::new(core);
        let supervision = Arc::new(Supervision::new(core.clone()));
        let services = GuestServices(Arc::downgrade(&supervision));
        core.executor.connect(Arc::new(services));
        let swapper = Arc::new(Swapper::new(core.clone()));
        background_upgrader::start(&swapper, commits);
        Ok(Node(Arc::new(Parts {
            core,
            supervision,
            swapper,
            sampler: Sampler::default(),
            network: Network::default(),
        })))
    }

    pub(crate) fn core(&self) -> &Core {
        &self.0.core
    }

    pub(crate) fn supervision(&self) -> &Arc<Supervision> {
        &self.0.supervision
    }

    fn inspector(&self) -> Inspector<'_> {
        Inspector::new(&self.0.supervision)
    }

    /// Listens to the addresses of a manifest from now on, and to no others. An address that stays keeps its
    /// connections.
    ///
    /// # Errors
    ///
    /// If an address or a route cannot be used; nothing has changed then.
    pub fn listen(&self, listen: &[Listen]) -> Result<(), ListenError> {
        self.listen_with(listen, InheritedSockets::default())
    }

    /// As [`Node::listen`], the first time: addresses take these sockets, which were passed to this program.
    pub(crate) fn listen_with(
        &self,
        listen: &[Listen],
        inherited: InheritedSockets,
    ) -> Result<(), ListenError> {
        let wanted = listen.iter().map(from_manifest::listen).collect();
        let before = self.0.network.urls();
        self.0.network.set(&self.0.core, wanted, inherited)?;
        for url in self.0.network.urls() {
            if !before.contains(&url) {
                self.core().events.send(Event::Listening { url });
            }
        }
        Ok(())
    }

    /// Returns the addresses of TCP at which the node listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.network.addresses()
    }

    /// Has guests make requests to the outside, as far as they are granted: from now on, the process `exuvia.http` makes
    /// them. [`App::boot`](crate::App::boot) calls it if the manifest grants any.
    ///
    /// # Errors
    ///
    /// If there is no thread or no process for it, or another process has its name.
    pub fn serve_outbound(&self) -> Result<(), ClientError> {
        self.0.network.serve_outbound(&self.0.core)
    }

    /// Ends the process that makes requests for others.
    pub(crate) fn end_outbound(&self) {
        self.0.network.end_outbound();
    }

    /// Stops listening. Requests under way may take so long to end. Blocks the calling thread. Returns how long
    /// it took.
    pub(crate) fn stop_listening(&self, patience: Duration) -> Duration {
        let drain_per_s = self.core().config.drain_per_s;
        self.0.network.stop(patience, drain_per_s)
    }

    /// Stops the schedulers at once, without telling the processes. Dropping the last clone of a
    /// node does the same. See `App::stop` for an orderly stop.
    pub fn halt(&self) {
        self.core().halt();
        self.core().log.stop();
    }
}

/// Halts the node. A thread that is blocked in place in a guest ends when its process is dropped.
impl Drop for Parts {
    fn drop(&mut self) {
        self.core.halt_from_anywhere();
    }
}

/// Its processes.
impl Node {
    /// Finds a process by name or pid (`<3.1>` or `3.1`).
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn find(&self, target: &str) -> Result<Pid, TargetError> {
        let system = &self.core().system;
        let trimmed = target.trim_start_matches('<').trim_end_matches('>');
        let numbers = trimmed
            .split_once('.')
            .and_then(|(slot, generation)| Some((slot.parse().ok()?, generation.parse().ok()?)));
        if let Some((slot, generation)) = numbers {
            // Numbers out of range would be cut off, and yield the pid of another process.
            let pid = (slot < Pid::SLOTS && generation <= Pid::LAST_GENERATION)
                .then(|| Pid::new(system.node(), slot, generation));
            let alive = pid.filter(|pid| system.is_alive(*pid));
            return alive.ok_or_else(|| TargetError::NoProcess(target.to_owned()));
        }
        system
            .names
            .find(target)
            .ok_or_else(|| TargetError::NoName(target.to_owned()))
    }

    /// Kills a process, which cannot trap it.
    pub fn kill(&self, pid: Pid) {
        self.core().kill(pid);
    }

    /// Returns whether a process is a supervisor of the host.
    pub fn is_supervisor(&self, pid: Pid) -> bool {
        self.0.supervision.is_supervisor(pid)
    }

    /// Returns whether a process is one of the host's own, as a supervisor is; also if that cannot be found out.
    pub fn is_native(&self, pid: Pid) -> bool {
        let is_guest = (self.core()).examine(pid, |process| process.guest().is_some());
        self.is_supervisor(pid) || !is_guest.unwrap_or(true)
    }

    /// Returns everything that is known of a process, and its state as its `save` returns it;
    /// `save` runs on a copy.
    ///
    /// # Errors
    ///
    /// If there is no such process, or it does not reach the end of a turn.
    pub fn inspect(&self, pid: Pid) -> Result<(Inspection, Option<Vec<u8>>), TargetError> {
        self.inspector().inspect(pid)
    }

    /// Returns what messages a process understands.
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not reach the end of a
    /// turn.
    pub fn description(&self, pid: Pid) -> Result<Description, TargetError> {
        self.inspector().description(pid)
    }

    /// Returns the processes, in order of their slots. Running ones are waited for briefly; one
    /// that does not reach the end of a turn is left out.
    pub fn processes(&self, filter: &Filter) -> Vec<ProcessInfo> {
        self.processes_after(filter, None).0
    }

    /// Returns the processes with a slot above `after`, as [`Node::processes`] does, and the slot
    /// to continue after if there may be more of them.
    pub fn processes_after(
        &self,
        filter: &Filter,
        after: Option<u32>,
    ) -> (Vec<ProcessInfo>, Option<u32>) {
        self.inspector().processes_after(filter, after)
    }

    /// Returns the supervision tree, with at most `limit` children in total. Supervisors that
    /// guests have started come after the app's own.
    pub fn tree(&self, limit: usize) -> Vec<Branch> {
        self.inspector().tree(limit)
    }

    /// Takes a sample, and returns the `limit` processes with the highest values.
    pub fn top(&self, sort: Sort, limit: usize) -> Top {
        self.0.sampler.sample(self.inspector(), sort, limit)
    }

    /// Returns the processes themselves, for benchmarks and tests that bring their own.
    pub fn system(&self) -> &Arc<GuestSystem> {
        &self.core().system
    }
}

/// Its code.
impl Node {
    /// Makes new code current: all modules in one release, or nothing. Slow: it waits for earlier
    /// deployments of the same modules, compiles, verifies, and waits up to a second for busy
    /// processes. It is reported by an event at the commit, and by another one when the upgrade is
    /// complete.
    ///
    /// # Errors
    ///
    /// The reason why it was rejected; nothing has changed then.
    pub fn deploy(
        &self,
        modules: Vec<ModuleBytes>,
        options: DeployOptions,
    ) -> Result<SwapReport, SwapError> {
        self.0.swapper.deploy(modules, &options)
    }

    /// Deploys the first release: there is no code that it could replace, and so no swap to report.
    pub(crate) fn deploy_first(&self, modules: Vec<ModuleBytes>) -> Result<(), SwapError> {
        self.0.swapper.deploy_first(modules)
    }

    /// Rolls back to the release before the current one; state is upgraded by the same paths. It
    /// does not wait for deployments: one that is under way is rejected.
    ///
    /// # Errors
    ///
    /// If there is no earlier release.
    pub fn rollback(&self) -> Result<SwapReport, SwapError> {
        self.rollback_with(&DeployOptions::default())
    }

    /// Rolls back as [`Node::rollback`], with what the log of releases is to say of it. If that release was committed
    /// before the start of the node, it is deployed from the store, as by [`Node::rollback_to`].
    ///
    /// # Errors
    ///
    /// As [`Node::rollback`] and [`Node::rollback_to`].
    pub fn rollback_with(&self, options: &DeployOptions) -> Result<SwapReport, SwapError> {
        self.0.swapper.rollback(options)
    }

    /// Deploys the modules of a release of the store once more. Modules that are not in it stay.
    ///
    /// # Errors
    ///
    /// If there is no store or no such release, and as [`Node::deploy`].
    pub fn rollback_to(
        &self,
        number: u64,
        options: &DeployOptions,
    ) -> Result<SwapReport, SwapError> {
        self.0.swapper.restore(number, options)
    }

    /// Returns the progress of the current release: the upgrades by path, and the number of failed
    /// ones.
    pub fn progress(&self) -> (Vec<(&'static str, u64)>, u64) {
        self.0.swapper.progress()
    }

    /// Returns the processes of some modules that are on old versions, oldest version first.
    pub fn outdated<'a>(&self, modules: impl Iterator<Item = &'a str>) -> Vec<Outdated> {
        swap::outdated(self.core(), modules)
    }

    /// Returns the current release and those that can be rolled back to, newest first: those of the release store, or
    /// without one, and if it cannot be read, those whose code is still loaded.
    pub fn releases(&self) -> Vec<ReleaseInfo> {
        self.inspector().releases()
    }

    /// Pins a release, so that the store keeps it however many follow, or no longer. Returns whether that is a change.
    ///
    /// # Errors
    ///
    /// If there is no store or no such release, too many are pinned, or the store cannot be written.
    pub fn pin_release(&self, number: u64, on: bool) -> Result<bool, SwapError> {
        let store = self.core().log.store().ok_or(SwapError::NoStore)?;
        Ok(store.pin(number, on)?)
    }

    /// Returns the bytes of a module of a release of the store; `None`: the release has no such module.
    ///
    /// # Errors
    ///
    /// If there is no store or no such release, or the store cannot be read.
    pub fn module_of(&self, number: u64, module: &str) -> Result<Option<Vec<u8>>, SwapError> {
        let store = self.core().log.store().ok_or(SwapError::NoStore)?;
        let digest = store.release(number)?.modules.get(module).copied();
        Ok(digest.map(|digest| store.module(digest)).transpose()?)
    }

    /// Returns the BLAKE3 digest of a module's file as the node last read it for a release; `None`: it has read none.
    /// A release that was deployed may have other code.
    pub fn file_digest_of(&self, module: &str) -> Option<[u8; 32]> {
        self.core().log.file(module).map(|digest| digest.0)
    }

    /// Returns the BLAKE3 digest of the file of a module in the current release; `None`: the
    /// release has no such module.
    pub fn digest_of(&self, module: &str) -> Option<[u8; 32]> {
        let release = self.core().code.current();
        release.version(module).map(|version| version.digest.0)
    }
}

/// Its state and its events.
impl Node {
    /// Returns the current state of the node.
    pub fn info(&self) -> NodeInfo {
        self.inspector().info()
    }

    /// Returns why the app is not up; `None`: it is. An app is up when the children of its root
    /// supervisor have started. A child that has exited and is not to be restarted does not count.
    pub fn not_ready(&self) -> Option<String> {
        self.0.supervision.not_ready()
    }

    /// Subscribes to the events from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.core().events.listen()
    }

    /// Subscribes to the events from now on, each with its time.
    pub fn events_timed(&self) -> broadcast::Receiver<TimedEvent> {
        self.core().events.listen_timed()
    }

    /// Returns the source of the events, to which parts around the node add their own.
    pub fn event_source(&self) -> &Events {
        &self.core().events
    }

    /// Returns the scheduler's handle, for its metrics.
    pub fn scheduler(&self) -> &Handle {
        &self.core().schedulers
    }

    /// Returns the nanoseconds of the node's clock.
    pub fn now(&self) -> u64 {
        self.core().now()
    }

    /// Waits until no process has anything to do and no timer is due, for `patience` at most by the
    /// system's clock. Returns whether that state was reached.
    pub fn come_to_rest(&self, patience: Duration) -> bool {
        self.core().come_to_rest(patience)
    }

    /// Moves a manual clock, from timer to timer, so that each one finds the effects of those
    /// before; waits before each step as [`Node::come_to_rest`] does. Returns `false` if a process
    /// does not become idle in time; the clock then stays at that step.
    pub fn advance(&self, by: Duration, patience: Duration) -> bool {
        self.core().advance(by, patience)
    }

    /// Returns when the first timer is due, by the node's clock.
    pub fn next_timer(&self) -> Option<u64> {
        self.core().next_timer()
    }
}
