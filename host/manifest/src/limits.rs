//! What a process may use: `limits`, and `wasi` and `net` next to it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use exuvia_abi::Priority;
use exuvia_process::Destination;
pub use exuvia_process::MOST_GRANTS as MAX_GRANTS;

/// What one process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory.
    pub memory: u64,
    /// Messages in the mailbox.
    pub mailbox_messages: u64,
    /// Bytes of the messages in the mailbox.
    pub mailbox_bytes: u64,
    /// Bytes of one message.
    pub message_bytes: u64,
    /// Living processes that it has started; for a supervisor, its children.
    pub children: u64,
    /// Living processes below it: its children, their children, and so on; by default as many as
    /// the node may have.
    pub descendants: Option<u64>,
    /// Bytes in its tables.
    pub tables: u64,
    /// The highest priority that it may have.
    pub priority: Priority,
    /// Files that it may have open through WASI.
    pub files: u64,
    /// What it may use through WASI and of the network: the tables `wasi` and `net` next to `limits`.
    pub grants: Grants,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 16 << 20,
            mailbox_messages: 100_000,
            mailbox_bytes: 64 << 20,
            message_bytes: 16 << 20,
            children: 1_000_000,
            descendants: None,
            tables: 64 << 20,
            priority: Priority::Normal,
            files: 64,
            grants: Grants::default(),
        }
    }
}

/// What a process may use of the system, through WASI and of the network. Everything else is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Its folders, in the order of their paths in the guest.
    pub folders: Vec<Folder>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its arguments, without the program name.
    pub args: Vec<String>,
    /// Whether its output goes to the node's terminal instead of the log.
    pub terminal: bool,
    /// `net.connect`: where it may connect to.
    pub connect: Vec<Destination>,
}

/// A folder that a process may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The path under which the process sees it.
    pub guest: String,
    /// The folder of the host.
    pub host: PathBuf,
    /// Whether the process may change its contents.
    pub write: bool,
}
