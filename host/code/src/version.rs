//! One version of one module, and who lives in it.
//!
//! Invariant: a version that was unloaded has nobody, and gets nobody. Who uses
//! it is counted in the same word that closes it, so whoever comes is either
//! counted before it is closed, and keeps it, or sees that it is.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering};

/// The hash of a module file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.0[..4].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// One version of one module. Equal bytes are one version: code that comes
/// back after a detour gets its old number.
#[derive(Debug)]
pub struct Version<A> {
    /// The module's name in the release.
    pub module: Arc<str>,
    /// Counts the module's versions on this node, from 1.
    pub number: u32,
    /// Of the module file.
    pub digest: Digest,
    /// The compiled code and all that belongs to it.
    pub artifact: A,
    /// Those that live in it ([`LIVES`]), those that hold it ([`HOLDS`]), and
    /// whether it is [`CLOSED`].
    users: AtomicU64,
    /// The release with which it became current last; 0: it never was.
    since: AtomicU64,
    /// Of its population, those that stay although a release has another
    /// version: how many, and below that the release's id. See [`Version::pending`].
    staying: AtomicU64,
}

/// One that lives in a version: the lower half of `users`.
const LIVES: u64 = 1;
/// One that keeps it loaded without living in it.
const HOLDS: u64 = 1 << 32;
/// The version was unloaded.
const CLOSED: u64 = 1 << 63;

/// Bits of `staying` that hold the release's id.
const ID_BITS: u32 = 32;

/// What `staying` holds of a release's id: 0 is no release.
fn id_of(release: u64) -> u32 {
    u32::try_from(release).unwrap_or(u32::MAX)
}

impl<A> Version<A> {
    pub(crate) fn new(module: Arc<str>, number: u32, digest: Digest, artifact: A) -> Version<A> {
        Version {
            module,
            number,
            digest,
            artifact,
            users: AtomicU64::new(0),
            since: AtomicU64::new(0),
            staying: AtomicU64::new(0),
        }
    }

    /// Processes that run this version, or sleep in it.
    pub fn population(&self) -> usize {
        living(self.users.load(Ordering::Relaxed))
    }

    /// The release with which it became current last; 0 if it never was.
    pub fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// It becomes current. Before the release is: who sees that sees this.
    pub(crate) fn begins(&self, release: u64) {
        self.since.store(release, Ordering::Relaxed);
    }

    /// Counts one more, unless the version was unloaded.
    fn come(self: &Arc<Self>, lives: bool) -> Option<Tenancy<A>> {
        let one = if lives { LIVES } else { HOLDS };
        // Relaxed: all that matters is the order of changes of this one word.
        if self.users.fetch_add(one, Ordering::Relaxed) & CLOSED != 0 {
            self.users.fetch_sub(one, Ordering::Relaxed);
            return None;
        }
        Some(Tenancy {
            version: self.clone(),
            lives,
            stays: 0,
        })
    }

    /// Lives in it; `None`: it was unloaded.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Tenancy<A>> {
        self.come(true)
    }

    /// Keeps it loaded; `None`: it was unloaded.
    pub(crate) fn hold(self: &Arc<Self>) -> Option<Tenancy<A>> {
        self.come(false)
    }

    /// Unloads it, if nobody uses it: nobody will from now on.
    pub(crate) fn close(&self) -> bool {
        self.users
            .compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Of its population, how many have still to cross for `release`, which
    /// has another version: all but those that stay (see [`Tenancy::stay`]).
    /// 0 means that what those who left have counted is visible.
    pub fn pending(&self, release: u64) -> usize {
        loop {
            let staying = self.staying.load(Ordering::Acquire);
            // Pairs with the Release in `Tenancy::drop`.
            let population = living(self.users.load(Ordering::Acquire));
            if self.staying.load(Ordering::Acquire) == staying {
                let count = match staying as u32 == id_of(release) {
                    true => usize::try_from(staying >> ID_BITS).unwrap_or(usize::MAX),
                    false => 0,
                };
                return population.saturating_sub(count);
            }
        }
    }

    /// Counts one more that stays for `release`. Answers whether it was
    /// counted: not if a newer release is counted already.
    fn one_stays(&self, release: u32) -> bool {
        self.staying
            .fetch_update(
                Ordering::AcqRel,
                Ordering::Acquire,
                |staying| match (staying as u32).cmp(&release) {
                    std::cmp::Ordering::Less => Some(1 << ID_BITS | u64::from(release)),
                    std::cmp::Ordering::Equal => Some(staying + (1 << ID_BITS)),
                    std::cmp::Ordering::Greater => None,
                },
            )
            .is_ok()
    }

    fn one_stays_no_more(&self, release: u32) {
        // Counted for a release that is past: there is nothing to take back.
        let _ = self
            .staying
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |staying| {
                (staying as u32 == release).then(|| staying - (1 << ID_BITS))
            });
    }
}

/// Of `users`, those that live there.
fn living(users: u64) -> usize {
    usize::try_from(users & (HOLDS - 1)).unwrap_or(usize::MAX)
}

/// `module@number`, as `ps` shows it.
impl<A> fmt::Display for Version<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.module, self.number)
    }
}

/// A process's hold on a version: counted, so that a version is unloaded when
/// nobody needs it any more.
#[derive(Debug)]
pub struct Tenancy<A> {
    version: Arc<Version<A>>,
    lives: bool,
    /// The release for which it is counted as staying; 0: none.
    stays: u32,
}

impl<A> Tenancy<A> {
    /// Moves into the version, which this keeps loaded.
    #[must_use]
    pub fn enter(&self) -> Tenancy<A> {
        self.again(true)
    }

    /// Keeps the version loaded without living in it: the way back to it, or
    /// its use for a moment.
    #[must_use]
    pub fn hold(&self) -> Tenancy<A> {
        self.again(false)
    }

    fn again(&self, lives: bool) -> Tenancy<A> {
        let tenancy = self.version.come(lives);
        tenancy.expect("a version in use is not unloaded")
    }

    /// The process stays in this version, although `release` has another one:
    /// it is stuck, was left behind, or came back. So nobody waits for it.
    pub fn stay(&mut self, release: u64) {
        let release = id_of(release);
        if self.lives && self.stays != release && self.version.one_stays(release) {
            self.stays = release;
        }
    }

    /// The version itself, without a hold on it.
    pub fn version(&self) -> &Arc<Version<A>> {
        &self.version
    }

    /// Whether it is this version.
    pub fn is(&self, version: &Arc<Version<A>>) -> bool {
        Arc::ptr_eq(&self.version, version)
    }
}

impl<A> Drop for Tenancy<A> {
    fn drop(&mut self) {
        // First: until the population follows, one too many seems to have
        // still to cross, never one too few.
        if self.stays > 0 {
            self.version.one_stays_no_more(self.stays);
        }
        // Release: whoever finds nobody left sees what the last has counted.
        let one = if self.lives { LIVES } else { HOLDS };
        self.version.users.fetch_sub(one, Ordering::Release);
    }
}

impl<A> Deref for Tenancy<A> {
    type Target = Version<A>;

    fn deref(&self) -> &Version<A> {
        &self.version
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn version() -> Arc<Version<()>> {
        Arc::new(Version::new("m".into(), 1, Digest([0; 32]), ()))
    }

    #[test]
    fn who_stays_is_not_waited_for() {
        let version = version();
        let mut processes: Vec<_> = (0..3).map(|_| version.enter().unwrap()).collect();
        assert_eq!(version.pending(2), 3);
        processes[0].stay(2);
        processes[0].stay(2);
        assert_eq!((version.pending(2), version.population()), (2, 3));
        // One ends that stays, and one that does not.
        drop(processes.remove(0));
        assert_eq!(version.pending(2), 2);
        drop(processes.remove(0));
        assert_eq!(version.pending(2), 1);
    }

    #[test]
    fn the_next_release_waits_for_those_who_stayed_before() {
        let version = version();
        let mut processes: Vec<_> = (0..3).map(|_| version.enter().unwrap()).collect();
        processes[0].stay(2);
        processes[1].stay(2);
        assert_eq!((version.pending(2), version.pending(3)), (1, 3));
        processes[1].stay(3);
        assert_eq!(version.pending(3), 2);
        // Late news of a release that is past counts for nothing.
        processes[2].stay(2);
        assert_eq!(version.pending(3), 2);
        drop(processes.remove(0));
        assert_eq!(version.pending(3), 1);
        processes.clear();
        assert_eq!(version.pending(3), 0);
    }

    #[test]
    fn a_way_back_is_nobody_who_stays() {
        let version = version();
        let mut held = version.hold().unwrap();
        held.stay(2);
        assert_eq!(version.pending(2), 0);
        let _lives = held.enter();
        assert_eq!(version.pending(2), 1);
    }

    #[test]
    fn who_uses_a_version_keeps_it_and_nobody_comes_to_one_that_is_gone() {
        let version = version();
        let held = version.hold().unwrap();
        assert!(!version.close());
        let lives = held.enter();
        drop(held);
        assert!(!version.close());
        assert_eq!(version.population(), 1);
        drop(lives);
        assert!(version.close());
        assert!(version.enter().is_none() && version.hold().is_none());
        assert_eq!(version.population(), 0);
    }
}
