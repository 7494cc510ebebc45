//! One version of one module, and who lives in it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
        }
    }

    /// Processes that run this version, or sleep in it.
    pub fn population(&self) -> usize {
        self.population.load(Ordering::Relaxed)
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
        Tenancy { version, lives }
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
        self.version
            .counter(self.lives)
            .fetch_sub(1, Ordering::Relaxed);
    }
}

impl<A> Deref for Tenancy<A> {
    type Target = Version<A>;

    fn deref(&self) -> &Version<A> {
        &self.version
    }
}
