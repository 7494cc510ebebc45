//! The engine's part of a process: which version it runs, where its state is, and what it
//! waits for.

mod location;
mod probation;
mod wait;
mod wake;

use std::sync::Arc;

use exuvia_code::{Version, VersionRef};
use exuvia_process::resource::{Detached, Holding, Memory, Resources};
use exuvia_process::{Pid, Process, Selector, System};

use crate::module::info::Artifact;

pub(crate) use location::{FrameId, Location, RunPhase, Stamp};
pub(crate) use probation::{Former, Probation, RollbackTarget};
pub(crate) use wait::{InHost, Wait, WaitCell, WaitReason};
pub(crate) use wake::Wake;

/// The private half of a process, as the engine sees it.
pub type GuestProcess = Process<Guest>;
/// All processes of a node whose guests the engine runs.
pub type GuestSystem = System<Guest>;

/// The engine's part of a guest. Millions of guests may sleep; a test below limits the size
/// of a process record.
#[derive(Debug)]
pub struct Guest {
    /// The version that it runs.
    pub version: VersionRef<Artifact>,
    /// The release up to which it has been upgraded, or need not be.
    pub(crate) release: u64,
    pub(crate) location: Location,
    /// What it waits for while it is suspended.
    pub(crate) wait: WaitCell,
    /// Set while the process is on probation after an upgrade.
    pub(crate) probation: Option<Box<Probation>>,
    /// Fields that few guests use.
    cold: Option<Box<ColdFields>>,
    /// Whether its first entry has happened.
    pub(crate) has_run: bool,
    /// Referenced since the pager's last check.
    pub(crate) referenced: bool,
    /// It waits for a frame (see `frames::waiters`).
    pub(crate) waits_for_frame: bool,
    /// Whether its upgrade counts as one of the background upgrader's.
    pub(crate) upgraded_in_background: bool,
    /// Upgrades so far.
    pub(crate) upgrades: u32,
}

impl Guest {
    /// Makes the engine's part of a process that has not run yet.
    pub fn new(version_ref: VersionRef<Artifact>, release: u64) -> Guest {
        Guest {
            version: version_ref,
            release,
            location: Location::NotStarted,
            wait: WaitCell::default(),
            probation: None,
            cold: None,
            has_run: false,
            referenced: false,
            waits_for_frame: false,
            upgraded_in_background: false,
            upgrades: 0,
        }
    }

    /// Returns what the process is doing, in one word, for `ps`.
    pub fn describe(&self) -> &'static str {
        match (&self.location, self.wait.get()) {
            (_, Some(wait)) => wait.describe(),
            (Location::NotStarted, _) => "new",
            _ if self.is_waiting() => "waiting",
            (Location::Image { .. }, _) => "paged out",
            (Location::Frame { .. }, _) => "resident",
            (Location::Running, _) => "running",
        }
    }

    /// Returns the bytes of its image, or 0 if it is not paged out.
    pub fn image_bytes(&self) -> usize {
        match &self.location {
            Location::Image { image, .. } => image.size(),
            _ => 0,
        }
    }

    /// Returns the bytes of its linear memory.
    pub fn memory_bytes(&self) -> u64 {
        let pages = match &self.location {
            Location::NotStarted | Location::Running => self.version.artifact.base_pages(),
            Location::Image { image, .. } => image.memory_pages(),
            Location::Frame { pages, .. } => *pages,
        };
        u64::from(pages) * crate::WASM_PAGE
    }

    /// Returns why its upgrade failed, if it stays on an old version for that.
    pub fn upgrade_failure(&self) -> Option<&str> {
        self.cold.as_ref()?.upgrade_failure.as_deref()
    }

    /// Records why it could not be upgraded to the current release, or with `None` that it
    /// was.
    pub(crate) fn set_upgrade_failure(&mut self, why: Option<&str>) {
        if why.is_some() || self.cold.is_some() {
            self.cold.get_or_insert_default().upgrade_failure = why.map(Into::into);
        }
    }

    /// Records how new code of a release failed it, so that it was reverted.
    pub(crate) fn set_reverted(&mut self, release: u64, how: &str) {
        self.cold.get_or_insert_default().reverted = Some((release, how.into()));
    }

    /// Returns how the current code failed it, if it was reverted for that and still runs
    /// its old version.
    pub fn reverted(&self, current: &Version<Artifact>) -> Option<&str> {
        let (release, how) = self.cold.as_ref()?.reverted.as_ref()?;
        (current.since() <= *release).then_some(how)
    }

    /// Clears what was recorded about other versions: it runs the current one.
    pub(crate) fn clear_upgrade_notes(&mut self) {
        if let Some(cold) = &mut self.cold {
            (cold.upgrade_failure, cold.reverted, cold.pinned_at_release) = (None, None, 0);
        }
    }

    /// Returns what it holds of the system.
    pub fn resources(&mut self) -> &mut Resources {
        &mut self.cold.get_or_insert_default().resources
    }

    /// Returns the same, if there is anything that is to be told of a change.
    pub(crate) fn resources_if_any(&mut self) -> Option<&mut Resources> {
        let cold = self.cold.as_mut()?;
        Some(&mut cold.resources).filter(|resources| !resources.is_empty())
    }

    /// Tells its resources that it was upgraded and has this memory now. Returns those that left.
    pub(crate) fn upgrade_resources(
        &mut self,
        memory: Memory,
        log: &mut dyn FnMut(i32, &str),
    ) -> Detached {
        match self.resources_if_any() {
            Some(resources) => resources.upgrade(memory, log),
            None => Detached::nothing(memory),
        }
    }

    /// Tells its resources that it has the state from before an upgrade again, and takes back what that upgrade had
    /// detached. Returns those that left.
    pub(crate) fn restore_resources(
        &mut self,
        detached: Detached,
        log: &mut dyn FnMut(i32, &str),
    ) -> Detached {
        match self.resources_if_any() {
            None if detached.is_empty() => detached,
            _ => self.resources().restore(detached, log),
        }
    }

    /// Returns what it holds of the system, by kind.
    pub fn holdings(&self) -> impl Iterator<Item = Holding> {
        let cold = self.cold.as_ref().into_iter();
        cold.flat_map(|cold| cold.resources.holdings())
    }

    /// Returns whether the function of the host that it waits in may have ended.
    fn may_be_awake(&self) -> bool {
        let wake = self.cold.as_ref().and_then(|cold| cold.wake.as_ref());
        wake.is_none_or(|wake| wake.is_ready())
    }

    /// Returns what wakes it from a function of the host; `make` makes it when the process is
    /// first run.
    pub(crate) fn wake(&mut self, make: impl FnOnce() -> Arc<Wake>) -> Arc<Wake> {
        let cold = self.cold.get_or_insert_default();
        cold.wake.get_or_insert_with(make).clone()
    }

    /// Returns the number of its upgrades so far.
    pub fn upgrades(&self) -> u32 {
        self.upgrades
    }

    /// Returns `Some` if it blocks in a `receive` for any message, which only its own code
    /// ends: the loop style. `Some(true)`: the `receive` takes `UPGRADE`.
    pub fn loops(&self) -> Option<bool> {
        match self.wait.get() {
            Some(Wait {
                reason: WaitReason::Message(Selector::Any),
                upgrade,
                ..
            }) => Some(*upgrade),
            _ => None,
        }
    }

    /// Returns whether it has not run yet, so that it has no state.
    pub fn is_not_started(&self) -> bool {
        matches!(self.location, Location::NotStarted) && !self.has_run
    }

    /// Pins it to its version, with consent given at this release.
    pub fn pin_to_version(&mut self, release: u64) {
        self.cold.get_or_insert_default().pinned_at_release = release;
    }

    /// Returns whether it is exempt from the upgrade to `current`: it was pinned when
    /// `current` became current or later, or it was pinned before and is still in the loop
    /// that it was pinned for, which needs no new consent. Consent expires when its own
    /// version becomes current again.
    pub fn is_pinned_to_version(&self, current: &Version<Artifact>) -> bool {
        let left = self.cold.as_ref().map_or(0, |cold| cold.pinned_at_release);
        left > self.version.since() && (current.since() <= left || self.loops() == Some(false))
    }

    /// Returns what it is in the middle of, if that keeps it from being upgraded now.
    pub fn busy(&self) -> Option<Busy> {
        if !self.is_suspended() {
            return self.is_waiting().then_some(Busy::Waits("waiting"));
        }
        match (self.loops(), self.wait.get()) {
            // New code wakes it, and then it is upgraded.
            (Some(true), _) => None,
            (Some(false), _) => Some(Busy::Loops),
            (None, Some(wait)) if wait.reason != WaitReason::Preempted => {
                Some(Busy::Waits(wait.describe()))
            }
            (None, _) => Some(Busy::Computes),
        }
    }

    /// Returns the frame slot that it can be paged out of, or `None` if it is not at rest
    /// in a frame or its module is resident-only.
    pub(crate) fn evictable_slot(&self) -> Option<u32> {
        match &self.location {
            Location::Frame {
                frame,
                reusable: true,
                phase: RunPhase::Rest | RunPhase::Waiting,
                ..
            } => Some(frame.slot),
            _ => None,
        }
    }

    /// Returns whether it is suspended and resumes without a signal.
    pub(crate) fn is_preempted(&self) -> bool {
        self.wait
            .get()
            .is_some_and(|wait| wait.reason == WaitReason::Preempted)
    }

    /// Returns the congested process whose capacity it waits for, if it does.
    pub(crate) fn waits_for_capacity_of(&self) -> Option<Pid> {
        match self.wait.get()?.reason {
            WaitReason::Capacity { to } => Some(to),
            _ => None,
        }
    }

    /// Returns whether `run` returned WAITING at the last entry.
    pub fn is_waiting(&self) -> bool {
        self.phase() == RunPhase::Waiting
    }

    /// Returns where in its code it is. One that has not started, or runs, counts as at rest.
    #[inline]
    pub(crate) fn phase(&self) -> RunPhase {
        match self.location {
            Location::Frame { phase, .. } => phase,
            Location::Image { waiting: true, .. } => RunPhase::Waiting,
            _ => RunPhase::Rest,
        }
    }

    /// Returns whether it waits in a function of the host.
    pub(crate) fn is_in_host(&self) -> bool {
        (self.wait.get()).is_some_and(|wait| matches!(wait.reason, WaitReason::Host { .. }))
    }

    /// Returns whether it is not in the middle of a handler, so that an operator who pauses
    /// it pauses it at once.
    pub fn stands_still(&self) -> bool {
        !self.is_suspended() || self.loops().is_some()
    }

    /// Takes its location; until the next one is set, its state is in the hands of the caller.
    #[inline]
    pub(crate) fn take_location(&mut self) -> Location {
        std::mem::replace(&mut self.location, Location::Running)
    }

    /// Sets its location. The one before must have been taken if it was a frame: the frame table
    /// would keep that frame for ever.
    #[inline]
    pub(crate) fn set_location(&mut self, location: Location) {
        debug_assert!(!self.has_frame(), "its frame has been taken");
        self.location = location;
    }

    /// Returns whether its state is in a frame.
    #[inline]
    pub(crate) fn has_frame(&self) -> bool {
        matches!(self.location, Location::Frame { .. })
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.phase() == RunPhase::Suspended
    }
}

/// What a process is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// It computes, and only its own code or its exit stops it.
    Computes,
    /// It loops over its own `receive`, and does not take UPGRADE.
    Loops,
    /// It waits; the word is that of [`Guest::describe`].
    Waits(&'static str),
}

/// Fields that few guests use.
#[derive(Debug, Default)]
struct ColdFields {
    /// Why it could not be upgraded to the current release.
    upgrade_failure: Option<Box<str>>,
    /// The release whose code failed it so that it was reverted, and how.
    reverted: Option<(u64, Box<str>)>,
    /// The release at which it was pinned to its version; 0: none.
    pinned_at_release: u64,
    /// What it holds of the system.
    resources: Resources,
    /// What wakes it from a function of the host, if its module has such functions that wait.
    wake: Option<Arc<Wake>>,
}

#[cfg(test)]
mod tests {
    use exuvia_image::Image;
    use exuvia_process::Slot;

    use super::*;

    /// The size of a process that sleeps in a small image. The allocator has a size class
    /// of 160 bytes; one byte more would cost 32.
    #[test]
    fn the_record_of_a_process_is_small() {
        let sizes = (size_of::<GuestProcess>(), size_of::<Slot<Guest>>());
        // `cargo nextest run --no-capture` shows what it is made of.
        eprintln!(
            "private half and slot {sizes:?}; guest {}, location {}, image {}, wait {}",
            size_of::<Guest>(),
            size_of::<Location>(),
            size_of::<Image>(),
            size_of::<Wait>(),
        );
        assert!(sizes.0 <= 160 && sizes.1 <= 64, "{sizes:?}");
    }
}
