//! Supervisors as a pure state machine.
//!
//! A [`Supervisor`] decides which children to start, stop and restart, by the
//! rules of OTP's `supervisor`. It owns no process, no clock and no thread: its
//! caller passes [`Event`]s with the time, and carries out the returned
//! [`Action`]s. So one implementation serves the host's own supervision tree and
//! supervisors written as guests, and every order of events can be tested.
//!
//! Three types belong to the caller: `P` is a pid, `S` is the data needed to start
//! a child (the machine never inspects it), and `R` is the reason of a failed
//! start.
//!
//! The caller guarantees that:
//! - each [`Action::StartChild`] is reported once, by `ChildStarted`,
//!   `ChildIgnored` or `ChildStartFailed`;
//! - the exit of each started child is reported once by `ChildExited`, whatever
//!   ended it, and never before its `ChildStarted`;
//! - a pid is not used again while the machine still knows it.
//!
//! Differences from OTP: there is no separate `simple_one_for_one` (use dynamic
//! children with ids), no significant children and no `auto_shutdown`; a stop
//! overtakes a start in progress (see [`Action::CancelStart`]); exits that a
//! release has caused do not count against the restart intensity.

#![forbid(unsafe_code)]

mod children;
mod event;
mod intensity;
mod machine;
mod spec;

pub use children::ChildState;
pub use event::{Action, Event, ExitClass, RequestError, RequestId, TerminateReason, TimerToken};
pub use machine::{ChildCount, ChildInfo, MAX_WAITING_REQUESTS, Supervisor};
pub use spec::{
    ChildKey, ChildKind, ChildSpec, DEFAULT_MAX_CHILDREN, Restart, Shutdown, SpecError, Strategy,
    SupervisorSpec,
};
