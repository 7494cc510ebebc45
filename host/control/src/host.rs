//! The interface that the server needs of a node. Every method may block: the server calls them
//! on threads that may block.

use std::fmt::Display;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

use exuvia_api::{DeployOptions, Failure, Sort, Upload};
use exuvia_node::{Suspended, Traced};
use serde::Serialize;
use tokio::sync::broadcast;

/// A node as the server sees it.
pub trait Host: Clone + Send + Sync + 'static {
    /// The response of `GET /v1/info`.
    type Info: Serialize + Send;
    /// One process in `GET /v1/processes`.
    type Process: Serialize + Send;
    /// The report of a swap; its `Display` text is one line.
    type Swap: Serialize + Display + Send;
    /// The response of `GET /v1/process`, without the process's state.
    type Inspection: Serialize + Send;
    /// The response of `GET /v1/top`.
    type Top: Serialize + Send;
    /// The response of `GET /v1/describe`.
    type Description: Serialize + Send;
    /// A root in `GET /v1/tree`.
    type Branch: Serialize + Send;
    /// An event; its `Display` text is one line.
    type Event: Serialize + Display + Clone + Send + 'static;

    /// Returns information about the node as a whole.
    fn info(&self) -> Self::Info;
    /// Lists at most `limit` processes, only those of `module` if one is given.
    fn processes(&self, module: Option<String>, limit: usize) -> Vec<Self::Process>;
    /// Returns all that is known of a pid or name, and its state as its `save` returns it.
    fn inspect(&self, target: &str) -> Result<(Self::Inspection, Option<Vec<u8>>), Failure>;
    /// Returns the first `limit` processes in the order of `sort`.
    fn top(&self, sort: Sort, limit: usize) -> Self::Top;
    /// Traces the messages that a pid or name receives and sends, at most `limit` of them.
    fn trace(&self, target: &str, limit: u64) -> Result<Receiver<Traced>, Failure>;
    /// Suspends a pid or name, which then takes no messages, or resumes it.
    fn suspend(&self, target: &str, on: bool) -> Result<Suspended, Failure>;
    /// Kills a pid or name with this reason; returns its pid and whether it has terminated.
    fn kill(&self, target: &str, reason: Option<&str>) -> Result<(String, bool), Failure>;
    /// Makes the supervisor of a pid or name restart it; returns the old and the new pid.
    fn restart(&self, target: &str) -> Result<(String, String), Failure>;
    /// Returns the functions that a pid or name accepts.
    fn describe(&self, target: &str) -> Result<Self::Description, Failure>;
    /// Returns the supervision tree with at most `limit` processes.
    fn tree(&self, limit: usize) -> Vec<Self::Branch>;
    /// Sends a message to a pid or name. With `hear`, returns what the receiver logs as a
    /// warning or worse while it handles the message.
    fn send(
        &self,
        to: &str,
        tag: u32,
        payload: Vec<u8>,
        hear: bool,
    ) -> Result<Vec<String>, Failure>;
    /// Calls a pid or name; returns the tag and payload of the reply.
    fn call(
        &self,
        to: &str,
        tag: u32,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(u32, Vec<u8>), Failure>;
    /// Swaps modules, all or none.
    fn deploy(&self, modules: Vec<Upload>, options: DeployOptions) -> Result<Self::Swap, Failure>;
    /// Rolls back to the previous release.
    fn rollback(&self) -> Result<Self::Swap, Failure>;
    /// Subscribes to the events from now on.
    fn events(&self) -> broadcast::Receiver<Self::Event>;
    /// Returns the time of an event.
    fn event_time(event: &Self::Event) -> SystemTime;
}
