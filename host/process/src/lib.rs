//! Processes: process table, mailboxes and signals, links and monitors, exit reasons, names,
//! groups, shared tables and timers. This crate does not know what a process computes: `G` is the
//! engine's half of a guest.
//!
//! A process has two halves. The [`Slot`] is shared: run state and outer mailbox. The [`Process`]
//! is private: only the thread that has set the run state to RUNNING touches it. So the protocols
//! between processes need no lock except the receiver's mailbox lock.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod account;
mod box_cell;
pub mod call;
mod children;
mod clock;
mod grants;
mod groups;
mod inbox;
mod item;
mod limits;
mod mailbox;
mod members;
mod names;
mod native;
mod payload;
mod process;
mod reason;
mod relations;
mod report_interval;
pub mod resource;
mod selector;
mod signal;
mod small;
mod snapshot;
mod state;
mod sync;
mod system;
mod table;
mod tables;
mod timers;
pub mod transaction;
mod vacant;

pub use account::{AccountRef, Charge, MaybeCharged};
pub use box_cell::BoxCell;
pub use children::{Children, Descent, Member, UNBOUNDED};
pub use clock::Clock;
pub use exuvia_abi::{Kind, Pid, Priority, Reason};
pub use grants::{Destination, Folder, GrantRequest, Grants, MOST_GRANTS, NotGranted};
pub use groups::{Groups, Membership};
pub use item::{Control, Item};
pub use limits::Limits;
pub use mailbox::{Arrivals, Closed, Mailbox, Refused};
pub use members::Members;
pub use names::{NameError, Names, Registration};
pub use native::{Context, Native, Turn, turn};
pub use payload::Payload;
pub use process::{Body, Process, RelationsInfo};
pub use reason::ExitReason;
pub use report_interval::ReportInterval;
pub use selector::Selector;
pub use signal::{CAUSED_BY_RELEASE, Envelope, Half, Signal};
pub use snapshot::{
    DecodeError, Flags, GuestSnapshot, LinkSnapshot, MonitorSnapshot, ProcessSnapshot,
    RestoreError, StayReason, StaysOnVersion, TimerSnapshot, WhyNot,
};
pub use state::{RunState, StateWord, Transition};
pub use system::{Schedule, SendError, SpawnError, SpawnSpec, System};
pub use table::{GenerationsUsedUp, MAX_PROCESSES, Requester, Slot, Stats, Table};
pub use tables::{Access, Before, Put, Removed, SharedTable, TableError, Tables};
pub use timers::{Due, Timers};
