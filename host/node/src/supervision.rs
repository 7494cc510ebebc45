//! The supervision of an app: its supervisors as processes, what the host asks of them, and what is
//! known of the start of the tree.

mod asked;
mod boot_progress;
mod edit;
mod process;
mod protocol;
mod readiness;
mod rights;
mod spec;

pub(crate) use asked::{Asked, Asks, ask};
pub(crate) use boot_progress::BootProgress;
pub use edit::TreeChanges;
pub(crate) use edit::{Edit, EditReport, Edits, hand_over};
use process::{Machine, SupervisorProcess, make};
pub(crate) use protocol::from_guest;
pub(crate) use rights::Managers;
pub(crate) use spec::{Start, from_entry};
use spec::{lasting_place, spec_of};
