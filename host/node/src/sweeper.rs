//! The sweeper: some time after a commit it wakes the processes that sleep in
//! old versions, at a bounded rate, so that they cross and old versions end;
//! it sees when the last has crossed, and drops versions and frames that nobody
//! needs any more. After a way back it wakes the loop processes at once: nobody
//! has looked for them before, as whoever deploys does.

use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use exuvia_engine::{Artifact, GuestOwn};

use crate::event::Event;
use crate::node::{Inner, Node};

/// Processes looked at between two pauses.
const BATCH: u32 = 512;
/// The pause: 50,000 processes a second at most.
const PAUSE: Duration = Duration::from_millis(10);
/// How often versions are unloaded and frames dropped without a commit.
const IDLE: Duration = Duration::from_secs(2);
/// How soon after a commit it looks whether all have crossed; then after twice
/// the time each, up to [`SELDOM`]. A look costs a few loads for each version.
const SOON: Duration = Duration::from_millis(1);
/// How often it looks in the end.
const SELDOM: Duration = Duration::from_millis(100);
/// Releases that can be gone back to and whose versions stay loaded for that.
const KEEP: usize = 2;

/// The way to the sweeper's thread, which ends when the node is dropped.
#[derive(Debug)]
pub(crate) struct Sweeper(SyncSender<()>);

/// A channel that tells the sweeper of commits.
pub(crate) fn commits() -> (SyncSender<()>, Receiver<()>) {
    // One is enough: it looks at what is current then.
    sync_channel(1)
}

impl Sweeper {
    pub(crate) fn new(commits: SyncSender<()>) -> Sweeper {
        Sweeper(commits)
    }

    /// Starts the thread.
    pub(crate) fn start(node: Weak<Inner>, commits: Receiver<()>) {
        let mut rounds = Rounds::default();
        let body = move || {
            while let Some(inner) = node.upgrade() {
                let wait = rounds.next(&Node(inner));
                match commits.recv_timeout(wait) {
                    Ok(()) => rounds.committed = true,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        if let Err(error) = thread::Builder::new()
            .name("exuvia-sweeper".into())
            .spawn(body)
        {
            tracing::error!("the sweeper has no thread, sleepers cross when they wake: {error}");
        }
    }

    /// A release was committed.
    pub(crate) fn committed(&self) {
        // A full channel: it knows already.
        let _ = self.0.try_send(());
    }
}

/// What is to be done when, by the node's clock.
#[derive(Default)]
struct Rounds {
    committed: bool,
    sweep_at: Option<u64>,
    unload_at: u64,
    look_after: Duration,
    /// Whether processes were crossing when it looked last.
    crossing: bool,
}

impl Rounds {
    /// Does what is due. Answers how long nothing else will be.
    fn next(&mut self, node: &Node) -> Duration {
        let now = || node.0.system.clock.now();
        let in_future = |time: Duration| {
            now().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        if std::mem::take(&mut self.committed) {
            node.wake_loops_back();
            self.sweep_at = Some(in_future(node.0.config.sweep_after));
            self.look_after = SOON;
        }
        if self.sweep_at.is_some_and(|at| at <= now()) {
            self.sweep_at = None;
            node.sweep();
            self.look_after = SOON;
        }
        // Whoever swaps catches up himself.
        if let Some(_one) = node.0.swapping.try_lock() {
            node.catch_up();
        }
        let crossing = node.is_crossing();
        if self.crossing && !crossing {
            self.unload_at = 0;
        }
        self.crossing = crossing;
        if self.unload_at <= now() {
            for (module, lines) in node.0.logger.left_out(now()) {
                let module = module.to_string();
                node.0.events.send(Event::LogCut { module, lines });
            }
            for (module, what, events) in node.0.logger.reports_left_out(now()) {
                node.0.events.send(Event::EventCut {
                    module: module.to_string(),
                    what: what.name(),
                    events,
                });
            }
            node.unload();
            node.0.system.tables.sweep();
            if let Some(short) = node.0.executor.trim_frames() {
                tracing::warn!("{short}");
            }
            self.unload_at = in_future(IDLE);
        }
        let wait = match crossing {
            true => self.look_after,
            false => IDLE,
        };
        self.look_after = (self.look_after * 2).clamp(SOON, SELDOM);
        match self.sweep_at {
            Some(at) => wait.min(Duration::from_nanos(at.saturating_sub(now()))),
            None => wait,
        }
    }
}

impl Node {
    /// If the current release is a way back, wakes the loop processes that
    /// take `UPGRADE`.
    fn wake_loops_back(&self) {
        let inner = &self.0;
        let release = inner.code.current();
        if release.origin == release.id {
            return;
        }
        for index in inner.system.table.indices() {
            self.wake_if(index, |own| {
                let loops = own.guest().and_then(|guest| guest.loops());
                loops == Some(true) && inner.executor.is_behind(own)
            });
        }
    }

    /// Wakes a process at rest for which `what` holds, and one that is not at
    /// rest: it may be about to rest and have looked for new code before it came,
    /// or somebody inspects it. Whether it was woken.
    fn wake_if(&self, index: u32, what: impl FnOnce(&mut GuestOwn) -> bool) -> bool {
        let inner = &self.0;
        let wanted = inner.executor.look(index, what).unwrap_or(true);
        let pid = wanted.then(|| inner.system.pid(index)).flatten();
        if let Some(pid) = pid {
            inner.system.wake(pid);
        }
        pid.is_some()
    }

    /// Wakes every process that has not crossed yet.
    pub(crate) fn sweep(&self) {
        let inner = &self.0;
        let release = inner.code.current_id();
        let mut batch = 0;
        for index in inner.system.table.indices() {
            if inner.code.current_id() != release {
                return;
            }
            if self.wake_if(index, |own| inner.executor.is_behind(own)) {
                batch += 1;
                if batch == BATCH {
                    batch = 0;
                    thread::park_timeout(PAUSE);
                }
            }
        }
    }

    /// Unloads versions that nobody needs.
    pub(crate) fn unload(&self) {
        let inner = &self.0;
        for version in inner.code.unload(KEEP, Artifact::schema) {
            inner.executor.forget(&version.artifact);
            tracing::debug!(version = %version, "unloaded");
        }
    }
}
