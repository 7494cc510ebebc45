//! The sweeper: some time after a commit it wakes the processes that sleep in
//! old versions, at a bounded rate, so that they cross and old versions end;
//! then it unloads what nobody needs any more.

use std::sync::Weak;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::node::{Inner, Node};

/// Processes looked at between two pauses.
const BATCH: u32 = 512;
/// The pause: 50,000 processes a second at most.
const PAUSE: Duration = Duration::from_millis(10);
/// How often versions are unloaded without a commit.
const IDLE: Duration = Duration::from_secs(2);
/// Releases that can be gone back to and whose versions stay loaded for that.
const KEEP: usize = 2;

/// The sweeper's thread. It ends when the node is dropped.
#[derive(Debug)]
pub(crate) struct Sweeper(SyncSender<()>);

impl Sweeper {
    pub(crate) fn start(node: Weak<Inner>) -> Sweeper {
        let (sender, receiver) = sync_channel(1);
        let body = move || {
            let mut due: Option<u64> = None;
            loop {
                let Some(wait) = node.upgrade().map(|inner| match due {
                    Some(_) => inner.config.sweep_after,
                    None => IDLE,
                }) else {
                    return;
                };
                match receiver.recv_timeout(wait) {
                    Ok(()) => due = Some(0),
                    Err(RecvTimeoutError::Timeout) => {
                        let Some(inner) = node.upgrade() else { return };
                        let node = Node(inner);
                        if due.take().is_some() {
                            node.sweep();
                        }
                        node.unload();
                        node.0.executor.trim_frames();
                    }
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
        Sweeper(sender)
    }

    /// A release was committed.
    pub(crate) fn committed(&self) {
        // A full channel: it knows already.
        let _ = self.0.try_send(());
    }
}

impl Node {
    /// Wakes every process at rest that has not crossed yet.
    pub(crate) fn sweep(&self) {
        let inner = &self.0;
        let release = inner.code.current_id();
        let mut batch = 0;
        for index in inner.system.table.indices() {
            if inner.code.current_id() != release {
                return;
            }
            let Some(slot) = inner.system.table.slot(index) else {
                continue;
            };
            if !slot.state.claim() {
                continue;
            }
            let behind = slot.take_own().and_then(|mut own| {
                let pid = own.pid();
                let behind = inner.executor.is_behind(&mut own);
                slot.put_own(own);
                behind.then_some(pid)
            });
            let then = slot.state.end();
            inner.system.then(index, then);
            if let Some(pid) = behind {
                inner.system.wake(pid);
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
        let _one = inner.swapping.lock();
        for version in inner.code.unload(KEEP) {
            inner.executor.forget(&version.artifact);
            tracing::debug!(version = %version, "unloaded");
        }
    }
}
