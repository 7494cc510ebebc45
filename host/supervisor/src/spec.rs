//! The configuration of a supervisor: its own settings and those of its children.
//!
//! The defaults are OTP's, except the restart intensity (see
//! [`SupervisorSpec::default`]).

use std::fmt;
use std::sync::Arc;

/// The default limit on the children of one supervisor. A child costs a few hundred
/// bytes here, so this is well below a gigabyte.
pub const DEFAULT_MAX_CHILDREN: usize = 1_000_000;

/// Which children are restarted together with one that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Only the child that ended.
    #[default]
    OneForOne,
    /// All children: the others are stopped first.
    OneForAll,
    /// The child that ended and those that were added after it.
    RestForOne,
}

/// Whether a child is restarted after it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after an abnormal exit.
    Transient,
    /// Never; its spec is removed when it ends.
    Temporary,
}

/// How a child is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// Killed at once.
    BrutalKill,
    /// Asked to stop, and killed if it has not ended after so many
    /// milliseconds.
    TimeoutMs(u64),
    /// Asked to stop, without a time limit. Meant for supervisors, whose own children
    /// have limits.
    Infinity,
}

/// The kind of process that a child is. It is only counted and displayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChildKind {
    /// A process that does work.
    #[default]
    Worker,
    /// A process that supervises others.
    Supervisor,
}

/// The machine's own name for a child. A key is never used twice in one
/// supervisor, and a later child has a greater key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(pub(crate) u64);

/// One child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSpec<S> {
    /// Its id, unique within the supervisor.
    pub id: Arc<str>,
    /// The data that the caller needs to start it.
    pub start: S,
    /// When it is restarted.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// The kind of process that it is.
    pub kind: ChildKind,
}

impl<S> ChildSpec<S> {
    /// Returns the spec of a permanent worker with five seconds to stop.
    pub fn worker(id: impl Into<Arc<str>>, start: S) -> Self {
        Self {
            id: id.into(),
            start,
            restart: Restart::Permanent,
            shutdown: Shutdown::TimeoutMs(5_000),
            kind: ChildKind::Worker,
        }
    }

    /// Returns the spec of a permanent supervisor that may take as long as it needs to stop.
    pub fn supervisor(id: impl Into<Arc<str>>, start: S) -> Self {
        Self {
            shutdown: Shutdown::Infinity,
            kind: ChildKind::Supervisor,
            ..Self::worker(id, start)
        }
    }

    /// Returns the same spec with another restart type.
    #[must_use]
    pub fn restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }

    /// Returns the same spec with another way to stop.
    #[must_use]
    pub fn shutdown(self, shutdown: Shutdown) -> Self {
        Self { shutdown, ..self }
    }
}

/// The supervisor's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupervisorSpec {
    /// Which children are restarted together.
    pub strategy: Strategy,
    /// The number of restarts allowed within the period; one more terminates the
    /// supervisor. 0 means that the first restart does.
    pub intensity: u32,
    /// The length of the period in milliseconds, both ends included. At least 1.
    pub period_ms: u64,
    /// The most children that it accepts.
    pub max_children: usize,
}

impl Default for SupervisorSpec {
    /// Returns one-for-one with three restarts in five seconds. (OTP's default of one
    /// restart is too few for most trees.)
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            intensity: 3,
            period_ms: 5_000,
            max_children: DEFAULT_MAX_CHILDREN,
        }
    }
}

/// Why no supervisor can be created from a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// Two children have this id.
    DuplicateId(Arc<str>),
    /// The period is 0.
    EmptyPeriod,
    /// There are more children than `max_children`.
    TooManyChildren {
        /// The limit that was exceeded.
        limit: usize,
    },
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateId(id) => write!(f, "two children have the id `{id}`"),
            Self::EmptyPeriod => write!(f, "the restart period is 0; it must be at least 1 ms"),
            Self::TooManyChildren { limit } => {
                write!(
                    f,
                    "more children than the limit of this supervisor ({limit})"
                )
            }
        }
    }
}

impl std::error::Error for SpecError {}
