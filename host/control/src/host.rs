//! What the server needs of a node. Every method may block: the server calls
//! them on threads that may.

use std::fmt::Display;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

use exuvia_node::{Suspended, Traced};
use serde::Serialize;
use tokio::sync::broadcast;

use crate::error::Failure;
use crate::wire::{DeployOptions, Sort};

/// A node as the server sees it.
pub trait Host: Clone + Send + Sync + 'static {
    /// What `GET /v1/info` answers.
    type Info: Serialize + Send;
    /// One process in `GET /v1/processes`.
    type Process: Serialize + Send;
    /// What a swap did; its text is one line.
    type Swap: Serialize + Display + Send;
    /// What `GET /v1/process` answers, without the process's state.
    type Inspection: Serialize + Send;
    /// What `GET /v1/top` answers.
    type Top: Serialize + Send;
    /// What `GET /v1/describe` answers.
    type Description: Serialize + Send;
    /// A root in `GET /v1/tree`.
    type Branch: Serialize + Send;
    /// Something that happened; its text is one line.
    type Event: Serialize + Display + Clone + Send + 'static;

    /// The node as a whole.
    fn info(&self) -> Self::Info;
    /// At most `limit` processes, of one module if one is named.
    fn processes(&self, module: Option<String>, limit: usize) -> Vec<Self::Process>;
    /// All that is known of a pid or name, and its state as its `save` hands it
    /// over.
    fn inspect(&self, target: &str) -> Result<(Self::Inspection, Option<Vec<u8>>), Failure>;
    /// The `limit` processes that come first, sorted.
    fn top(&self, sort: Sort, limit: usize) -> Self::Top;
    /// What a pid or name receives and sends, `limit` messages at most.
    fn trace(&self, target: &str, limit: u64) -> Result<Receiver<Traced>, Failure>;
    /// Has a pid or name take no messages, or take them again.
    fn suspend(&self, target: &str, on: bool) -> Result<Suspended, Failure>;
    /// Kills a pid or name, for this reason; answers its pid, and whether it has ended.
    fn kill(&self, target: &str, reason: Option<&str>) -> Result<(String, bool), Failure>;
    /// Has the supervisor of a pid or name start it again; answers the old and the new pid.
    fn restart(&self, target: &str) -> Result<(String, String), Failure>;
    /// What a pid or name understands.
    fn describe(&self, target: &str) -> Result<Self::Description, Failure>;
    /// The supervision tree, at most so many processes of it.
    fn tree(&self, limit: usize) -> Vec<Self::Branch>;
    /// Sends a message to a pid or name. `hear`: answers what the receiver logs as a
    /// warning or worse while it handles it.
    fn send(
        &self,
        to: &str,
        tag: u32,
        payload: Vec<u8>,
        hear: bool,
    ) -> Result<Vec<String>, Failure>;
    /// Calls a pid or name; answers tag and payload of the reply.
    fn call(
        &self,
        to: &str,
        tag: u32,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(u32, Vec<u8>), Failure>;
    /// Swaps modules, all or none.
    fn deploy(&self, modules: Vec<Upload>, options: DeployOptions) -> Result<Self::Swap, Failure>;
    /// Goes back to the release before.
    fn rollback(&self) -> Result<Self::Swap, Failure>;
    /// What happens from now on.
    fn events(&self) -> broadcast::Receiver<Self::Event>;
    /// When it happened.
    fn event_time(event: &Self::Event) -> SystemTime;
}

/// A module's new bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The module's name in the manifest.
    pub name: String,
    /// Where the bytes are from, for messages.
    pub source: String,
    /// The module.
    pub bytes: Vec<u8>,
}
