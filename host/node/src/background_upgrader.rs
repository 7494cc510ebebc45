//! The background upgrader. Some time after a commit it wakes the processes that are idle in old
//! versions, at a bounded rate, so that they are upgraded and the old versions can be unloaded. It
//! detects when the last process is upgraded, and drops versions and frames that are no longer
//! needed. After a rollback it wakes the loop processes at once: a deployment does that itself, a
//! rollback by the runtime does not.

use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use exuvia_engine::{Artifact, GuestProcess};

use crate::node::{Inner, Node};

/// The number of processes woken between two pauses.
const BATCH: u32 = 512;
/// The pause between two batches: at most 50,000 processes per second.
const PAUSE: Duration = Duration::from_millis(10);
/// How often versions are unloaded and frames trimmed without a commit.
const IDLE: Duration = Duration::from_secs(2);
/// How soon after a commit it checks whether all processes are upgraded; the interval then doubles
/// up to [`SELDOM`]. A check costs a few loads for each version.
const SOON: Duration = Duration::from_millis(1);
/// The longest interval between two checks.
const SELDOM: Duration = Duration::from_millis(100);
/// The number of earlier releases that stay available for a rollback, so that their versions stay
/// loaded.
const KEEP: usize = 2;

/// The sender to the background upgrader's thread, which ends when the node is dropped.
#[derive(Debug)]
pub(crate) struct BackgroundUpgrader(SyncSender<()>);

/// Makes the channel that tells the background upgrader of commits.
pub(crate) fn commits() -> (SyncSender<()>, Receiver<()>) {
    // One is enough: it reads the current release when it wakes.
    sync_channel(1)
}

impl BackgroundUpgrader {
    pub(crate) fn new(commits: SyncSender<()>) -> BackgroundUpgrader {
        BackgroundUpgrader(commits)
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
            .name("exuvia-upgrader".into())
            .spawn(body)
        {
            tracing::error!(
                "the background upgrader could not be started, so idle processes are upgraded when they wake: {error}"
            );
        }
    }

    /// Reports that a release was committed.
    pub(crate) fn committed(&self) {
        // If the channel is full, a report is pending already.
        let _ = self.0.try_send(());
    }
}

/// What is due when, by the node's clock.
#[derive(Default)]
struct Rounds {
    committed: bool,
    run_at: Option<u64>,
    unload_at: u64,
    look_after: Duration,
    /// Whether processes were being upgraded at the last check.
    crossing: bool,
}

impl Rounds {
    /// Does what is due. Returns how long nothing else is.
    fn next(&mut self, node: &Node) -> Duration {
        let now = || node.0.system.clock.now();
        let in_future = |time: Duration| {
            now().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        if std::mem::take(&mut self.committed) {
            node.wake_loops_after_rollback();
            self.run_at = Some(in_future(node.0.config.background_upgrade_after));
            self.look_after = SOON;
        }
        if self.run_at.is_some_and(|at| at <= now()) {
            self.run_at = None;
            node.wake_pending();
            self.look_after = SOON;
        }
        // A swap that holds the lock catches up by itself.
        if let Some(_one) = node.0.swapping.try_lock() {
            node.catch_up();
        }
        let crossing = node.is_upgrading();
        if self.crossing && !crossing {
            self.unload_at = 0;
        }
        self.crossing = crossing;
        if self.unload_at <= now() {
            node.0.report_left_out(now());
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
        match self.run_at {
            Some(at) => wait.min(Duration::from_nanos(at.saturating_sub(now()))),
            None => wait,
        }
    }
}

impl Node {
    /// If the current release is a rollback, wakes the loop processes that take `UPGRADE`.
    fn wake_loops_after_rollback(&self) {
        let inner = &self.0;
        let release = inner.code.current();
        if release.origin == release.id {
            return;
        }
        for index in inner.system.table.indices() {
            self.wake_if(index, |process| {
                let loops = process.guest().and_then(|guest| guest.loops());
                loops == Some(true) && inner.executor.is_upgrade_pending(process)
            });
        }
    }

    /// Wakes a process that is parked and for which `what` holds, and any process that cannot be
    /// inspected: it may be about to park and have checked for new code before the commit, or it is
    /// being inspected. Returns whether it was woken.
    fn wake_if(&self, index: u32, what: impl FnOnce(&mut GuestProcess) -> bool) -> bool {
        let inner = &self.0;
        let wanted = inner.executor.look(index, what).unwrap_or(true);
        let pid = wanted.then(|| inner.system.pid(index)).flatten();
        if let Some(pid) = pid {
            inner.system.wake(pid);
        }
        pid.is_some()
    }

    /// Wakes every process that is not yet upgraded.
    pub(crate) fn wake_pending(&self) {
        let inner = &self.0;
        let release = inner.code.current_id();
        let mut batch = 0;
        for index in inner.system.table.indices() {
            if inner.code.current_id() != release {
                return;
            }
            if self.wake_if(index, |process| inner.executor.is_upgrade_pending(process)) {
                batch += 1;
                if batch == BATCH {
                    batch = 0;
                    thread::park_timeout(PAUSE);
                }
            }
        }
    }

    /// Unloads versions that are no longer needed.
    pub(crate) fn unload(&self) {
        let inner = &self.0;
        for version in inner.code.unload(KEEP, Artifact::schema) {
            inner.executor.forget(&version.artifact);
            tracing::debug!(version = %version, "unloaded");
        }
    }
}
