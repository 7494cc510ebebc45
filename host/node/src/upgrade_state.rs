//! The state of one process in the upgrade to the current release: the column UPGRADE of `ps`.

use exuvia_code::Release;
use exuvia_engine::{Artifact, Guest};

/// The state of a process in the upgrade to the current release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeState {
    /// It runs the current version of its module.
    Current,
    /// It has not been upgraded yet.
    Pending,
    /// Its upgrade failed; it stays on its version.
    Failed,
    /// It stays on its version until it exits: on request (`--leave`), or because it loops and
    /// never returns.
    Exempt,
    /// New code failed in probation; the old code runs again.
    Reverted,
}

impl UpgradeState {
    /// Returns the state of a guest, and the reason if its upgrade failed or was reverted.
    pub(crate) fn of<'a>(
        guest: &'a Guest,
        release: &Release<Artifact>,
    ) -> (UpgradeState, Option<&'a str>) {
        let current = release.version(&guest.version.module);
        let Some(current) = current.filter(|version| !guest.version.is(version)) else {
            return (UpgradeState::Current, None);
        };
        if let Some(reason) = guest.reverted(current) {
            (UpgradeState::Reverted, Some(reason))
        } else if let Some(reason) = guest.upgrade_failure() {
            (UpgradeState::Failed, Some(reason))
        } else if lingers(guest, release) {
            (UpgradeState::Exempt, None)
        } else {
            (UpgradeState::Pending, None)
        }
    }
}

/// Returns whether a guest stays on its version although `release` has another one.
pub(crate) fn lingers(guest: &Guest, release: &Release<Artifact>) -> bool {
    let version = release.version(&guest.version.module);
    version.is_some_and(|current| {
        !guest.version.is(current)
            && (guest.is_pinned_to_version(current) || guest.loops() == Some(false))
    })
}
