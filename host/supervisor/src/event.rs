//! The two languages of the machine: what happens, and what is to be done.

use std::fmt;
use std::sync::Arc;

use crate::spec::{ChildKey, ChildSpec, Shutdown};

/// Chosen by the caller; comes back in [`Action::Reply`].
pub type RequestId = u64;

/// Names one timer. Never used twice in one supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerToken(pub(crate) u64);

/// What an exit means to a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitClass {
    /// The child had nothing more to do.
    Normal,
    /// The child was asked to stop, or says that it stopped in order.
    Shutdown,
    /// Anything else.
    Abnormal,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P, S, R> {
    /// Start the supervisor. Only the first one counts.
    Start,
    /// The child that was being started is up.
    ChildStarted {
        /// From [`Action::StartChild`].
        key: ChildKey,
        /// Its process.
        pid: P,
    },
    /// The child decided that it is not needed now. No process exists; the spec
    /// stays (a temporary child's does not).
    ChildIgnored {
        /// From [`Action::StartChild`].
        key: ChildKey,
    },
    /// The child could not be started. No process exists.
    ChildStartFailed {
        /// From [`Action::StartChild`].
        key: ChildKey,
        /// Why.
        reason: R,
        /// See [`Event::ChildExited`].
        caused_by_release: bool,
    },
    /// A child's process has ended, for whatever reason.
    ChildExited {
        /// The process.
        pid: P,
        /// What kind of end it was.
        class: ExitClass,
        /// A new release is to blame: the restart does not count against the
        /// intensity. The caller must stop setting this when the release's own
        /// threshold is passed, or restarts could go on for ever.
        caused_by_release: bool,
    },
    /// A timer ran out. One that was cancelled or is unknown is ignored.
    Timer {
        /// From [`Action::SetTimer`].
        token: TimerToken,
    },
    /// Add a child at the end and start it.
    StartChild {
        /// Comes back in the reply.
        request: RequestId,
        /// The new child.
        spec: ChildSpec<S>,
    },
    /// Stop a child but keep its spec (a temporary child's is forgotten).
    TerminateChild {
        /// Comes back in the reply.
        request: RequestId,
        /// The child.
        id: Arc<str>,
    },
    /// Start a child that has been stopped or has ended.
    RestartChild {
        /// Comes back in the reply.
        request: RequestId,
        /// The child.
        id: Arc<str>,
    },
    /// Forget a child that is not running.
    DeleteChild {
        /// Comes back in the reply.
        request: RequestId,
        /// The child.
        id: Arc<str>,
    },
    /// Stop all children, last first, and end.
    Stop,
}

/// Something the caller has to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<P, S, R> {
    /// Start a child and report how that went. At most one start is under way
    /// at any time.
    StartChild {
        /// To be named in the report.
        key: ChildKey,
        /// What to start.
        spec: Arc<ChildSpec<S>>,
    },
    /// The supervisor has to stop while this child is being started: end the
    /// half-started process in the way given (with `TimeoutMs` and `Infinity`,
    /// ask it; the machine keeps the time and asks again with `BrutalKill`).
    /// The start is still to be reported: as failed, or as started when it was
    /// ready first.
    CancelStart {
        /// The child.
        key: ChildKey,
        /// How to end it.
        shutdown: Shutdown,
    },
    /// Send this process the exit signal `shutdown`.
    Exit {
        /// The process.
        pid: P,
    },
    /// Send this process the exit signal `kill`, which cannot be refused.
    Kill {
        /// The process.
        pid: P,
    },
    /// Report [`Event::Timer`] after this time.
    SetTimer {
        /// To be named in the report.
        token: TimerToken,
        /// How long to wait.
        after_ms: u64,
    },
    /// This timer is no longer wanted.
    CancelTimer {
        /// From [`Action::SetTimer`].
        token: TimerToken,
    },
    /// The first start of all children is complete. Sent once.
    Ready,
    /// The answer to a request: the pid, when a process was started by it.
    Reply {
        /// From the request.
        request: RequestId,
        /// How it ended.
        result: Result<Option<P>, RequestError<P, R>>,
    },
    /// All children are gone and the supervisor has ended. Sent once. After it
    /// only requests are answered, with `NotRunning`.
    Terminate {
        /// Why.
        reason: TerminateReason<R>,
    },
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError<P, R> {
    /// A child with this id is running.
    AlreadyStarted(P),
    /// A child with this id is known, but not running: restart or delete it.
    AlreadyPresent,
    /// No child has this id.
    NotFound,
    /// The child is running.
    Running,
    /// The child is waiting for its next try to restart.
    Restarting,
    /// The child could not be started.
    StartFailed(R),
    /// The supervisor has not started yet, is stopping, or has ended.
    NotRunning,
    /// The supervisor has as many children as it accepts.
    TooManyChildren {
        /// The limit that was met.
        limit: usize,
    },
    /// Too many requests wait already.
    TooManyRequests {
        /// The limit that was met.
        limit: usize,
    },
}

impl<P: fmt::Debug, R: fmt::Display> fmt::Display for RequestError<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyStarted(pid) => write!(f, "the child is already running as {pid:?}"),
            Self::AlreadyPresent => write!(
                f,
                "a child with this id is known but not running; restart or delete it"
            ),
            Self::NotFound => write!(f, "no child has this id"),
            Self::Running => write!(f, "the child is running"),
            Self::Restarting => write!(f, "the child is about to be restarted"),
            Self::StartFailed(reason) => write!(f, "the child could not be started: {reason}"),
            Self::NotRunning => write!(f, "the supervisor is not running"),
            Self::TooManyChildren { limit } => {
                write!(
                    f,
                    "the supervisor has as many children as it accepts ({limit})"
                )
            }
            Self::TooManyRequests { limit } => {
                write!(
                    f,
                    "too many requests wait for this supervisor (limit {limit})"
                )
            }
        }
    }
}

impl<P: fmt::Debug, R: fmt::Debug + fmt::Display> std::error::Error for RequestError<P, R> {}

/// Why a supervisor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TerminateReason<R> {
    /// It was stopped.
    Shutdown,
    /// There were more restarts in the period than allowed. To its own
    /// supervisor this is an exit of class `Shutdown`, as in OTP.
    ReachedMaxRestartIntensity {
        /// The child whose restart was one too many.
        child: Arc<str>,
    },
    /// A child could not be started when the supervisor itself started.
    StartFailed {
        /// The child.
        child: Arc<str>,
        /// Why.
        reason: R,
    },
}

impl<R: fmt::Display> fmt::Display for TerminateReason<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => write!(f, "shutdown"),
            Self::ReachedMaxRestartIntensity { child } => write!(
                f,
                "more restarts than allowed, the last child to end was `{child}`"
            ),
            Self::StartFailed { child, reason } => {
                write!(f, "child `{child}` could not be started: {reason}")
            }
        }
    }
}
