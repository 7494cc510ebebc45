//! One version of one module, and who lives in it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
    population: AtomicUsize,
    /// Processes that may yet go back to it.
    held: AtomicUsize,
    /// Of its population, those that stay although a release has another
    /// version: how many, and below that the release's id. See [`Version::pending`].
    staying: AtomicU64,
}

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
            population: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            staying: AtomicU64::new(0),
        }
    }

    /// Processes that run this version, or sleep in it.
    pub fn population(&self) -> usize {
        self.population.load(Ordering::Relaxed)
    }

    /// Of its population, how many have still to cross for `release`, which
    /// has another version: all but those that stay (see [`Tenancy::stay`]).
    /// 0 means that what those who left have counted is visible.
    pub fn pending(&self, release: u64) -> usize {
        loop {
            let staying = self.staying.load(Ordering::Acquire);
            // Pairs with the Release in `Tenancy::drop`.
            let population = self.population.load(Ordering::Acquire);
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

    /// Whether any process runs it, or may go back to it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.population() > 0 || self.held.load(Ordering::Relaxed) > 0
    }

    fn counter(&self, lives: bool) -> &AtomicUsize {
        if lives { &self.population } else { &self.held }
    }
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
    /// Moves into a version.
    pub fn new(version: Arc<Version<A>>) -> Tenancy<A> {
        Tenancy::of(version, true)
    }

    /// Keeps a version loaded without living in it: the way back to it.
    pub fn hold(version: Arc<Version<A>>) -> Tenancy<A> {
        Tenancy::of(version, false)
    }

    fn of(version: Arc<Version<A>>, lives: bool) -> Tenancy<A> {
        version.counter(lives).fetch_add(1, Ordering::Relaxed);
        Tenancy {
            version,
            lives,
            stays: 0,
        }
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
        self.version
            .counter(self.lives)
            .fetch_sub(1, Ordering::Release);
    }
}

impl<A> Deref for Tenancy<A> {
    type Target = Version<A>;

    fn deref(&self) -> &Version<A> {
        &self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> Arc<Version<()>> {
        Arc::new(Version::new("m".into(), 1, Digest([0; 32]), ()))
    }

    #[test]
    fn who_stays_is_not_waited_for() {
        let version = version();
        let mut processes: Vec<_> = (0..3).map(|_| Tenancy::new(version.clone())).collect();
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
        let mut processes: Vec<_> = (0..3).map(|_| Tenancy::new(version.clone())).collect();
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
        let mut held = Tenancy::hold(version.clone());
        held.stay(2);
        assert_eq!(version.pending(2), 0);
        let _lives = Tenancy::new(version.clone());
        assert_eq!(version.pending(2), 1);
    }
}
