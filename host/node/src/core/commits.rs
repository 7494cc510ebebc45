//! How the background upgrader hears of commits: of deployments, and of rollbacks by the runtime.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Reports commits to the background upgrader, whose thread ends when all of these are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Commits(SyncSender<()>);

impl Commits {
    pub(super) fn channel() -> (Commits, Receiver<()>) {
        // One is enough: the background upgrader reads the current release when it wakes.
        let (sender, receiver) = sync_channel(1);
        (Commits(sender), receiver)
    }

    /// Reports that a release was committed.
    pub(crate) fn announce(&self) {
        // If the channel is full, a report is pending already.
        let _ = self.0.try_send(());
    }
}
