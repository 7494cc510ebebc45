//! The background upgrader. Some time after a commit it wakes the processes that are idle in old
//! versions, at a bounded rate, so that they are upgraded and the old versions can be unloaded. It
//! detects when the last process is upgraded, and drops versions and frames that are no longer
//! needed. After a rollback it wakes the loop processes at once: a deployment does that itself, a
//! rollback by the runtime does not.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::swap::Swapper;

/// How often versions are unloaded and frames trimmed without a commit.
const IDLE: Duration = Duration::from_secs(2);
/// How soon after a commit it checks whether all processes are upgraded; the interval then doubles
/// up to [`SELDOM`]. A check costs a few loads for each version.
const SOON: Duration = Duration::from_millis(1);
/// The longest interval between two checks.
const SELDOM: Duration = Duration::from_millis(100);

/// Starts the thread of the background upgrader, which ends with the node.
pub(crate) fn start(swapper: &Arc<Swapper>, commits: Receiver<()>) {
    let swapper = Arc::downgrade(swapper);
    let body = move || run(&swapper, &commits);
    if let Err(error) = thread::Builder::new()
        .name("exuvia-upgrader".into())
        .spawn(body)
    {
        tracing::error!(
            "the background upgrader could not be started, so idle processes are upgraded when they wake: {error}"
        );
    }
}

fn run(swapper: &Weak<Swapper>, commits: &Receiver<()>) {
    let mut rounds = Rounds::default();
    while let Some(swapper) = swapper.upgrade() {
        let wait = rounds.next(&swapper);
        // It must not keep the node's parts alive while it waits.
        drop(swapper);
        match commits.recv_timeout(wait) {
            Ok(()) => rounds.committed = true,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What is due when, by the node's clock.
#[derive(Default)]
struct Rounds {
    committed: bool,
    run_at: Option<u64>,
    unload_at: u64,
    check_after: Duration,
    /// Whether processes were being upgraded at the last check.
    upgrading: bool,
}

impl Rounds {
    /// Does what is due. Returns how long nothing else is.
    fn next(&mut self, swapper: &Swapper) -> Duration {
        let core = &swapper.core;
        let now = || core.now();
        let in_future = |time: Duration| {
            now().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        if std::mem::take(&mut self.committed) {
            core.wake_loops_after_rollback();
            self.run_at = Some(in_future(core.config.background_upgrade_after));
            self.check_after = SOON;
        }
        if self.run_at.is_some_and(|at| at <= now()) {
            self.run_at = None;
            core.wake_pending();
            self.check_after = SOON;
        }
        swapper.catch_up();
        let upgrading = swapper.is_upgrading();
        if self.upgrading && !upgrading {
            self.unload_at = 0;
        }
        self.upgrading = upgrading;
        if self.unload_at <= now() {
            core.report_left_out(now());
            core.unload();
            core.system.tables.sweep();
            if let Some(short) = core.executor.trim_frames() {
                tracing::warn!("{short}");
            }
            self.unload_at = in_future(IDLE);
        }
        let wait = match upgrading {
            true => self.check_after,
            false => IDLE,
        };
        self.check_after = (self.check_after * 2).clamp(SOON, SELDOM);
        match self.run_at {
            Some(at) => wait.min(Duration::from_nanos(at.saturating_sub(now()))),
            None => wait,
        }
    }
}
