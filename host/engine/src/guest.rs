//! The engine's half of a process: which version it lives in, where its state
//! is, and what it waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exuvia_abi::receive;
use exuvia_code::{Tenancy, Version};
use exuvia_process::{Body, Envelope, Members, Own, Pid, System};

use crate::artifact::Artifact;
use crate::image::Image;
use crate::places::Seated;
use crate::pool::Stamp;
use crate::probation::Trial;
use crate::wasi::{Wake, Wasi};

/// A process's own half, as the engine sees it.
pub type GuestOwn = Own<Guest>;
/// All processes of a node whose guests the engine runs.
pub type GuestSystem = System<Guest>;

/// The module of a process, for lines of the host's log that its guest causes: they are
/// told at a bounded rate for each module.
pub(crate) fn module_of(own: &GuestOwn) -> &str {
    match &own.body {
        Body::Guest(guest) => &guest.tenancy.module,
        Body::Native(_) => "a process of the host",
    }
}

/// The engine's half of a guest. Millions of them may sleep: a test below says
/// how large a process's record is.
#[derive(Debug)]
pub struct Guest {
    /// The version it lives in.
    pub tenancy: Tenancy<Artifact>,
    /// The release up to which it has crossed, or need not.
    pub(crate) release: u64,
    pub(crate) residence: Residence,
    /// What it waits for while its fiber is suspended.
    pub(crate) wait: Waiting,
    /// Set while its last messages since a crossing are on probation.
    pub(crate) trial: Option<Box<Trial>>,
    /// What few have.
    rare: Option<Box<Rare>>,
    /// Its first entry has happened.
    pub(crate) has_run: bool,
    /// Used since the pager looked last.
    pub(crate) touched: bool,
    /// Woken by the sweeper, to cross.
    pub(crate) swept: bool,
    /// Crossings so far.
    pub(crate) crossings: u32,
}

impl Guest {
    /// A process that has not run yet.
    pub fn new(tenancy: Tenancy<Artifact>, release: u64) -> Guest {
        Guest {
            tenancy,
            release,
            residence: Residence::Newborn,
            wait: Waiting::default(),
            trial: None,
            rare: None,
            has_run: false,
            touched: false,
            swept: false,
            crossings: 0,
        }
    }

    /// What the process is doing, in a word, for `ps`.
    pub fn describe(&self) -> &'static str {
        match (&self.residence, self.wait.get()) {
            _ if self.stuck().is_some() => "stuck",
            (_, Some(wait)) => wait.describe(),
            (Residence::Newborn, _) => "new",
            (
                Residence::Image { waiting: true, .. } | Residence::Frame { waiting: true, .. },
                _,
            ) => "waiting",
            (Residence::Image { .. }, _) => "paged out",
            (Residence::Frame { .. }, _) => "resident",
            (Residence::Running, _) => "running",
        }
    }

    /// Bytes of its image, if it is paged out.
    pub fn image_bytes(&self) -> usize {
        match &self.residence {
            Residence::Image { image, .. } => image.len(),
            _ => 0,
        }
    }

    /// Bytes of its linear memory.
    pub fn memory_bytes(&self) -> u64 {
        let pages = match &self.residence {
            Residence::Newborn | Residence::Running => self.tenancy.artifact.base_pages(),
            Residence::Image { image, .. } => image.memory_pages(),
            Residence::Frame { frame, .. } => frame.frame.pages(),
        };
        u64::from(pages) * crate::WASM_PAGE
    }

    /// Why it stays on an old version, if it does.
    pub fn stuck(&self) -> Option<&str> {
        self.rare.as_ref()?.stuck.as_deref()
    }

    /// Notes why it could not cross to the current release, or that it has.
    pub(crate) fn set_stuck(&mut self, why: Option<&str>) {
        if why.is_some() || self.rare.is_some() {
            self.rare.get_or_insert_default().stuck = why.map(Into::into);
        }
    }

    /// Notes how new code of a release has failed it, so that it went back.
    pub(crate) fn set_reverted(&mut self, release: u64, how: &str) {
        self.rare.get_or_insert_default().reverted = Some((release, how.into()));
    }

    /// How the code that is current has failed it, if it went back to its old
    /// version for that, and is there still.
    pub fn reverted(&self, current: &Version<Artifact>) -> Option<&str> {
        let (release, how) = self.rare.as_ref()?.reverted.as_ref()?;
        (current.since() <= *release).then_some(how)
    }

    /// It is in the current version: what was noted of others is past.
    pub(crate) fn is_current(&mut self) {
        if let Some(rare) = &mut self.rare {
            (rare.stuck, rare.reverted, rare.left) = (None, None, 0);
        }
    }

    /// Its part of the system, which is with the store while its code runs.
    pub(crate) fn take_wasi(&mut self) -> Option<Box<Wasi>> {
        self.rare.as_mut()?.wasi.take()
    }

    pub(crate) fn put_wasi(&mut self, wasi: Box<Wasi>) {
        self.rare.get_or_insert_default().wasi = Some(wasi);
    }

    /// What wakes it when the system is done; made by `make` when it is first run.
    pub(crate) fn wake(&mut self, make: impl FnOnce() -> Arc<Wake>) -> Arc<Wake> {
        let rare = self.rare.get_or_insert_default();
        rare.wake.get_or_insert_with(make).clone()
    }

    /// Crossings so far.
    pub fn crossings(&self) -> u32 {
        self.crossings
    }

    /// Whether it blocks in a `receive` for any message that nothing but its
    /// own code ends: the loop style. `Some(true)`: it takes `UPGRADE`.
    pub fn loops(&self) -> Option<bool> {
        match self.wait.get() {
            Some(Wait {
                what: Want::Message { mode, .. },
                upgrade,
                ..
            }) if *mode == receive::ANY => Some(*upgrade),
            _ => None,
        }
    }

    /// Whether it has not run yet, so that it has no state.
    pub fn is_unborn(&self) -> bool {
        matches!(self.residence, Residence::Newborn) && !self.has_run
    }

    /// With a release it was left on its version, with consent.
    pub fn leave_behind(&mut self, release: u64) {
        self.rare.get_or_insert_default().left = release;
    }

    /// Whether it was left on its version when `current` became so, or was left
    /// before and is still in the loop that it was left for: such a one asks no
    /// leave again. Consent ends where its own version has been current since.
    pub fn is_left(&self, current: &Version<Artifact>) -> bool {
        let left = self.rare.as_ref().map_or(0, |rare| rare.left);
        left > self.tenancy.since() && (current.since() <= left || self.loops() == Some(false))
    }

    /// What keeps it from crossing now: it is in the middle of something.
    pub fn busy(&self) -> Option<Busy> {
        if !self.is_suspended() {
            return self.is_waiting().then_some(Busy::Waits("waiting"));
        }
        match (self.loops(), self.wait.get()) {
            // Woken by new code, it crosses.
            (Some(true), _) => None,
            (Some(false), _) => Some(Busy::Loops),
            (None, Some(wait)) if wait.what != Want::Turn => Some(Busy::Waits(wait.describe())),
            (None, _) => Some(Busy::Computes),
        }
    }

    /// Which frame it could be paged out of, while it rests; none of a
    /// resident-only module.
    pub(crate) fn place_at_rest(&self) -> Option<u32> {
        match &self.residence {
            Residence::Frame {
                frame,
                suspended: false,
                ..
            } if frame.frame.reusable => Some(frame.place()),
            _ => None,
        }
    }

    /// Whether it is suspended, and would go on by itself: no signal wakes it.
    pub(crate) fn is_preempted(&self) -> bool {
        self.wait.get().is_some_and(|wait| wait.what == Want::Turn)
    }

    /// For whose room it is to wait, if so.
    pub(crate) fn wants_room(&self) -> Option<Pid> {
        match self.wait.get()?.what {
            Want::Room { to } => Some(to),
            _ => None,
        }
    }

    /// Whether it has answered WAITING when it was last entered.
    pub fn is_waiting(&self) -> bool {
        matches!(
            self.residence,
            Residence::Image { waiting: true, .. } | Residence::Frame { waiting: true, .. }
        )
    }

    /// Whether it waits in a function of WASI.
    pub(crate) fn is_in_wasi(&self) -> bool {
        (self.wait.get()).is_some_and(|wait| wait.what == Want::Host)
    }

    /// Whether it is not in the middle of a handler: an operator who suspends it finds
    /// it standing still.
    pub fn stands_still(&self) -> bool {
        !self.is_suspended() || self.loops().is_some()
    }

    /// Whether its state is in a frame.
    #[inline]
    pub(crate) fn has_frame(&self) -> bool {
        matches!(self.residence, Residence::Frame { .. })
    }

    pub(crate) fn is_suspended(&self) -> bool {
        matches!(
            self.residence,
            Residence::Frame {
                suspended: true,
                ..
            }
        )
    }
}

/// What a process is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// It computes, and nothing but its own code or its end stops it.
    Computes,
    /// It loops over its own `receive`, and does not take UPGRADE.
    Loops,
    /// It waits for something, in a word as [`Guest::describe`] has it.
    Waits(&'static str),
}

/// Where a process's guest state is.
#[derive(Debug)]
pub(crate) enum Residence {
    /// Nowhere yet: it is the base.
    Newborn,
    /// Paged out; if by the pager, `stamp` says when (see `pool`).
    Image {
        image: Image,
        waiting: bool,
        stamp: Option<Stamp>,
    },
    /// In a frame, which it keeps while it is busy.
    Frame {
        frame: Seated,
        /// Its fiber is suspended in the middle of `run`.
        suspended: bool,
        /// `run` answered WAITING.
        waiting: bool,
    },
    /// In the frame that runs now.
    Running,
}

impl Residence {
    /// Paged out at REST, by its own doing.
    pub(crate) fn at_rest(image: Image) -> Residence {
        Residence::Image {
            image,
            waiting: false,
            stamp: None,
        }
    }
}

/// What few processes have.
#[derive(Debug, Default)]
struct Rare {
    /// Why it could not cross to the current release.
    stuck: Option<Box<str>>,
    /// The release whose code has failed it, so that it went back, and how.
    reverted: Option<(u64, Box<str>)>,
    /// The release with which it was left on its version; 0: none.
    left: u64,
    /// Its part of the system, if it uses WASI.
    wasi: Option<Box<Wasi>>,
    /// What wakes it from a function of WASI, if its module uses it.
    wake: Option<Arc<Wake>>,
}

/// A place for a wait. It is kept from one wait to the next, so that who blocks
/// again and again allocates nothing, and given back with the frame.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<Box<Option<Wait>>>);

impl Waiting {
    pub(crate) fn get(&self) -> Option<&Wait> {
        self.0.as_deref()?.as_ref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut Wait> {
        self.0.as_deref_mut()?.as_mut()
    }

    pub(crate) fn set(&mut self, wait: Wait) {
        **self.0.get_or_insert_default() = Some(wait);
    }

    pub(crate) fn take(&mut self) -> Option<Wait> {
        self.0.as_deref_mut()?.take()
    }

    pub(crate) fn trim(&mut self) {
        if self.get().is_none() {
            self.0 = None;
        }
    }
}

/// What a suspended process waits for.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) what: Want,
    /// The node's clock, nanoseconds; `None` for ever.
    pub(crate) deadline: Option<u64>,
    /// The timer that wakes it at the deadline.
    pub(crate) timer: Option<u64>,
    /// `UPGRADE` may end the wait.
    pub(crate) upgrade: bool,
    /// What it does in several turns.
    pub(crate) publication: Option<Box<Publication>>,
    /// Counts it among those that the system has to answer.
    #[expect(dead_code, reason = "its drop counts")]
    pub(crate) in_host: Option<InHost>,
}

/// Processes in functions of WASI, counted from the call to its end.
#[derive(Debug)]
pub(crate) struct InHost(Arc<AtomicUsize>);

impl InHost {
    pub(crate) fn new(count: &Arc<AtomicUsize>) -> InHost {
        count.fetch_add(1, Ordering::AcqRel);
        InHost(count.clone())
    }
}

impl Drop for InHost {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is published to a large group, a part in each turn.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) members: Members,
    pub(crate) envelope: Envelope,
    /// The member that comes next.
    pub(crate) next: usize,
    /// Members that have it.
    pub(crate) reached: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Its turn: the slice was over.
    Turn,
    /// That a process to which it has sent, and which was far behind, has caught up.
    Room { to: Pid },
    /// A message of `receive`'s mode and key.
    Message { mode: i32, key: u64 },
    /// The reply to a call, or a child's acknowledgement.
    Reply { reference: u64 },
    /// Only time.
    Nothing,
    /// The system, in a function of WASI.
    Host,
}

impl Wait {
    /// The wait of a process that was preempted.
    pub(crate) fn turn(crowd: Option<Pid>) -> Wait {
        Wait {
            what: crowd.map_or(Want::Turn, |to| Want::Room { to }),
            deadline: None,
            timer: None,
            upgrade: false,
            publication: None,
            in_host: None,
        }
    }

    /// The wait for the system.
    pub(crate) fn host(in_host: InHost) -> Wait {
        Wait {
            what: Want::Host,
            in_host: Some(in_host),
            ..Wait::turn(None)
        }
    }

    /// Whether the process should be resumed.
    pub(crate) fn is_over(&self, own: &GuestOwn, now: u64, crossing_due: bool) -> bool {
        let arrived = match self.what {
            Want::Turn => true,
            Want::Room { .. } => own.has_room(),
            Want::Message { mode, key } => own.position(mode, key).is_some(),
            Want::Reply { reference } => own.position(receive::REFERENCE, reference).is_some(),
            Want::Nothing => false,
            Want::Host => match &own.body {
                Body::Guest(guest) => (guest.rare.as_ref())
                    .and_then(|rare| rare.wake.as_ref())
                    .is_none_or(|wake| wake.is_ready()),
                Body::Native(_) => true,
            },
        };
        // What it waits for may be among what has arrived and is not sorted yet.
        let timed_out = !own.is_flooded() && self.deadline.is_some_and(|at| at <= now);
        arrived || timed_out || (self.upgrade && crossing_due)
    }

    fn describe(&self) -> &'static str {
        match self.what {
            Want::Turn => "preempted",
            Want::Room { .. } => "send",
            Want::Message { .. } => "receive",
            Want::Reply { .. } => "call",
            Want::Nothing => "sleep",
            Want::Host => "wasi",
        }
    }
}

#[cfg(test)]
mod tests {
    use exuvia_process::Slot;

    use super::*;

    /// What a process takes that sleeps in a small image. The allocator rounds
    /// 160 up by nothing; one byte more would cost 32.
    #[test]
    fn the_record_of_a_process_is_small() {
        let sizes = (size_of::<GuestOwn>(), size_of::<Slot<Guest>>());
        // `cargo nextest run --no-capture` shows what it is made of.
        eprintln!(
            "own half and slot {sizes:?}; guest {}, residence {}, image {}, wait {}",
            size_of::<Guest>(),
            size_of::<Residence>(),
            size_of::<Image>(),
            size_of::<Wait>(),
        );
        assert!(sizes.0 <= 160 && sizes.1 <= 64, "{sizes:?}");
    }
}
