//! The interface that the server needs of a node. Every method but `events`, `event_line` and
//! `message_line` may block: the server calls them on threads that may block.

mod convert;
mod node;

use std::sync::mpsc::Receiver;
use std::time::Duration;

use exuvia_api::{
    DeployOptions, Description, EventLine, Info, Inspection, Killed, Problem, ProcessPage, Release,
    Rendered, Restarted, RollbackOptions, Sent, Sort, SupervisionTree, Suspended, Swap, Top,
    Upload,
};
use exuvia_node::{SwapReport, TimedEvent, Traced};
use tokio::sync::broadcast;

pub(crate) use self::convert::rendered;
pub use self::node::NodeHost;

/// A node as the server sees it. A target is a pid or a registered name.
pub trait Host: Clone + Send + Sync + 'static {
    /// An event.
    type Event: Clone + Send + 'static;

    /// Returns the state of the node.
    fn info(&self) -> Info;
    /// Returns why the app is not up, if it is not.
    fn not_ready(&self) -> Option<String>;
    /// Lists at most `limit` processes with a slot above `after`, only those of `module` if one
    /// is given.
    fn processes(&self, module: Option<String>, after: Option<u32>, limit: usize) -> ProcessPage;
    /// Returns all that is known of a target.
    fn inspect(&self, target: &str) -> Result<Inspection, Problem>;
    /// Returns the first `limit` processes in the order of `sort`.
    fn top(&self, sort: Sort, limit: usize) -> Top;
    /// Traces the messages that a target receives and sends, at most `limit` of them.
    fn trace(&self, target: &str, limit: u64) -> Result<Receiver<Traced>, Problem>;
    /// Suspends a target, which then takes no messages, or resumes it.
    fn suspend(&self, target: &str, on: bool) -> Result<Suspended, Problem>;
    /// Kills a target with this reason.
    fn kill(&self, target: &str, reason: Option<&str>) -> Result<Killed, Problem>;
    /// Makes the supervisor of a target restart it.
    fn restart(&self, target: &str) -> Result<Restarted, Problem>;
    /// Returns the functions that a target accepts.
    fn describe(&self, target: &str) -> Result<Description, Problem>;
    /// Returns the supervision tree with at most `limit` processes.
    fn tree(&self, limit: usize) -> SupervisionTree;
    /// Returns whether a target is a process of the host, as supervisors are: they do what an operator asks.
    fn is_native(&self, target: &str) -> bool;
    /// Sends a message to a target. With `observe`, returns what the receiver logs as a warning
    /// or worse while it handles the message.
    fn send(
        &self,
        target: &str,
        tag: u32,
        payload: Vec<u8>,
        observe: bool,
    ) -> Result<Sent, Problem>;
    /// Calls a target; returns the tag and payload of the reply.
    fn call(
        &self,
        target: &str,
        tag: u32,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(u32, Vec<u8>), Problem>;
    /// Returns the current release and those that can be rolled back to, newest first.
    fn releases(&self) -> Result<Vec<Release>, Problem>;
    /// Returns the bytes of a module of a release.
    fn module_of(&self, release: u64, module: &str) -> Result<Vec<u8>, Problem>;
    /// Pins a release, or no longer; returns whether that is a change.
    fn pin(&self, release: u64, on: bool) -> Result<bool, Problem>;
    /// Swaps modules, all or none.
    fn deploy(
        &self,
        modules: Vec<Upload>,
        options: DeployOptions,
        author: String,
    ) -> Result<Swap, Problem>;
    /// Rolls back to the previous release, or to one that is named.
    fn rollback(&self, options: RollbackOptions, author: String) -> Result<Swap, Problem>;
    /// Subscribes to the events from now on.
    fn events(&self) -> broadcast::Receiver<Self::Event>;
    /// Returns an event as it is sent.
    fn event_line(&self, event: &Self::Event) -> EventLine;
    /// Returns the line of a traced message; its payload is `None` if it is too long to be shown.
    fn message_line(&self, traced: &Traced, payload: Option<&Rendered>) -> String;
}

/// What people read in the API: its fields `line`. The program that serves a node has the words; the
/// server and the node have data.
#[derive(Clone, Copy, Debug)]
pub struct Sentences {
    /// Returns an event as it is sent.
    pub event: fn(&TimedEvent) -> EventLine,
    /// Returns the line of a swap.
    pub swap: fn(&SwapReport) -> String,
    /// Returns the line of a traced message; its payload is `None` if it is too long to be shown.
    pub message: fn(&Traced, Option<&Rendered>) -> String,
}
