//! Processes as such: records and table, mailboxes and signals, links and
//! monitors, exit reasons, names and timers. What a process computes is not
//! known here: `G` is the engine's half of a guest.
//!
//! A process has two halves. The [`Slot`] is what everybody may touch: run
//! state and outer mailbox. The [`Own`] half is touched by whoever has brought
//! the run state to RUNNING, and by nobody else; so the protocols between
//! processes need no lock but the receiver's mailbox.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod account;
mod children;
mod clock;
mod grants;
mod groups;
mod inbox;
mod limits;
mod mailbox;
mod members;
mod names;
mod native;
mod own;
mod payload;
mod reason;
mod relations;
mod signal;
mod small;
mod state;
mod sync;
mod system;
mod table;
mod tables;
mod timers;
mod vacant;

pub use account::Charge;
pub use children::{Children, Descent, Member, UNBOUNDED};
pub use clock::Clock;
pub use exuvia_abi::{Kind, Pid, Priority, Reason};
pub use grants::{Folder, Grants, MOST_GRANTS, NotGranted, Wanted};
pub use groups::{Groups, Membership};
pub use limits::Limits;
pub use mailbox::{Arrivals, Closed, Mailbox, Refused};
pub use members::Members;
pub use names::{NameError, Names, Registration};
pub use native::{Context, Native, Turn, turn};
pub use own::{Body, Own, Ties};
pub use payload::Payload;
pub use reason::ExitReason;
pub use signal::{CAUSED_BY_RELEASE, Control, Envelope, Signal};
pub use state::{RunState, State, Then};
pub use system::{Birth, Schedule, SendError, SpawnError, System};
pub use table::{For, MAX_PROCESSES, Slot, Stats, Table};
pub use tables::{Access, Before, Put, Removed, SharedTable, TableError, Tables};
pub use timers::{Due, Timers};
