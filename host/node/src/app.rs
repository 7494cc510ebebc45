//! An app: a node, the modules of its manifest as the first release, and the supervision tree. The
//! root of the tree is the child of a native process, as that of an OTP application is the child of
//! its application master.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use exuvia_abi::{Kind, Pid, Priority, Reason};
use exuvia_engine::Guest;
use exuvia_io::InheritedSockets;
use exuvia_manifest::Manifest;
use exuvia_process::{Body, Context, Envelope, ExitReason, Native, Payload, Signal, SpawnSpec};
use exuvia_store::Store;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::config::NodeConfig;
use crate::error::BootError;
use crate::event::{Event, Events};
use crate::first_release;
use crate::node::Node;
use crate::release_log::{ReleaseLog, StoreOptions};
use crate::supervision;

/// How long the supervision tree may take to start.
const START: Duration = Duration::from_secs(60);

/// After what time an event says which child the start waits for.
const SLOW_START: Duration = Duration::from_secs(5);

/// How long an orderly stop waits for the last processes to leave the process table, in
/// milliseconds.
const LAST_ENDS: u32 = 100;

/// How an app is booted.
#[derive(Clone, Debug, Default)]
pub struct BootOptions {
    /// Settings that replace the manifest's, for tests.
    pub config: Option<NodeConfig>,
    /// Where events go. A subscriber from before the boot also receives the events of the start of
    /// the tree, even if the boot fails. By default there is no subscriber until the boot is over.
    pub events: Events,
    /// Sockets that were passed to this program: `[[listen]]` takes them.
    pub inherited: InheritedSockets,
    /// Where releases are kept; `None`: the node starts with the module files, and its releases end with it.
    pub store: Option<StoreOptions>,
}

/// How an app stopped.
#[derive(Clone, Debug, Serialize)]
pub struct StopReport {
    /// Whether the tree stopped in order within the time.
    pub orderly: bool,
    /// The number of processes that were still alive, and were dropped.
    pub left: usize,
}

/// A running app.
#[derive(Debug)]
pub struct App {
    node: Node,
    manifest: Manifest,
    master: Pid,
    news: Mutex<Receiver<News>>,
    /// Why the tree has ended, once it has.
    end: watch::Receiver<Option<ExitReason>>,
}

impl App {
    /// Starts the node, loads the modules, and starts the tree.
    ///
    /// # Errors
    ///
    /// If something could not be read, loaded or started.
    pub fn boot(manifest: Manifest, options: BootOptions) -> Result<App, BootError> {
        let config = options.config.unwrap_or_else(|| NodeConfig::of(&manifest));
        let start = options.store.as_ref().map(|options| options.start);
        let store = options.store.as_ref();
        let app = &manifest.name;
        let store = store.map(|options| Store::open(&options.path, app, options.retention));
        let store = store.transpose()?;
        let first = first_release::read(&manifest, store.as_ref(), start.unwrap_or_default())?;
        let log = ReleaseLog::new(store, options.events.clone());
        let node = Node::start_after(first.record.number - 1, log, config, options.events)?;
        if let Some(resumed) = &first.resumed {
            node.core().events.send(Event::Resumed(resumed.clone()));
        }
        node.set_app_config(manifest.config.clone());
        node.core().limits.set_modules(&manifest);
        if let Err(error) = node.deploy_first(first.modules.clone()) {
            return Err(first.with_way_out(error));
        }
        let release = node.core().code.current();
        let begins_with = |module: &str| {
            let version = release.version(module)?;
            Some(version.artifact.memory_bytes())
        };
        if let Err(error) = manifest.check_memories(begins_with) {
            node.halt();
            return Err(error.into());
        }
        // From now on a swap is rejected if its modules need more memory than these children may
        // have.
        let core = node.core();
        core.limits.set_children(&manifest);
        let (sender, receiver) = channel();
        let root = supervision::from_entry(
            node.supervision(),
            &manifest.supervisor,
            core.limits.of_node(),
            &Arc::default(),
        )
        .map_err(BootError::Tree)?;
        let (ended, end) = watch::channel(None);
        let master = Master {
            root: Some(root),
            root_pid: None,
            sender,
            ended,
        };
        if manifest.connects() {
            // Children may need it when they start.
            node.serve_outbound()?;
        }
        let master = node.spawn_native(Box::new(master)).ok_or_else(|| {
            BootError::Tree("the node has as many processes as its limit allows".into())
        })?;
        let root = match wait_for_root(&node, &receiver, SLOW_START) {
            Ok(root) => root,
            Err(error) => {
                node.halt();
                return Err(error);
            }
        };
        node.supervision().is_up(root);
        // An app that does not start leaves no release; what is answered from now on, a release of the store answers.
        let log = &node.core().log;
        let modules = manifest.modules.iter();
        let paths = modules.map(|(name, module)| (name.clone(), module.path.clone()));
        if let Err(error) = log.begin(&first.start(), paths.collect()) {
            node.halt();
            return Err(error.into());
        }
        drop(first);
        if let Err(error) = node.listen_with(&manifest.listen, options.inherited) {
            node.halt();
            return Err(error.into());
        }
        Ok(App {
            node,
            manifest,
            master,
            news: Mutex::new(receiver),
            end,
        })
    }

    /// Returns the node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Returns the manifest that the app was booted from.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns why the tree has ended; `None` while it runs.
    pub fn ended(&self) -> Option<String> {
        self.end.borrow().as_ref().map(ToString::to_string)
    }

    /// Waits until the tree has ended, by itself or by [`App::stop`], and returns why.
    pub async fn end(&self) -> String {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(reason) => reason.as_ref().map(ToString::to_string),
            // The node was halted, and its processes dropped.
            Err(_) => None,
        }
        .unwrap_or_else(|| ExitReason::new(Reason::KILLED).to_string())
    }

    /// Stops listening when requests under way have ended, within half of the time; then stops the tree, children in
    /// reverse order and each within its shutdown time, then the schedulers. Meanwhile guests can start no processes.
    pub fn stop(&self, timeout: Duration) -> StopReport {
        let exit = Signal::Exit {
            from: Pid::NONE,
            reason: ExitReason::new(Reason::SHUTDOWN),
            linked: false,
        };
        // First: requests under way still find all processes.
        let timeout = timeout.saturating_sub(self.node.stop_listening(timeout / 2));
        self.node.core().system.table.close_to_guests();
        let signalled = self.node.core().system.signal(self.master, exit).is_ok();
        let orderly = !signalled || self.news.lock().recv_timeout(timeout).is_ok();
        // Until now processes could ask for something.
        self.node.end_outbound();
        // The last processes leave the table a moment after they have reported their end.
        let alive = || self.node.core().system.table.alive();
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

/// Waits until the tree is up, and returns its root. If that takes longer than `slow`, an event says
/// which child the start waits for.
fn wait_for_root(node: &Node, news: &Receiver<News>, slow: Duration) -> Result<Pid, BootError> {
    let waits_for = || node.supervision().boot.waits_for();
    let mut waited = Duration::ZERO;
    let mut is_reported = false;
    while waited < START {
        match news.recv_timeout(slow) {
            Ok(News::Up(root)) => return Ok(root),
            Ok(News::Ended(reason)) => return Err(BootError::Tree(reason.to_string())),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => waited += slow,
        }
        if !is_reported && let Some((pid, child)) = waits_for() {
            is_reported = true;
            node.core().events.send(Event::StartPending {
                child: child.to_string(),
                pid: pid.to_string(),
            });
        }
    }
    let child = waits_for().map_or("a child".to_owned(), |(_, id)| format!("child `{id}`"));
    Err(BootError::Tree(format!(
        "it did not start within {} s; {child} does not acknowledge its start",
        START.as_secs()
    )))
}

/// What the master reports to the thread that boots or stops the app.
#[derive(Debug)]
enum News {
    /// The tree is up; its root.
    Up(Pid),
    Ended(ExitReason),
}

/// Starts the root supervisor, and outlives it.
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
                context.process.set_trap_exit(true);
                let me = context.pid();
                context.system.set_priority(me, Priority::High);
                let limits = context.process.limits().clone();
                let reference = context.process.new_reference();
                let Ok(pid) = context.system.reserve(&limits) else {
                    let reason = ExitReason::new(Reason::INTERNAL);
                    return self.ended(context, reason);
                };
                context.process.add_child(pid, true, &[reference]);
                self.root_pid = Some(pid);
                let body = Body::Native(self.root.take());
                context.system.start(
                    pid,
                    SpawnSpec {
                        parent: me,
                        link: true,
                        starter: Some(reference),
                        ..SpawnSpec::new(body, limits, Payload::empty())
                    },
                );
            }
            Kind::Reply => {
                // The booting thread may have timed out.
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
                    };
                    let _ = context.system.signal(root, exit);
                }
            }
            // It has no use for a table, and lives as long as the app.
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use exuvia_abi::Pid;

    use super::{News, wait_for_root};
    use crate::{Event, Node, NodeConfig};

    #[test]
    fn a_start_that_takes_long_names_the_innermost_child_that_it_waits_for() {
        let config = NodeConfig {
            schedulers: 1,
            frames: 4,
            cache: None,
            ..NodeConfig::default()
        };
        let node = Node::start(config).unwrap();
        let mut events = node.events();
        let pids = [5, 6, 7].map(|slot| Pid::new(1, slot, 1));
        for (pid, id) in pids.into_iter().zip(["quick", "workers", "slow"]) {
            node.supervision().boot.begins(pid, &id.into());
        }
        node.supervision().boot.ends(pids[0]);
        let (sender, news) = channel();
        let waiting = node.clone();
        let waits =
            std::thread::spawn(move || wait_for_root(&waiting, &news, Duration::from_millis(1)));
        let Ok(Event::StartPending { child, pid }) = events.blocking_recv() else {
            panic!("no event");
        };
        assert_eq!((child.as_str(), pid), ("slow", pids[2].to_string()));
        sender.send(News::Up(pids[1])).unwrap();
        assert_eq!(waits.join().unwrap().unwrap(), pids[1]);
        node.supervision().boot.finish();
        assert_eq!(node.supervision().boot.waits_for(), None);
        assert!(events.try_recv().is_err(), "it is said once");
        node.halt();
    }
}
