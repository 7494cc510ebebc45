//! The bottom of a node: the engine, the processes, the code and the schedulers, put together. What
//! is built on them (`supervision`, `inspect`, `sampler`, `swap`, `background_upgrader`) owns its own
//! state and uses this; this knows none of them, except by the traits through which they are
//! connected.
//!
//! `survey` examines processes between two of their turns, `suspend` suspends them, `limits` says what processes may use,
//! `observer` makes events of what the engine reports, `virtual_time` moves a manual clock.

mod commits;
mod limits;
mod observer;
mod survey;
mod suspend;
mod virtual_time;

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use exuvia_abi::Pid;
use exuvia_code::CodeServer;
use exuvia_engine::{
    Artifact, Engine, EngineConfig, Executor, ExecutorConfig, Guest, GuestSystem, MOST_FRAMES,
    THREAD_STACK, default_frames,
};
use exuvia_io::Pollers;
use exuvia_manifest::AppConfig;
use exuvia_process::{Body, Native, Payload, Signal, SpawnSpec, System};
use exuvia_scheduler::{Config, Handle, Scheduler};
use parking_lot::Mutex;

use crate::admission::Admission;
use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::event::{Event, Events};
use crate::host_memory;
use crate::logger::Logger;
use crate::release_log::ReleaseLog;
use crate::scheduler_glue::{RunQueues, Runner, SchedulerThreads, pollers};

pub(crate) use commits::Commits;
pub(crate) use limits::{ProcessLimits, may_begin};
use observer::EventObserver;
pub(crate) use survey::PATIENCE;
pub use suspend::Suspended;

/// The share of the machine's memory that frames may keep by default: one byte in this many.
/// Images, mailboxes and everything else need most of it.
const FRAMES_SHARE: u64 = 4;

/// What all parts of a node use.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: NodeConfig,
    pub(crate) system: Arc<GuestSystem>,
    pub(crate) code: Arc<CodeServer<Artifact>>,
    pub(crate) engine: Engine,
    pub(crate) executor: Executor,
    pub(crate) events: Events,
    /// What the store and the files have of its releases.
    pub(crate) log: ReleaseLog,
    /// Bounds the events that guests can cause.
    pub(crate) logger: Arc<Logger>,
    pub(crate) limits: ProcessLimits,
    /// What guests read with `config`.
    pub(crate) app_config: Mutex<Arc<AppConfig>>,
    /// Tells the background upgrader of commits.
    pub(crate) commits: Commits,
    pub(crate) pollers: Arc<Pollers>,
    pub(crate) schedulers: Handle,
    scheduler: Mutex<Option<Scheduler>>,
}

impl Core {
    /// Starts the schedulers; the first release will have the number after `last`. Also returns what reports commits, for the background upgrader.
    pub(crate) fn start(
        last: u64,
        log: ReleaseLog,
        config: NodeConfig,
        events: Events,
    ) -> Result<(Core, Receiver<()>), NodeError> {
        let mut workers = workers(&config);
        let frames = match config.frames {
            0 => default_frames(),
            frames if frames > MOST_FRAMES => return Err(NodeError::Frames { frames }),
            frames => frames,
        };
        let engine = Engine::new(&EngineConfig {
            cache: config.cache.clone(),
            page_map: config.page_map,
            memory: config.module_memory,
            functions: config.functions,
            layout: config.memory_layout,
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
        let code = Arc::new(CodeServer::after(last, u64::from(config.release_threshold)));
        let (commits, committed) = Commits::channel();
        let logger = Arc::new(Logger::default());
        logger.set(config.log.clone());
        let observer = EventObserver {
            events: events.clone(),
            logger: logger.clone(),
            system: system.clone(),
            commits: commits.clone(),
        };
        let executor = Executor::new(
            system.clone(),
            code.clone(),
            Arc::new(observer),
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
        let (pollers, make_poller) = pollers(workers.workers);
        workers.pollers = Some(make_poller);
        let scheduler = Scheduler::start(workers, Arc::new(runner))
            .map_err(|error| NodeError::Scheduler(error.to_string()))?;
        wakes.connect(scheduler.handle());
        let handle = scheduler.handle();
        pollers.connect(move |worker| handle.unpark_worker(worker));
        executor.set_threads(Arc::new(SchedulerThreads::new(
            scheduler.handle(),
            system.clone(),
        )));
        let core = Core {
            limits: ProcessLimits::new(config.limits.clone()),
            config,
            system,
            code,
            engine,
            executor,
            events,
            log,
            logger,
            app_config: Mutex::default(),
            commits,
            pollers,
            schedulers: scheduler.handle(),
            scheduler: Mutex::new(Some(scheduler)),
        };
        Ok((core, committed))
    }

    /// Returns the nanoseconds of the node's clock.
    pub(crate) fn now(&self) -> u64 {
        self.system.clock.now()
    }

    /// Returns the milliseconds since a time of the node's clock.
    pub(crate) fn since(&self, began: u64) -> f64 {
        self.now().saturating_sub(began) as f64 / 1e6
    }

    /// Kills a process, which cannot trap it.
    pub(crate) fn kill(&self, pid: Pid) {
        let _ = self.system.signal(pid, Signal::Kill { from: Pid::NONE });
    }

    /// Returns the names of a process.
    pub(crate) fn names_of(&self, pid: Pid) -> Vec<String> {
        let names = self.system.names.of(pid);
        names.iter().map(ToString::to_string).collect()
    }

    /// Spawns a native process. Returns `None` if the process table is full.
    pub(crate) fn spawn_native(&self, native: Box<dyn Native<Guest>>) -> Option<Pid> {
        let body = Body::Native(Some(native));
        let spec = SpawnSpec::new(body, self.limits.of_node().clone(), Payload::empty());
        self.system.spawn(spec).ok()
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

    /// Stops the schedulers, if they run, and drops the frames.
    pub(crate) fn halt(&self) {
        let scheduler = self.scheduler.lock().take();
        if scheduler.is_some() {
            drop(scheduler);
            self.executor.clear();
            self.report_left_out(u64::MAX);
        }
    }

    /// Halts when nothing needs the core any more. On a scheduler's thread another thread does it:
    /// the slice that runs must end first.
    pub(crate) fn halt_from_anywhere(&self) {
        if self.schedulers.current_worker().is_none() {
            return self.halt();
        }
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

fn workers(config: &NodeConfig) -> Config {
    let mut workers = Config {
        stack_size: Some(THREAD_STACK),
        others_share: config.normal_share,
        ..Config::default()
    };
    if config.schedulers > 0 {
        workers.workers = config.schedulers;
    }
    workers
}

/// Returns a random number that is hardly another node's, and never 0.
fn node_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let state = std::collections::hash_map::RandomState::new();
    state.build_hasher().finish().max(1)
}
