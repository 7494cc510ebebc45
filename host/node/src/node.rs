//! The node: starts the engine, the scheduler and everything around them, and ends them. `spawn`
//! starts processes in it, `outside` sends messages to them.

mod edit;
mod outside;
mod spawn;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};

use exuvia_abi::Pid;
use exuvia_code::CodeServer;
use exuvia_engine::{
    Artifact, Engine, EngineConfig, Executor, ExecutorConfig, Guest, GuestSystem, Services,
    THREAD_STACK, default_frames, mappings_of,
};
use exuvia_manifest::{AppConfig, OwnMemory};
use exuvia_process::{GrantRequest, Limits, Native, Signal, System};
use exuvia_scheduler::{Config, Handle, Scheduler};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::admission::Admission;
use crate::background_upgrader::{self, BackgroundUpgrader};
use crate::config::NodeConfig;
use crate::core::observer::EventObserver;
use crate::error::{NodeError, TargetError};
use crate::event::{Event, Events, TimedEvent};
use crate::grants;
use crate::host_memory;
use crate::logger::Logger;
use crate::sampler::Sampler;
use crate::scheduler_glue::{RunQueues, Runner, SchedulerThreads};
use crate::supervision::BootProgress;
use crate::supervision::{self, Asks, Edits};
use crate::swap::tracker::ReleaseTracker;
use crate::swap::turns::Turns;

pub use edit::{ExcessMemory, LimitChanges};
pub(crate) use outside::Operators;
pub use outside::Reply;
pub use spawn::SpawnOptions;
pub(crate) use spawn::may_begin;

/// The share of the machine's memory that frames may keep by default: one byte in this many.
/// Images, mailboxes and everything else need most of it.
const FRAMES_SHARE: u64 = 4;

/// A running node. Clones refer to the same node.
#[derive(Clone, Debug)]
pub struct Node(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: NodeConfig,
    pub(crate) system: Arc<GuestSystem>,
    pub(crate) code: Arc<CodeServer<Artifact>>,
    pub(crate) engine: Engine,
    pub(crate) executor: Executor,
    pub(crate) events: Events,
    pub(crate) logger: Arc<Logger>,
    /// Held from a commit until it is announced; never during anything slow.
    pub(crate) swapping: Mutex<()>,
    /// The number of rollbacks so far. Changed under `swapping`.
    pub(crate) rollbacks: AtomicU64,
    pub(crate) turns: Turns,
    pub(crate) limits: Arc<Limits>,
    pub(crate) modules: ModuleLimits,
    /// Children in the manifest that may have less memory than their module.
    pub(crate) children: Mutex<Vec<OwnMemory>>,
    /// What guests read with `config`.
    pub(crate) settings: Mutex<Arc<AppConfig>>,
    pub(crate) edits: Edits,
    pub(crate) asks: Asks,
    /// The children that the boot waits for.
    pub(crate) boot: BootProgress,
    /// The supervisor at the root of the app, once it is up.
    pub(crate) root: OnceLock<Pid>,
    pub(crate) background_upgrader: BackgroundUpgrader,
    pub(crate) following: Mutex<ReleaseTracker>,
    pub(crate) swaps: AtomicU64,
    pub(crate) sampler: Mutex<Sampler>,
    /// The processes that make requests for callers outside the node: they may ask supervisors too.
    pub(crate) operators: Operators,
    handle: Handle,
    scheduler: Mutex<Option<Scheduler>>,
}

/// The limits of processes, by module, from the manifest.
pub(crate) type ModuleLimits = Mutex<std::collections::BTreeMap<String, Arc<Limits>>>;

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
        let mut workers = Config {
            stack_size: Some(THREAD_STACK),
            others_share: config.normal_share,
            ..Config::default()
        };
        if config.schedulers > 0 {
            workers.workers = config.schedulers;
        }
        let frames = match config.frames {
            0 => default_frames(),
            frames => frames,
        };
        let (mappings, allowed) = mappings_of(frames);
        if mappings > allowed {
            return Err(NodeError::Frames {
                frames,
                mappings,
                allowed,
            });
        }
        let engine = Engine::new(&EngineConfig {
            cache: config.cache.clone(),
            page_map: config.page_map,
            memory: config.module_memory,
            functions: config.functions,
            ..EngineConfig::default()
        })?;
        let memory = host_memory::memory();
        let processes = match config.processes {
            0 => host_memory::processes(memory),
            processes => processes,
        };
        let system = Arc::new(System::new(
            node_number(),
            processes,
            workers.workers,
            (config.clock)(),
        ));
        let admission = Admission::new(memory);
        system.table.admit_by(move || admission.admits());
        let code = Arc::new(CodeServer::new(u64::from(config.release_threshold)));
        let (commits, committed) = background_upgrader::commits();
        let logger = Arc::new(Logger::default());
        logger.set(config.log.clone());
        let event_observer = EventObserver {
            events: events.clone(),
            logger: logger.clone(),
            system: system.clone(),
            commits: commits.clone(),
        };
        let executor = Executor::new(
            system.clone(),
            code.clone(),
            Arc::new(event_observer),
            ExecutorConfig {
                frames,
                frame_memory: match config.frame_memory {
                    0 => memory / FRAMES_SHARE,
                    bytes => bytes,
                },
                probation_messages: config.probation,
            },
        );
        let wakes = Arc::new(RunQueues::default());
        system.connect(wakes.clone());
        let runner = Runner {
            executor: executor.clone(),
            system: system.clone(),
        };
        let scheduler = Scheduler::start(workers, Arc::new(runner))
            .map_err(|error| NodeError::Scheduler(error.to_string()))?;
        wakes.connect(scheduler.handle());
        executor.set_threads(Arc::new(SchedulerThreads::new(
            scheduler.handle(),
            system.clone(),
        )));
        let limits = Arc::new(config.limits.clone());
        let node = Node(Arc::new(Inner {
            config,
            system,
            code,
            engine,
            executor,
            events,
            logger,
            swapping: Mutex::new(()),
            rollbacks: AtomicU64::new(0),
            turns: Turns::default(),
            limits,
            modules: Mutex::default(),
            children: Mutex::default(),
            settings: Mutex::default(),
            edits: Edits::default(),
            asks: Asks::default(),
            boot: BootProgress::default(),
            root: OnceLock::new(),
            background_upgrader: BackgroundUpgrader::new(commits),
            following: Mutex::default(),
            swaps: AtomicU64::new(0),
            sampler: Mutex::default(),
            operators: Operators::default(),
            handle: scheduler.handle(),
            scheduler: Mutex::new(Some(scheduler)),
        }));
        let weak = Arc::downgrade(&node.0);
        node.0
            .executor
            .connect(Arc::new(GuestServices(weak.clone())));
        BackgroundUpgrader::start(weak, committed);
        Ok(node)
    }

    /// Finds a process by name or pid (`<3.1>` or `3.1`).
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn find(&self, target: &str) -> Result<Pid, TargetError> {
        let system = &self.0.system;
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
        let _ = self.0.system.signal(pid, Signal::Kill { from: Pid::NONE });
    }

    /// Subscribes to the events from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.listen()
    }

    /// Subscribes to the events from now on, each with its time.
    pub fn events_timed(&self) -> broadcast::Receiver<TimedEvent> {
        self.0.events.listen_timed()
    }

    /// Returns the source of the events, to which parts around the node add their own.
    pub fn event_source(&self) -> &Events {
        &self.0.events
    }

    /// Returns the nanoseconds of the node's clock.
    pub fn now(&self) -> u64 {
        self.0.system.clock.now()
    }

    /// Returns the BLAKE3 digest of the file of a module in the current release; `None`: the
    /// release has no such module.
    pub fn digest_of(&self, module: &str) -> Option<[u8; 32]> {
        let release = self.0.code.current();
        release.version(module).map(|version| version.digest.0)
    }

    /// Returns the processes themselves, for benchmarks and tests that bring their own.
    pub fn system(&self) -> &Arc<GuestSystem> {
        &self.0.system
    }

    /// Returns the scheduler's handle, for its metrics.
    pub fn scheduler(&self) -> &Handle {
        &self.0.handle
    }

    /// Stops the schedulers at once, without telling the processes. Dropping the last clone of a
    /// node does the same. See `App::stop` for an orderly stop.
    pub fn halt(&self) {
        self.0.halt();
    }
}

impl Inner {
    fn halt(&self) {
        let scheduler = self.scheduler.lock().take();
        if scheduler.is_some() {
            drop(scheduler);
            self.executor.clear();
            self.report_left_out(u64::MAX);
        }
    }

    /// Sends an event for lines and events that came too fast, for those before the second of `now`.
    pub(crate) fn report_left_out(&self, now: u64) {
        for (module, lines) in self.logger.left_out(now) {
            let module = module.to_string();
            self.events.send(Event::LogCut { module, lines });
        }
        for (module, what, events) in self.logger.reports_left_out(now) {
            self.events.send(Event::EventCut {
                module: module.to_string(),
                what: what.name(),
                events,
            });
        }
    }
}

/// Halts the node. A thread that is blocked in place in a guest ends when its process is dropped.
impl Drop for Inner {
    fn drop(&mut self) {
        if self.handle.current_worker().is_none() {
            return self.halt();
        }
        // The slice that dropped the node must end first, so another thread waits for the
        // schedulers.
        let (scheduler, executor) = (self.scheduler.lock().take(), self.executor.clone());
        let halt = move || {
            drop(scheduler);
            executor.clear();
        };
        let thread = std::thread::Builder::new().name("exuvia-halt".into());
        if let Err(error) = thread.spawn(halt) {
            tracing::error!("a node could not be freed, no thread for it: {error}");
        }
    }
}

/// Returns a random number that is hardly another node's, and never 0.
fn node_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let state = std::collections::hash_map::RandomState::new();
    state.build_hasher().finish().max(1)
}

/// What guests ask the node for.
struct GuestServices(Weak<Inner>);

impl Services for GuestServices {
    fn supervisor(
        &self,
        specification: &[u8],
        limits: &Arc<Limits>,
    ) -> Result<Box<dyn Native<Guest>>, String> {
        let inner = self.0.upgrade().ok_or("the node is stopping")?;
        supervision::from_guest(&Node(inner), specification, limits)
    }

    fn grants(&self, text: &[u8]) -> Result<GrantRequest, String> {
        grants::wanted(text)
    }

    fn config(&self, key: &str) -> Option<Vec<u8>> {
        let settings = self.0.upgrade()?.settings.lock().clone();
        settings.get(key).cloned()
    }
}
