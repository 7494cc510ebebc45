//! What the engine and its node do for calls beyond what processes do to one another.

use std::sync::Arc;

use exuvia_abi::Pid;
use exuvia_process::call::{CallServices, Caller, NewGuest, Runner, Sent};
use exuvia_process::transaction::Transaction;
use exuvia_process::{Envelope, GrantRequest, Limits, Native};

use crate::guest::{Guest, GuestProcess};
use crate::host::Host;

/// The services for calls, of its guests or on behalf of other processes.
#[derive(Clone, Copy, Debug)]
pub struct HostServices<'a>(pub(crate) &'a Host);

/// A process that makes a call.
pub type HostCaller<'a> = Caller<'a, Guest, HostServices<'a>>;

impl CallServices<Guest> for HostServices<'_> {
    fn new_guest(&self, module: &str) -> Option<NewGuest<Guest>> {
        let guest = self.0.new_process(module)?;
        let memory_bytes = guest.version.version().artifact.memory_bytes();
        Some(NewGuest {
            guest,
            memory_bytes,
        })
    }

    /// Returns false if blocked processes keep too many frames already. A process of a
    /// resident-only module keeps its frame in any case.
    fn may_wait(&self, process: &mut GuestProcess) -> bool {
        let keeps = |guest: &mut Guest| !guest.version.artifact.resident_only().is_empty();
        self.0.blocking.may_block() || process.guest().is_some_and(keeps)
    }

    fn grants(&self, text: &[u8]) -> Option<Result<GrantRequest, String>> {
        Some(self.0.services.get()?.grants(text))
    }

    fn supervisor(
        &self,
        specification: &[u8],
        limits: &Arc<Limits>,
    ) -> Option<Result<Box<dyn Native<Guest>>, String>> {
        Some(self.0.services.get()?.supervisor(specification, limits))
    }

    fn config(&self, key: &str) -> Option<Vec<u8>> {
        self.0.services.get()?.config(key)
    }

    fn trace_sent(&self, process: &mut GuestProcess, to: Pid, sent: &Sent<'_>) {
        self.0.trace_sent(process, to, sent);
    }

    fn trace_received(&self, process: &mut GuestProcess, message: &Envelope) {
        self.0.trace_received(process, message);
    }
}

impl Runner for Guest {
    #[inline]
    fn transaction(&mut self) -> Option<&mut Transaction<Guest>> {
        self.probation.as_mut()?.transaction.as_mut()
    }

    fn take_transaction(&mut self) -> Option<Transaction<Guest>> {
        self.probation.as_mut()?.transaction.take()
    }

    fn module(&self) -> &str {
        &self.version.module
    }

    fn upgrades(&self) -> u32 {
        self.upgrades
    }
}
