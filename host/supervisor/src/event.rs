//! The input and output of the machine: events, and actions to carry out.

use std::fmt;
use std::sync::Arc;

use crate::spec::{ChildKey, ChildSpec, Shutdown};

/// Identifies a request. Chosen by the caller, and returned in [`Action::Reply`].
pub type RequestId = u64;

/// Identifies one timer. Never used twice in one supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerToken(pub(crate) u64);

/// The class of an exit, as a supervisor distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitClass {
    /// The child has completed its work.
    Normal,
    /// The child was asked to stop, or reports an orderly stop.
    Shutdown,
    /// Any other exit.
    Abnormal,
}

/// An event that the machine handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P, S, R> {
    /// Start the supervisor. Only the first one counts.
    Start,
    /// The child that was being started is running.
    ChildStarted {
        /// From [`Action::StartChild`].
        key: ChildKey,
        /// Its process.
        pid: P,
    },
    /// The child decided that it is not needed now. No process exists. The spec is
    /// kept, except that of a temporary child.
    ChildIgnored {
        /// From [`Action::StartChild`].
        key: ChildKey,
    },
    /// The child could not be started. No process exists.
    ChildStartFailed {
        /// From [`Action::StartChild`].
        key: ChildKey,
        /// The reason of the failure.
        reason: R,
        /// See [`Event::ChildExited`].
        caused_by_release: bool,
    },
    /// A child's process has ended, for any reason.
    ChildExited {
        /// The process.
        pid: P,
        /// The class of the exit.
        class: ExitClass,
        /// Whether a new release caused the exit: the restart then does not count
        /// against the intensity. The caller must stop setting this once the
        /// release's own threshold is reached, or restarts could continue for ever.
        caused_by_release: bool,
    },
    /// A timer expired. A cancelled or unknown timer is ignored.
    Timer {
        /// From [`Action::SetTimer`].
        token: TimerToken,
    },
    /// Add a child at the end and start it.
    StartChild {
        /// Returned in the reply.
        request: RequestId,
        /// The new child.
        spec: ChildSpec<S>,
    },
    /// Stop a child but keep its spec (that of a temporary child is removed).
    TerminateChild {
        /// Returned in the reply.
        request: RequestId,
        /// The child.
        id: Arc<str>,
    },
    /// Start a child that has been stopped or has ended.
    RestartChild {
        /// Returned in the reply.
        request: RequestId,
        /// The child.
        id: Arc<str>,
    },
    /// Remove a child that is not running.
    DeleteChild {
        /// Returned in the reply.
        request: RequestId,
        /// The child.
        id: Arc<str>,
    },
    /// Stop all children, last first, and terminate.
    Stop,
}

/// An action for the caller. Actions must be carried out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<P, S, R> {
    /// Start a child and report the result. At most one start is in progress at any
    /// time.
    StartChild {
        /// To be passed in the report.
        key: ChildKey,
        /// The spec of the child.
        spec: Arc<ChildSpec<S>>,
    },
    /// The supervisor has to stop while this child is being started: end the
    /// half-started process in the given way (for `TimeoutMs` and `Infinity`, ask it
    /// to exit; the machine measures the time and repeats this action with
    /// `BrutalKill`). The start must still be reported: as failed, or as started if
    /// the child was ready first.
    CancelStart {
        /// The child.
        key: ChildKey,
        /// How to end its process.
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
        /// To be passed in the report.
        token: TimerToken,
        /// The time to wait, milliseconds.
        after_ms: u64,
    },
    /// This timer is no longer needed.
    CancelTimer {
        /// From [`Action::SetTimer`].
        token: TimerToken,
    },
    /// The first start of all children is complete. Sent once.
    Ready,
    /// The reply to a request.
    Reply {
        /// From the request.
        request: RequestId,
        /// The pid if the request started a process, or why the request failed.
        result: Result<Option<P>, RequestError<P, R>>,
    },
    /// All children have ended and the supervisor has terminated. Sent once.
    /// Afterwards the machine only replies to requests, with `NotRunning`.
    Terminate {
        /// The reason of the termination.
        reason: TerminateReason<R>,
    },
}

/// Why a request failed.
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
    /// The child waits for the next attempt to restart it.
    Restarting,
    /// The child could not be started.
    StartFailed(R),
    /// The supervisor has not started yet, is stopping, or has terminated.
    NotRunning,
    /// The supervisor has as many children as it accepts.
    TooManyChildren {
        /// The limit that was reached.
        limit: usize,
    },
    /// Too many requests wait already.
    TooManyRequests {
        /// The limit that was reached.
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
            Self::Restarting => write!(f, "the child is being restarted"),
            Self::StartFailed(reason) => write!(f, "the child could not be started: {reason}"),
            Self::NotRunning => write!(f, "the supervisor is not running"),
            Self::TooManyChildren { limit } => {
                write!(
                    f,
                    "the supervisor has as many children as its limit allows ({limit})"
                )
            }
            Self::TooManyRequests { limit } => {
                write!(
                    f,
                    "too many requests are waiting for this supervisor (limit {limit})"
                )
            }
        }
    }
}

impl<P: fmt::Debug, R: fmt::Debug + fmt::Display> std::error::Error for RequestError<P, R> {}

/// Why a supervisor terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TerminateReason<R> {
    /// It was stopped.
    Shutdown,
    /// There were more restarts in the period than allowed. To its own
    /// supervisor this is an exit of class `Shutdown`, as in OTP.
    ReachedMaxRestartIntensity {
        /// The child whose restart exceeded the intensity.
        child: Arc<str>,
    },
    /// A child could not be started when the supervisor itself started.
    StartFailed {
        /// The child.
        child: Arc<str>,
        /// The reason of the failure.
        reason: R,
    },
}

impl<R: fmt::Display> fmt::Display for TerminateReason<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => write!(f, "shutdown"),
            Self::ReachedMaxRestartIntensity { child } => write!(
                f,
                "more restarts than allowed; the last child to exit was `{child}`"
            ),
            Self::StartFailed { child, reason } => {
                write!(f, "child `{child}` could not be started: {reason}")
            }
        }
    }
}
