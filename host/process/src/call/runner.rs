//! What calls need of the runner of a process, and of the node around it. The engine implements
//! both traits; nothing is called through a vtable.

use std::sync::Arc;

use exuvia_abi::{Kind, Pid};

use crate::Payload;
use crate::grants::GrantRequest;
use crate::limits::Limits;
use crate::native::Native;
use crate::process::{Body, Process};
use crate::signal::Envelope;
use crate::transaction::Transaction;

/// The runner's half of a guest: `G` of [`Process`].
pub trait Runner: Sized + Send + 'static {
    /// Returns the transaction in which the guest handles a message, if it is in one.
    fn transaction(&mut self) -> Option<&mut Transaction<Self>>;

    /// Takes the same transaction, to end it.
    fn take_transaction(&mut self) -> Option<Transaction<Self>>;

    /// Returns the name of the module that the guest runs.
    fn module(&self) -> &str;

    /// Returns the number of its upgrades to new code so far.
    fn upgrades(&self) -> u32;
}

impl<G: Runner> Process<G> {
    /// Returns the name of the module of the process, for lines of the host's log that its guest
    /// causes: their rate is limited for each module.
    pub fn module(&self) -> &str {
        match &self.body {
            Body::Guest(guest) => guest.module(),
            Body::Native(_) => "a process of the host",
        }
    }
}

/// For tests: a process without code, which is in no transaction.
impl Runner for () {
    fn transaction(&mut self) -> Option<&mut Transaction<()>> {
        None
    }

    fn take_transaction(&mut self) -> Option<Transaction<()>> {
        None
    }

    fn module(&self) -> &str {
        "none"
    }

    fn upgrades(&self) -> u32 {
        0
    }
}

/// A process that can be started.
#[derive(Debug)]
pub struct NewGuest<G> {
    /// The runner's half of it.
    pub guest: G,
    /// Bytes of memory that it begins with.
    pub memory_bytes: u64,
}

/// What a node does for calls beyond what processes do to one another.
pub trait CallServices<G> {
    /// Returns a process of a module of the current release; `None`: it has no such module.
    fn new_guest(&self, module: &str) -> Option<NewGuest<G>>;

    /// Returns whether a process may wait in the middle of a handler. False: too many do.
    fn may_wait(&self, process: &mut Process<G>) -> bool;

    /// Returns the grants that are requested for a child, given in MessagePack, or what is wrong
    /// with them. `None`: the node grants nothing.
    fn grants(&self, text: &[u8]) -> Option<Result<GrantRequest, String>>;

    /// Returns the process of a supervisor, given its specification in MessagePack, or what is
    /// wrong with it. Its children never get more than `limits`. `None`: the node has no
    /// supervisors.
    fn supervisor(
        &self,
        specification: &[u8],
        limits: &Arc<Limits>,
    ) -> Option<Result<Box<dyn Native<G>>, String>>;

    /// Returns a value of the app's configuration, in MessagePack.
    fn config(&self, key: &str) -> Option<Vec<u8>>;

    /// Traces a message that a process sends, if [`Process::traced`] is set.
    fn trace_sent(&self, process: &mut Process<G>, to: Pid, sent: &Sent<'_>);

    /// Traces a message that a process has taken, if [`Process::traced`] is set.
    fn trace_received(&self, process: &mut Process<G>, message: &Envelope);
}

/// A message that a process sends, for a trace.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its tag.
    pub tag: u32,
    /// The reference of a request and its reply; 0 for none.
    pub reference: u64,
    /// The bytes.
    pub payload: &'a Payload,
}
