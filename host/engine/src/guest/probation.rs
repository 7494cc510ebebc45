//! Probation: what is kept of a process after an upgrade to revert it if new code fails it. How it is
//! reverted is in `upgrade::rollback`.

use exuvia_code::VersionRef;
use exuvia_image::Image;
use exuvia_process::ExitReason;
use exuvia_process::resource::Detached;
use exuvia_process::transaction::Transaction;

use super::Guest;
use crate::module::info::Artifact;

/// Probation after an upgrade: what is needed to revert the process.
#[derive(Debug)]
pub(crate) struct Probation {
    /// Number of messages that are still to be handled as transactions.
    pub(crate) left: u32,
    /// The release that the process was upgraded for.
    pub(crate) release: u64,
    /// The version before the upgrade.
    pub(crate) before: VersionRef<Artifact>,
    /// The state to revert to if the next message fails.
    pub(crate) state: Option<RollbackTarget>,
    pub(crate) transaction: Option<Transaction<Guest>>,
    /// Why new code failed the process. If set, the process is to be reverted.
    pub(crate) failed: Option<ExitReason>,
}

/// The state that a process in probation is reverted to.
#[derive(Debug)]
pub(crate) enum RollbackTarget {
    /// What the process was in the old version, before the upgrade: exact.
    Old(Former),
    /// State of the new version, from before the message: it must be converted back.
    New(Image),
}

/// What a process was before an upgrade, to which it goes back exactly as long as it has handled nothing since.
#[derive(Debug)]
pub(crate) struct Former {
    /// Its state. `None`: it had not started, because it had been reset and had not run.
    pub(crate) image: Option<Image>,
    /// The resources that belong to the state, which the upgrade has detached.
    pub(crate) detached: Detached,
    /// Whether `INIT` was in its mailbox. If the upgrade was a reset, it is there now, and is not for the old version.
    pub(crate) init_waits: bool,
}
