//! The limits of a process: how much it may use.

use std::sync::Arc;

use exuvia_abi::Priority;

use crate::children::UNBOUNDED;
use crate::grants::Grants;

/// The limits of one process. A child's limits never exceed its parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, bytes. Growth beyond it fails inside the guest.
    pub memory: u64,
    /// Messages in the mailbox. A sender that exceeds this gets `MAILBOX_FULL`.
    pub mailbox_messages: u32,
    /// Bytes in the mailbox: payloads and records.
    pub mailbox_bytes: u64,
    /// Bytes of one message that the process sends.
    pub message_bytes: u32,
    /// Living children.
    pub children: u32,
    /// Living descendants: children, their children, and so on. [`UNBOUNDED`]: only the node's
    /// limit on processes applies.
    pub descendants: u32,
    /// Bytes in its tables: keys, values and the overhead of each row.
    pub tables: u64,
    /// The highest priority that it may have. It starts with this one, or with NORMAL if that is
    /// lower.
    pub priority: Priority,
    /// Maximum number of open files.
    pub files: u32,
    /// The resources of the system that it may use through WASI.
    pub grants: Arc<Grants>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: 16 << 20,
            mailbox_messages: 100_000,
            mailbox_bytes: 64 << 20,
            message_bytes: 16 << 20,
            children: 1_000_000,
            descendants: UNBOUNDED,
            tables: 64 << 20,
            priority: Priority::Normal,
            files: 64,
            grants: Arc::default(),
        }
    }
}

impl Limits {
    /// Returns the smaller of both in everything.
    #[must_use]
    pub fn at_most(self, parent: &Limits) -> Limits {
        Limits {
            memory: self.memory.min(parent.memory),
            mailbox_messages: self.mailbox_messages.min(parent.mailbox_messages),
            mailbox_bytes: self.mailbox_bytes.min(parent.mailbox_bytes),
            message_bytes: self.message_bytes.min(parent.message_bytes),
            children: self.children.min(parent.children),
            descendants: self.descendants.min(parent.descendants),
            tables: self.tables.min(parent.tables),
            priority: self.priority.min(parent.priority),
            files: self.files.min(parent.files),
            grants: if Arc::ptr_eq(&self.grants, &parent.grants) {
                self.grants
            } else {
                Arc::new(self.grants.at_most(&parent.grants))
            },
        }
    }
}
