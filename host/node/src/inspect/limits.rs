//! The limits of a process, as operators see them: with the keys of the manifest.

use std::sync::Arc;

use exuvia_abi::Priority;
use exuvia_process::{Grants, Limits, UNBOUNDED};
use serde::{Serialize, Serializer};

use crate::grants;

/// What one process may use.
#[derive(Clone, Debug, Serialize)]
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
    #[serde(serialize_with = "lower_case")]
    pub priority: Priority,
    /// Files that it may have open through WASI.
    pub files: u32,
    /// What it may use through WASI.
    #[serde(rename = "wasi", serialize_with = "shown")]
    pub grants: Arc<Grants>,
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
            priority: limits.priority,
            files: limits.files,
            grants: limits.grants.clone(),
        }
    }
}

fn shown<S: Serializer>(grants: &Arc<Grants>, to: S) -> Result<S::Ok, S::Error> {
    grants::shown(grants, to)
}

fn lower_case<S: Serializer>(priority: &Priority, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("{priority:?}").to_lowercase())
}
