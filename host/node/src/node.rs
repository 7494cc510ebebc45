//! The node: starts everything, spawns processes, talks to them from outside.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use exuvia_abi::{Kind, Pid};
use exuvia_code::Code;
use exuvia_engine::{
    Artifact, Engine, EngineConfig, Executor, ExecutorConfig, Guest, GuestSystem, Services,
    THREAD_STACK, default_frames, mappings_of,
};
use exuvia_process::{
    Birth, Body, Context, Envelope, ExitReason, Limits, Native, Payload, SendError, Signal,
    SpawnError, System, Wanted,
};
use exuvia_scheduler::{Config, Handle, Scheduler};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::admission::Admission;
use crate::config::NodeConfig;
use crate::error::{CallFailed, NodeError, SendFailed, SpawnFailed, TargetError};
use crate::event::{Event, Events, Herald, Told};
use crate::grants;
use crate::hub::{Runner, Stacks, Wakes};
use crate::logger::Logger;
use crate::machine;
use crate::manifest::{AppConfig, OwnMemory};
use crate::settle::Following;
use crate::supervisor::{self, Asks, Edits};
use crate::swap::turns::Turns;
use crate::sweeper::{self, Sweeper};
use crate::top::Sampler;

/// Frames may have one byte of so many of the machine's memory if nothing else
/// is said: images, mailboxes and everything else want the most of it.
const FRAMES_SHARE: u64 = 4;

/// A running node. Clones are the same node.
#[derive(Clone, Debug)]
pub struct Node(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: NodeConfig,
    pub(crate) system: Arc<GuestSystem>,
    pub(crate) code: Arc<Code<Artifact>>,
    pub(crate) engine: Engine,
    pub(crate) executor: Executor,
    pub(crate) events: Events,
    pub(crate) logger: Arc<Logger>,
    /// Held from a commit to its announcement; never while anything slow is done.
    pub(crate) swapping: Mutex<()>,
    /// How often somebody has gone back. Changed under `swapping`.
    pub(crate) rollbacks: AtomicU64,
    pub(crate) turns: Turns,
    pub(crate) limits: Arc<Limits>,
    pub(crate) modules: ModuleLimits,
    /// Children of the manifest that may have less memory than their module.
    pub(crate) children: Mutex<Vec<OwnMemory>>,
    /// What guests ask for with `config`.
    pub(crate) settings: Mutex<Arc<AppConfig>>,
    pub(crate) edits: Edits,
    pub(crate) asks: Asks,
    pub(crate) sweeper: Sweeper,
    pub(crate) following: Mutex<Following>,
    pub(crate) swaps: AtomicU64,
    pub(crate) sampler: Mutex<Sampler>,
    /// The processes that ask for somebody outside: they may ask supervisors too.
    pub(crate) operators: Operators,
    handle: Handle,
    scheduler: Mutex<Option<Scheduler>>,
}

/// A pid's slot notes the scheduler that it is pinned to in a byte.
const MOST_PINNED: usize = 255;

/// Limits of processes by module, from the manifest.
pub(crate) type ModuleLimits = Mutex<std::collections::BTreeMap<String, Arc<Limits>>>;

/// A reply to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The replier's tag.
    pub tag: u32,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// How a process is spawned from outside.
#[derive(Clone, Debug, Default)]
pub struct SpawnOptions {
    /// Registered before it runs.
    pub name: Option<String>,
    /// Its limits; `None`: the module's or the node's.
    pub limits: Option<Limits>,
    /// The only scheduler that runs it, counted from 0, as in Erlang's
    /// undocumented spawn option; `None`: any. Meant for measuring: whatever
    /// else that scheduler has to do, nobody helps.
    pub scheduler: Option<usize>,
}

impl Node {
    /// Starts the schedulers; there is no code yet.
    ///
    /// # Errors
    ///
    /// If this machine cannot run compiled Wasm, or has no threads left.
    pub fn start(config: NodeConfig) -> Result<Node, NodeError> {
        Node::start_with(config, Events::default())
    }

    /// The same, for whoever listens to `events` already.
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
        let memory = machine::memory();
        let processes = match config.processes {
            0 => machine::processes(memory),
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
        let code = Arc::new(Code::new(u64::from(config.release_threshold)));
        let (commits, committed) = sweeper::commits();
        let logger = Arc::new(Logger::default());
        logger.set(config.log.clone());
        let herald = Herald {
            events: events.clone(),
            logger: logger.clone(),
            system: system.clone(),
            commits: commits.clone(),
        };
        let executor = Executor::new(
            system.clone(),
            code.clone(),
            Arc::new(herald),
            ExecutorConfig {
                frames,
                frame_memory: match config.frame_memory {
                    0 => memory / FRAMES_SHARE,
                    bytes => bytes,
                },
                probation: config.probation,
            },
        );
        let wakes = Arc::new(Wakes::default());
        system.connect(wakes.clone());
        let runner = Runner {
            executor: executor.clone(),
            system: system.clone(),
        };
        let scheduler = Scheduler::start(workers, Arc::new(runner))
            .map_err(|error| NodeError::Scheduler(error.to_string()))?;
        wakes.connect(scheduler.handle());
        executor.lend_stacks(Arc::new(Stacks::new(scheduler.handle(), system.clone())));
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
            sweeper: Sweeper::new(commits),
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
        Sweeper::start(weak, committed);
        Ok(node)
    }

    /// Spawns a process of a module in the current release; its first message
    /// is INIT with `arguments`.
    ///
    /// # Errors
    ///
    /// If the release has no such module, or the process may not have what it
    /// asks for.
    pub fn spawn(
        &self,
        module: &str,
        arguments: &[u8],
        options: &SpawnOptions,
    ) -> Result<Pid, SpawnFailed> {
        let payload = Payload::new(arguments);
        let body = self
            .0
            .executor
            .newborn(module)
            .ok_or_else(|| SpawnFailed::NoModule(module.to_owned()))?;
        let limits = match &options.limits {
            Some(limits) => Arc::new(limits.clone().at_most(&self.limits_of(module))),
            None => self.limits_of(module),
        };
        may_begin(&body, &limits)?;
        let pinned_to = self.pinned_to(options.scheduler)?;
        let system = &self.0.system;
        let reserved = system.reserve(&limits);
        let pid = reserved.map_err(|SpawnError::TableFull| SpawnFailed::TableFull)?;
        if let Some(name) = &options.name
            && let Err(error) = system.register(name, pid)
        {
            system.abandon(pid);
            let name = name.clone();
            return Err(SpawnFailed::Name { name, error });
        }
        let birth = Birth {
            pinned_to,
            ..Birth::new(body, limits, payload)
        };
        system.give_birth(pid, birth);
        Ok(pid)
    }

    fn pinned_to(&self, scheduler: Option<usize>) -> Result<Option<u8>, SpawnFailed> {
        let Some(wanted) = scheduler else {
            return Ok(None);
        };
        let schedulers = self.0.handle.workers().min(MOST_PINNED);
        u8::try_from(wanted)
            .ok()
            .filter(|_| wanted < schedulers)
            .map(Some)
            .ok_or(SpawnFailed::Scheduler { wanted, schedulers })
    }

    /// Spawns a native process.
    pub fn spawn_native(&self, native: Box<dyn Native<Guest>>) -> Option<Pid> {
        let body = Body::Native(Some(native));
        let birth = Birth::new(body, self.0.limits.clone(), Payload::empty());
        self.0.system.spawn(birth).ok()
    }

    /// The limits of a module's processes.
    pub(crate) fn limits_of(&self, module: &str) -> Arc<Limits> {
        self.0
            .modules
            .lock()
            .get(module)
            .unwrap_or(&self.0.limits)
            .clone()
    }

    /// Finds a process by name or pid (`<3.1>` or `3.1`).
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn find(&self, target: &str) -> Result<Pid, TargetError> {
        let system = &self.0.system;
        let trimmed = target.trim_start_matches('<').trim_end_matches('>');
        let numbers = trimmed
            .split_once('.')
            .and_then(|(slot, generation)| Some((slot.parse().ok()?, generation.parse().ok()?)));
        if let Some((slot, generation)) = numbers {
            // Numbers that no pid has would make another's.
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

    /// Sends a message from outside.
    ///
    /// # Errors
    ///
    /// If it was not accepted.
    pub fn send(&self, to: Pid, tag: u32, payload: Vec<u8>) -> Result<(), SendFailed> {
        self.fits(&payload)?;
        let envelope = Envelope::message(Pid::NONE, tag, payload.into());
        self.0
            .system
            .send(to, envelope)
            .map_err(|error| send_failed(to, error))
    }

    /// Sends a request and waits for the reply. Blocks the calling thread.
    ///
    /// # Errors
    ///
    /// If the process is dead, dies, or does not reply in time.
    pub fn call(
        &self,
        to: Pid,
        tag: u32,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Reply, CallFailed> {
        self.fits(&payload)?;
        let (sender, receiver) = sync_channel(1);
        let asker = Asker {
            to,
            tag,
            payload: Some(payload.into()),
            sender,
            operator: Operator::of(&self.0.operators),
        };
        let pid = self
            .spawn_native(Box::new(asker))
            .ok_or(CallFailed::TableFull)?;
        match receiver.recv_timeout(timeout) {
            Ok(answer) => answer,
            Err(_) => {
                let _ = self.0.system.signal(pid, Signal::Kill { from: Pid::NONE });
                Err(CallFailed::Timeout {
                    pid: to,
                    timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                })
            }
        }
    }

    /// Whoever sends from outside has the node's limit, as a process has its own.
    fn fits(&self, payload: &[u8]) -> Result<(), SendFailed> {
        let limit = self.0.limits.message_bytes;
        if payload.len() as u64 > u64::from(limit) {
            return Err(SendFailed::TooLarge {
                bytes: payload.len(),
                limit,
            });
        }
        Ok(())
    }

    /// Kills a process: it cannot be trapped.
    pub fn kill(&self, pid: Pid) {
        let _ = self.0.system.signal(pid, Signal::Kill { from: Pid::NONE });
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.listen()
    }

    /// The same, with the time of each event.
    pub fn events_told(&self) -> broadcast::Receiver<Told> {
        self.0.events.listen_told()
    }

    /// The processes themselves, for benchmarks and tests that bring their own.
    pub fn system(&self) -> &Arc<GuestSystem> {
        &self.0.system
    }

    /// The scheduler's handle, for its metrics.
    pub fn scheduler(&self) -> &Handle {
        &self.0.handle
    }

    /// Stops the schedulers at once; processes are not told. So does dropping the
    /// last of a node. See `App::stop` for an orderly end.
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
        }
    }
}

/// A thread that waits aside in a guest ends when its process is dropped.
impl Drop for Inner {
    fn drop(&mut self) {
        if self.handle.current_worker().is_none() {
            return self.halt();
        }
        // The slice that has dropped it must end first.
        let (scheduler, executor) = (self.scheduler.lock().take(), self.executor.clone());
        let halt = move || {
            drop(scheduler);
            executor.clear();
        };
        let thread = std::thread::Builder::new().name("exuvia-halt".into());
        if let Err(error) = thread.spawn(halt) {
            tracing::error!("a node is not cleared, its end has no thread: {error}");
        }
    }
}

/// Whether a process may have the memory that its module begins with: the
/// limiter sees memory grow, but not that.
pub(crate) fn may_begin(body: &Body<Guest>, limits: &Limits) -> Result<(), SpawnFailed> {
    let Body::Guest(guest) = body else {
        return Ok(());
    };
    let (wanted, allowed) = (
        guest.tenancy.version().artifact.memory_bytes(),
        limits.memory,
    );
    if wanted > allowed {
        return Err(SpawnFailed::Memory {
            module: guest.tenancy.module.to_string(),
            wanted,
            allowed,
        });
    }
    Ok(())
}

fn send_failed(to: Pid, error: SendError) -> SendFailed {
    match error {
        SendError::Dead => SendFailed::Dead(to),
        SendError::Full => SendFailed::Full(to),
        SendError::Unknown => SendFailed::Unknown(to),
    }
}

/// A number that other nodes hardly have, and never 0.
fn node_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let state = std::collections::hash_map::RandomState::new();
    state.build_hasher().finish().max(1)
}

/// A process that makes one request for somebody outside.
struct Asker {
    to: Pid,
    tag: u32,
    payload: Option<Payload>,
    sender: SyncSender<Result<Reply, CallFailed>>,
    operator: Operator,
}

/// Pids that stand for somebody outside.
pub(crate) type Operators = Arc<Mutex<HashSet<Pid>>>;

/// One of them, from when its process runs until it ends.
struct Operator {
    all: Operators,
    pid: Pid,
}

impl Operator {
    fn of(all: &Operators) -> Operator {
        Operator {
            all: all.clone(),
            pid: Pid::NONE,
        }
    }

    fn is(&mut self, pid: Pid) {
        self.pid = pid;
        self.all.lock().insert(pid);
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.all.lock().remove(&self.pid);
    }
}

impl Native<Guest> for Asker {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        let answer = match message.kind {
            Kind::Init => {
                self.operator.is(context.pid());
                let reference = context.own.new_reference();
                let payload = self.payload.take().unwrap_or_else(Payload::empty);
                let sent =
                    context
                        .own
                        .request(context.system, self.to, reference, self.tag, payload);
                match sent {
                    Ok(()) => return,
                    Err(error) => Err(send_failed(self.to, error).into()),
                }
            }
            Kind::Reply => Ok(Reply {
                tag: message.tag,
                payload: message.payload.as_slice().to_vec(),
            }),
            Kind::Down => Err(CallFailed::Down {
                pid: self.to,
                reason: ExitReason::with(message.reason, message.payload.as_slice()).to_string(),
            }),
            _ => return,
        };
        // Whoever asked may have given up.
        let _ = self.sender.try_send(answer);
        context.exit(ExitReason::new(exuvia_abi::Reason::NORMAL));
    }
}

/// What guests ask of the node.
struct GuestServices(Weak<Inner>);

impl Services for GuestServices {
    fn supervisor(
        &self,
        specification: &[u8],
        limits: &Arc<Limits>,
    ) -> Result<Box<dyn Native<Guest>>, String> {
        let inner = self.0.upgrade().ok_or("the node is stopping")?;
        supervisor::from_guest(&Node(inner), specification, limits)
    }

    fn grants(&self, text: &[u8]) -> Result<Wanted, String> {
        grants::wanted(text)
    }

    fn config(&self, key: &str) -> Option<Vec<u8>> {
        let settings = self.0.upgrade()?.settings.lock().clone();
        settings.get(key).cloned()
    }
}
