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
    /// State of the old version, from before the upgrade: exact. With it come back the resources that the upgrade
    /// has detached.
    Old(Image, Detached),
    /// State of the new version, from before the message: it must be converted back.
    New(Image),
}
