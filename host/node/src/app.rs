//! An app: a node, the modules of its manifest as the first release, and the
//! supervision tree. The tree's root is the child of a native process, as an
//! OTP application's is of its application master.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use exuvia_abi::{Kind, Pid, Priority, Reason};
use exuvia_engine::Guest;
use exuvia_engine::instrument::MAX_MODULE_BYTES;
use exuvia_process::{Birth, Body, Context, Envelope, ExitReason, Native, Payload, Signal};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::config::NodeConfig;
use crate::error::BootError;
use crate::event::Events;
use crate::files;
use crate::live::Live;
use crate::manifest::Manifest;
use crate::node::Node;
use crate::supervisor;
use crate::swap::ModuleBytes;
use crate::watch::{WatchLimits, Watcher, Workshop};

/// How long the supervision tree may take to start.
const START: Duration = Duration::from_secs(60);

/// Milliseconds that the last processes of an orderly stop get to be gone.
const LAST_ENDS: u32 = 100;

/// How an app is booted.
#[derive(Clone, Debug, Default)]
pub struct BootOptions {
    /// Settings other than the manifest's own, for tests.
    pub config: Option<NodeConfig>,
    /// Where events go: whoever listens to it before the boot hears what is
    /// said while the tree starts, also when it does not. By default nobody
    /// hears anything before the boot is over.
    pub events: Events,
}

/// What the end of an app was like.
#[derive(Clone, Debug, Serialize)]
pub struct StopReport {
    /// The tree ended in order within the time.
    pub orderly: bool,
    /// Processes that were left and dropped.
    pub left: usize,
}

/// A running app.
#[derive(Debug)]
pub struct App {
    node: Node,
    manifest: Manifest,
    master: Pid,
    /// The supervisor at the root.
    root: Pid,
    news: Mutex<Receiver<News>>,
    /// Why the tree has ended, once it has.
    end: watch::Receiver<Option<ExitReason>>,
}

impl App {
    /// Starts the node, loads the modules, starts the tree.
    ///
    /// # Errors
    ///
    /// What could not be read, loaded or started.
    pub fn boot(manifest: Manifest, options: BootOptions) -> Result<App, BootError> {
        let config = options.config.unwrap_or_else(|| NodeConfig::of(&manifest));
        let node = Node::start_with(config, options.events)?;
        let modules = read_modules(&manifest)?;
        *node.0.settings.lock() = std::sync::Arc::new(manifest.config.clone());
        {
            let mut limits = node.0.modules.lock();
            for (name, module) in &manifest.modules {
                limits.insert(
                    name.clone(),
                    std::sync::Arc::new(module.limits.clone().into()),
                );
            }
        }
        node.deploy_first(modules)?;
        let release = node.0.code.current();
        let begins_with = |module: &str| {
            let version = release.version(module)?;
            Some(version.artifact.memory_bytes())
        };
        if let Err(error) = manifest.check_memories(begins_with) {
            node.halt();
            return Err(error.into());
        }
        // From now on a swap is refused that would not go with them.
        node.0
            .children
            .lock()
            .extend_from_slice(manifest.own_memories());
        let (sender, receiver) = channel();
        let root =
            supervisor::from_entry(&node, &manifest.supervisor, &node.0.limits, &Arc::default())
                .map_err(BootError::Tree)?;
        let (ended, end) = watch::channel(None);
        let master = Master {
            root: Some(root),
            root_pid: None,
            sender,
            ended,
        };
        let master = node
            .spawn_native(Box::new(master))
            .ok_or_else(|| BootError::Tree("the node has no room for a process".into()))?;
        let root = match receiver.recv_timeout(START) {
            Ok(News::Up(root)) => root,
            Ok(News::Ended(reason)) => {
                node.halt();
                return Err(BootError::Tree(reason.to_string()));
            }
            Err(_) => {
                node.halt();
                return Err(BootError::Tree(format!(
                    "it was not up after {} s; a child does not acknowledge its start",
                    START.as_secs()
                )));
            }
        };
        Ok(App {
            node,
            manifest,
            master,
            root,
            news: Mutex::new(receiver),
            end,
        })
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The manifest it was booted from.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Watches the module files, and swaps what changes.
    ///
    /// # Errors
    ///
    /// If the system has no thread left.
    pub fn watch(&self) -> std::io::Result<Watcher> {
        self.watch_within(&WatchLimits::default())
    }

    /// As [`App::watch`], with less of the system.
    ///
    /// # Errors
    ///
    /// If the system has no thread left.
    pub fn watch_within(&self, limits: &WatchLimits) -> std::io::Result<Watcher> {
        let files = self
            .manifest
            .modules
            .iter()
            .map(|(name, module)| (name.clone(), module.path.clone()))
            .collect();
        Watcher::start(self.node.clone(), files, limits)
    }

    /// Watches the sources as well, builds what has changed of them, and applies
    /// edits of the manifest. The app was booted from the workshop's manifest.
    ///
    /// # Errors
    ///
    /// If the system has no thread left.
    pub fn develop(&self, workshop: Workshop) -> std::io::Result<Watcher> {
        self.develop_within(workshop, &WatchLimits::default())
    }

    /// As [`App::develop`], with less of the system.
    ///
    /// # Errors
    ///
    /// If the system has no thread left.
    pub fn develop_within(
        &self,
        workshop: Workshop,
        limits: &WatchLimits,
    ) -> std::io::Result<Watcher> {
        Watcher::develop(self, workshop, limits)
    }

    pub(crate) fn live(&self) -> Live {
        Live::new(self.node.clone(), self.root)
    }

    /// Whether the tree has ended, and why.
    pub fn ended(&self) -> Option<String> {
        self.end.borrow().as_ref().map(ToString::to_string)
    }

    /// Waits until the tree has ended, by itself or by [`App::stop`]; says why.
    pub async fn end(&self) -> String {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(reason) => reason.as_ref().map(ToString::to_string),
            // The node was halted, and its processes dropped.
            Err(_) => None,
        }
        .unwrap_or_else(|| ExitReason::new(Reason::KILLED).to_string())
    }

    /// Stops the tree, children in reverse order, each with its shutdown time;
    /// then the schedulers.
    pub fn stop(&self, timeout: Duration) -> StopReport {
        let exit = Signal::Exit {
            from: Pid::NONE,
            reason: ExitReason::new(Reason::SHUTDOWN),
            linked: false,
            charge: None,
        };
        let told = self.node.0.system.signal(self.master, exit).is_ok();
        let orderly = !told || self.news.lock().recv_timeout(timeout).is_ok();
        // The last to end give back their places a moment after they have told.
        let alive = || self.node.0.system.table.alive();
        for _ in 0..LAST_ENDS {
            if !orderly || alive() == 0 {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let left = alive();
        self.node.halt();
        StopReport { orderly, left }
    }
}

/// Reads all module files of a manifest.
///
/// # Errors
///
/// The first that cannot be read.
pub(crate) fn read_modules(manifest: &Manifest) -> Result<Vec<ModuleBytes>, BootError> {
    manifest
        .modules
        .iter()
        .map(|(name, module)| {
            let bytes = files::read(&module.path, MAX_MODULE_BYTES as u64).map_err(|source| {
                BootError::Read {
                    module: name.clone(),
                    path: module.path.clone(),
                    source,
                }
            })?;
            Ok(ModuleBytes {
                name: name.clone(),
                bytes,
                source: module.path.display().to_string(),
                noticed: None,
            })
        })
        .collect()
}

/// What the master tells whoever booted the app.
#[derive(Debug)]
enum News {
    /// The root of the tree.
    Up(Pid),
    Ended(ExitReason),
}

/// Starts the root supervisor and outlives it.
struct Master {
    root: Option<Box<dyn Native<Guest>>>,
    root_pid: Option<Pid>,
    sender: Sender<News>,
    ended: watch::Sender<Option<ExitReason>>,
}

impl Native<Guest> for Master {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        match message.kind {
            Kind::Init => {
                context.own.set_trap_exit(true);
                let me = context.pid();
                context.system.set_priority(me, Priority::High);
                let limits = context.own.limits().clone();
                let reference = context.own.new_reference();
                let Ok(pid) = context.system.reserve(&limits) else {
                    let reason = ExitReason::new(Reason::INTERNAL);
                    return self.ended(context, reason);
                };
                context.own.has_born(pid, true, &[reference]);
                self.root_pid = Some(pid);
                let body = Body::Native(self.root.take());
                context.system.give_birth(
                    pid,
                    Birth {
                        parent: me,
                        link: true,
                        starter: Some(reference),
                        ..Birth::new(body, limits, Payload::empty())
                    },
                );
            }
            Kind::Reply => {
                // Whoever booted may have lost patience.
                let root = self.root_pid.unwrap_or(Pid::NONE);
                let _ = self.sender.send(News::Up(root));
            }
            Kind::Exit if Some(message.sender) == self.root_pid => {
                let reason = ExitReason::with(message.reason, message.payload.as_slice());
                self.ended(context, reason);
            }
            Kind::Exit => {
                if let Some(root) = self.root_pid {
                    let exit = Signal::Exit {
                        from: context.pid(),
                        reason: ExitReason::new(Reason::SHUTDOWN),
                        linked: false,
                        charge: None,
                    };
                    let _ = context.system.signal(root, exit);
                }
            }
            // It has no use for one, and lives as long as the app.
            Kind::Table => {
                let _ = (context.system.tables).end(context.pid(), message.reference);
            }
            _ => {}
        }
    }
}

impl Master {
    fn ended(&self, context: &mut Context<'_, Guest>, reason: ExitReason) {
        self.ended.send_replace(Some(reason.clone()));
        let _ = self.sender.send(News::Ended(reason));
        context.exit(ExitReason::new(Reason::NORMAL));
    }
}
