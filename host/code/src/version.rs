//! One version of one module, and the counts of its users.
//!
//! Invariant: an unloaded version has no users, and never gets any. The users are
//! counted in the same word that closes the version. So a new user is either counted
//! before the version is closed, and keeps it loaded, or sees that it is closed.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering};

/// The hash of a module file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the first eight hexadecimal digits, for display.
    pub fn short(&self) -> String {
        self.0[..4].iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Returns the digest of 64 hexadecimal digits, as `Display` writes it; `None` if the text is something else.
    pub fn parse(text: &str) -> Option<Digest> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(Digest(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// One version of one module. Modules with equal bytes are one version: code that is
/// deployed again while it is still loaded keeps its number.
#[derive(Debug)]
pub struct Version<A> {
    /// The module's name in the release.
    pub module: Arc<str>,
    /// Number of the version among the module's versions on this node, from 1.
    pub number: u32,
    /// Digest of the module file.
    pub digest: Digest,
    /// The compiled code and everything that belongs to it.
    pub artifact: A,
    /// The count of processes ([`PROCESS`]), the count of other references
    /// ([`REFERENCE`]), and whether it is [`CLOSED`].
    users: AtomicU64,
    /// The release with which it last became current; 0: it never was.
    since: AtomicU64,
    /// The processes that are exempt from a release with another version: their number
    /// in the high half, the release's id in the low half. See [`Version::pending`].
    exempt: AtomicU64,
}

/// In `users`, one process of the version: the count is the low half.
const PROCESS: u64 = 1;
/// In `users`, one reference that keeps the version loaded without being a process.
const REFERENCE: u64 = 1 << 32;
/// In `users`, the bit that says that the version was unloaded.
const CLOSED: u64 = 1 << 63;

/// Bits of `exempt` that hold the release's id.
const ID_BITS: u32 = 32;

/// Returns the release's id as `exempt` stores it: 0 is no release, and ids from
/// [`u32::MAX`] on are equal.
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
            exempt: AtomicU64::new(0),
        }
    }

    /// Returns the number of processes of this version, running or paged out.
    pub fn process_count(&self) -> usize {
        live_count(self.users.load(Ordering::Relaxed))
    }

    /// Returns the id of the release with which it last became current; 0 if it never was.
    pub fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Records that the version becomes current with `release`. Called before the
    /// release is published, so a reader that sees the release sees this.
    pub(crate) fn set_current_since(&self, release: u64) {
        self.since.store(release, Ordering::Relaxed);
    }

    /// Counts one more user. `None`: the version was unloaded.
    fn acquire(self: &Arc<Self>, lives: bool) -> Option<VersionRef<A>> {
        let one = if lives { PROCESS } else { REFERENCE };
        // Relaxed: only the modification order of this one word matters.
        if self.users.fetch_add(one, Ordering::Relaxed) & CLOSED != 0 {
            self.users.fetch_sub(one, Ordering::Relaxed);
            return None;
        }
        Some(VersionRef {
            version: self.clone(),
            lives,
            exempt_for: 0,
        })
    }

    /// Counts a process of the version. `None`: it was unloaded.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<VersionRef<A>> {
        self.acquire(true)
    }

    /// Counts a reference that keeps it loaded. `None`: it was unloaded.
    pub(crate) fn hold(self: &Arc<Self>) -> Option<VersionRef<A>> {
        self.acquire(false)
    }

    /// Closes the version if it has no users, and returns whether it did. A closed
    /// version gets no new users.
    pub(crate) fn close(&self) -> bool {
        self.users
            .compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Returns how many of its processes are pending for `release`, which has another
    /// version of the module: all that are not exempt (see [`VersionRef::exempt`]).
    /// If it returns 0, the counters that former processes have updated are visible.
    pub fn pending(&self, release: u64) -> usize {
        loop {
            let staying = self.exempt.load(Ordering::Acquire);
            // Pairs with the Release in `VersionRef::drop`.
            let processes = live_count(self.users.load(Ordering::Acquire));
            if self.exempt.load(Ordering::Acquire) == staying {
                let count = match staying as u32 == id_of(release) {
                    true => usize::try_from(staying >> ID_BITS).unwrap_or(usize::MAX),
                    false => 0,
                };
                return processes.saturating_sub(count);
            }
        }
    }

    /// Counts one more process that is exempt from `release`. Returns whether it was
    /// counted: it is not if the count already refers to a newer release.
    fn add_exempt(&self, release: u32) -> bool {
        self.exempt
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

    fn remove_exempt(&self, release: u32) {
        // The count may refer to a newer release: then there is nothing to subtract.
        let _ = self
            .exempt
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |staying| {
                (staying as u32 == release).then(|| staying - (1 << ID_BITS))
            });
    }
}

/// Returns the number of processes in `users`.
fn live_count(users: u64) -> usize {
    usize::try_from(users & (REFERENCE - 1)).unwrap_or(usize::MAX)
}

/// `module@number`, as `ps` shows it.
impl<A> fmt::Display for Version<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.module, self.number)
    }
}

/// A counted reference to a version, which keeps it loaded: of a process that runs it,
/// or of another user.
#[derive(Debug)]
pub struct VersionRef<A> {
    version: Arc<Version<A>>,
    lives: bool,
    /// The release from which it is counted as exempt; 0: none.
    exempt_for: u32,
}

impl<A> VersionRef<A> {
    /// Returns a reference for a process of the version.
    #[must_use]
    pub fn enter(&self) -> VersionRef<A> {
        self.again(true)
    }

    /// Returns a reference that keeps the version loaded without being a process: for
    /// a rollback target, or for temporary use.
    #[must_use]
    pub fn hold(&self) -> VersionRef<A> {
        self.again(false)
    }

    fn again(&self, lives: bool) -> VersionRef<A> {
        let version_ref = self.version.acquire(lives);
        version_ref.expect("a version in use is not unloaded")
    }

    /// Exempts the process from `release`, which has another version of the module: its
    /// upgrade failed, the operator left it (`--leave`), or it was reverted. The release
    /// no longer waits for it.
    pub fn exempt(&mut self, release: u64) {
        let release = id_of(release);
        if self.lives && self.exempt_for != release && self.version.add_exempt(release) {
            self.exempt_for = release;
        }
    }

    /// Returns the version itself, as an uncounted reference.
    pub fn version(&self) -> &Arc<Version<A>> {
        &self.version
    }

    /// Returns whether it refers to this version.
    pub fn is(&self, version: &Arc<Version<A>>) -> bool {
        Arc::ptr_eq(&self.version, version)
    }
}

impl<A> Drop for VersionRef<A> {
    fn drop(&mut self) {
        // First: until the process count follows, `pending` returns one too many, never
        // one too few.
        if self.exempt_for > 0 {
            self.version.remove_exempt(self.exempt_for);
        }
        // Release: a reader that finds no process left sees the counters that the last
        // one has updated.
        let one = if self.lives { PROCESS } else { REFERENCE };
        self.version.users.fetch_sub(one, Ordering::Release);
    }
}

impl<A> Deref for VersionRef<A> {
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
    fn an_exempt_process_is_not_waited_for() {
        let version = version();
        let mut processes: Vec<_> = (0..3).map(|_| version.enter().unwrap()).collect();
        assert_eq!(version.pending(2), 3);
        processes[0].exempt(2);
        processes[0].exempt(2);
        assert_eq!((version.pending(2), version.process_count()), (2, 3));
        // An exempt process ends, then one that is not.
        drop(processes.remove(0));
        assert_eq!(version.pending(2), 2);
        drop(processes.remove(0));
        assert_eq!(version.pending(2), 1);
    }

    #[test]
    fn the_next_release_waits_for_processes_that_were_exempt() {
        let version = version();
        let mut processes: Vec<_> = (0..3).map(|_| version.enter().unwrap()).collect();
        processes[0].exempt(2);
        processes[1].exempt(2);
        assert_eq!((version.pending(2), version.pending(3)), (1, 3));
        processes[1].exempt(3);
        assert_eq!(version.pending(3), 2);
        // A late exemption from an older release does not count.
        processes[2].exempt(2);
        assert_eq!(version.pending(3), 2);
        drop(processes.remove(0));
        assert_eq!(version.pending(3), 1);
        processes.clear();
        assert_eq!(version.pending(3), 0);
    }

    #[test]
    fn a_reference_without_a_process_is_not_exempt() {
        let version = version();
        let mut held = version.hold().unwrap();
        held.exempt(2);
        assert_eq!(version.pending(2), 0);
        let _lives = held.enter();
        assert_eq!(version.pending(2), 1);
    }

    #[test]
    fn a_version_in_use_is_kept_and_an_unloaded_one_gains_no_process() {
        let version = version();
        let held = version.hold().unwrap();
        assert!(!version.close());
        let lives = held.enter();
        drop(held);
        assert!(!version.close());
        assert_eq!(version.process_count(), 1);
        drop(lives);
        assert!(version.close());
        assert!(version.enter().is_none() && version.hold().is_none());
        assert_eq!(version.process_count(), 0);
    }
}
