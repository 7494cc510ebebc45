//! The limits of a process, as operators see them.

use exuvia_process::{Grants, Limits, UNBOUNDED};

/// What one process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsInfo {
    /// Bytes of linear memory.
    pub memory: u64,
    /// Messages in the mailbox.
    pub mailbox_messages: u32,
    /// Bytes of the messages in the mailbox.
    pub mailbox_bytes: u64,
    /// Bytes of one message.
    pub message_bytes: u32,
    /// Living processes that it has started.
    pub children: u32,
    /// Living processes below it; `None`: as many as the node may have.
    pub descendants: Option<u32>,
    /// Bytes in its tables.
    pub tables: u64,
    /// The highest priority that it may have: `low`, `normal`, `high`.
    pub priority: String,
    /// Files that it may have open through WASI.
    pub files: u32,
    /// What it may use through WASI.
    pub wasi: WasiInfo,
    /// Where it may connect to.
    pub connect: Vec<String>,
}

/// What one process may use through WASI. Of the environment only the names: a value may be a
/// secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasiInfo {
    /// Its folders.
    pub dirs: Vec<DirInfo>,
    /// The names of its variables.
    pub env: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Whether it writes to the terminal; else its output is logged.
    pub terminal: bool,
}

/// A folder that a process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirInfo {
    /// The path in the process.
    pub guest: String,
    /// The path in the system.
    pub path: String,
    /// Whether it may write there.
    pub write: bool,
}

impl From<&Limits> for LimitsInfo {
    fn from(limits: &Limits) -> LimitsInfo {
        LimitsInfo {
            memory: limits.memory,
            mailbox_messages: limits.mailbox_messages,
            mailbox_bytes: limits.mailbox_bytes,
            message_bytes: limits.message_bytes,
            children: limits.children,
            descendants: (limits.descendants != UNBOUNDED).then_some(limits.descendants),
            tables: limits.tables,
            priority: format!("{:?}", limits.priority).to_lowercase(),
            files: limits.files,
            wasi: WasiInfo::from(&*limits.grants),
            connect: limits
                .grants
                .connect
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

impl From<&Grants> for WasiInfo {
    fn from(grants: &Grants) -> WasiInfo {
        let dirs = grants.folders.iter().map(|folder| DirInfo {
            guest: folder.guest.clone(),
            path: folder.path().display().to_string(),
            write: folder.write,
        });
        WasiInfo {
            dirs: dirs.collect(),
            env: grants.env.keys().cloned().collect(),
            args: grants.args.clone(),
            terminal: grants.terminal,
        }
    }
}
