//! Supervisors as a pure state machine.
//!
//! A [`Supervisor`] decides which children to start, stop and restart, by the
//! rules of OTP's `supervisor`. It owns no process, no clock and no thread: its
//! caller hands in [`Event`]s with the time, and carries out the [`Action`]s
//! that come back. So one implementation serves the host's own supervision tree
//! and supervisors written as guests, and every order of events can be tested.
//!
//! Three types belong to the caller: `P` is a pid, `S` is what is needed to
//! start a child (the machine never looks inside), and `R` is the reason of a
//! failed start.
//!
//! What the caller promises:
//! - each [`Action::StartChild`] is answered once, by `ChildStarted`,
//!   `ChildIgnored` or `ChildStartFailed`;
//! - each child that was started is reported once by `ChildExited` when it ends,
//!   whoever ended it, and never before its `ChildStarted`;
//! - a pid is not used again while the machine still knows it.
//!
//! What differs from OTP: there is no separate `simple_one_for_one` (dynamic
//! children with ids serve for it), no significant children and no
//! `auto_shutdown`; a stop overtakes a start that is under way (see
//! [`Action::CancelStart`]); exits that a release has caused do not count
//! against the restart intensity.

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
