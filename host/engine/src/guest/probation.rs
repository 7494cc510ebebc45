//! Probation: what is kept of a process after an upgrade to revert it if new code fails it. How it is
//! reverted is in `upgrade::rollback`.

use exuvia_code::VersionRef;
use exuvia_image::Image;
use exuvia_process::ExitReason;
use exuvia_process::transaction::Transaction;

use super::Guest;
use crate::module::info::Artifact;
use crate::resources::wasi::Wasi;

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
    /// Set by an upgrade that created a new memory: the WASI state from before, since the numbers
    /// of its files are known to the old memory only. It belongs to [`RollbackTarget::Old`].
    pub(crate) files: Option<OldFiles>,
    pub(crate) transaction: Option<Transaction<Guest>>,
    /// Why new code failed the process. If set, the process is to be reverted.
    pub(crate) failed: Option<ExitReason>,
}

/// The WASI state that belongs to a memory which may be restored; `None` if there was none.
#[derive(Debug)]
pub(crate) struct OldFiles(pub(crate) Option<Box<Wasi>>);

impl OldFiles {
    /// Restores these files with the old memory, and closes those that were opened since.
    pub(crate) fn restore(self, guest: &mut Guest) {
        guest.take_wasi();
        if let Some(wasi) = self.0 {
            guest.put_wasi(wasi);
        }
    }
}

/// The state that a process in probation is reverted to.
#[derive(Debug)]
pub(crate) enum RollbackTarget {
    /// State of the old version, from before the upgrade: exact.
    Old(Image),
    /// State of the new version, from before the message: it must be converted back.
    New(Image),
}
