//! The inner mailbox of a process: the messages that have arrived, and the one that is handled.

use exuvia_abi::{Kind, Pid};

use super::Process;
use crate::Payload;
use crate::account::MaybeCharged;
use crate::inbox::Inbox;
use crate::selector::Selector;
use crate::signal::Envelope;

/// Bytes of a message's payload that a failure report includes.
const REPORT_PAYLOAD_BYTES: usize = 1024;

impl<G> Process<G> {
    /// Puts `INIT` into the mailbox when the process is first taken. Until then it takes no memory,
    /// since millions may be spawned before they run.
    #[inline]
    pub(crate) fn deliver_init(&mut self) {
        if self.init_pending {
            self.init_pending = false;
            let init = self.init();
            self.deliver(init);
        }
    }

    /// Returns the first message of the process, which it receives again after a reset.
    pub(super) fn init(&self) -> Envelope {
        let (parent, arguments) = match &self.spawn_info {
            Some(spawn_info) => (spawn_info.parent, Payload::clone(&spawn_info.arguments)),
            None => (Pid::NONE, Payload::empty()),
        };
        Envelope {
            kind: Kind::Init,
            ..Envelope::message(parent, 0, arguments)
        }
    }

    /// Appends a message, regardless of all limits. The sender of a request is recorded as waiting
    /// from now on, not only when the request is received: if it gives up meanwhile, no record must
    /// remain.
    #[inline]
    pub fn deliver(&mut self, envelope: Envelope) {
        self.deliver_charged(envelope.into());
    }

    #[inline]
    pub(super) fn deliver_charged(&mut self, envelope: MaybeCharged<Envelope>) {
        if envelope.kind == Kind::Request {
            let waiter = (envelope.sender, envelope.reference);
            self.relations().watchers.insert(waiter, ());
        }
        self.active().inbox.push_back(envelope);
    }
}

impl<G: 'static> Process<G> {
    /// Returns the position of the first wanted message.
    #[inline]
    pub fn position(&self, wanted: &Selector) -> Option<usize> {
        self.inbox()?.position(wanted)
    }

    /// Returns how many messages [`Process::position`] has examined since the last call. Searches
    /// of a short inbox do not count.
    #[inline]
    pub fn take_scanned(&self) -> u32 {
        self.inbox().map_or(0, Inbox::take_scanned)
    }

    /// Returns a message in the inner mailbox.
    pub fn peek(&self, position: usize) -> Option<&Envelope> {
        self.inbox()?.get(position)
    }

    /// Removes a message from the inner mailbox. A request's sender stays recorded until it gets a
    /// reply.
    pub fn take(&mut self, position: usize) -> Option<Envelope> {
        self.active.as_mut()?.inbox.take(position)
    }

    /// Records the message that is being handled from now on. Only the beginning of a large payload
    /// is kept: the process may become idle meanwhile, and these bytes count against no limit.
    #[inline]
    pub fn handles(&mut self, mut message: Envelope) {
        if message.payload.len() > REPORT_PAYLOAD_BYTES {
            message.payload = Payload::new(&message.payload.as_slice()[..REPORT_PAYLOAD_BYTES]);
        }
        self.active().current = Some(message);
    }

    /// Records that no message is being handled any more.
    #[inline]
    pub fn has_handled(&mut self) {
        if let Some(active) = &mut self.active {
            active.current = None;
        }
    }

    /// Returns the message that is being handled, as far as it is kept.
    pub fn handled(&self) -> Option<&Envelope> {
        self.active.as_ref()?.current.as_ref()
    }

    /// Inserts a message at its former position again, because its handler's effects were rolled back. A
    /// sender that has given up its request meanwhile is not recorded again.
    pub fn reinsert(&mut self, position: usize, envelope: Envelope) {
        self.active().inbox.insert(position, envelope);
    }

    /// Returns whether `INIT` waits. It is in front then: it is the first message of a process, a
    /// reset inserts it in front, and what is reinserted behind it stays behind it.
    pub fn is_init_waiting(&self) -> bool {
        self.peek(0).is_some_and(|first| first.kind == Kind::Init)
    }

    /// Inserts `INIT` in front of the mailbox or removes it, so that it waits or not.
    pub fn set_init_waiting(&mut self, waits: bool) {
        match (self.is_init_waiting(), waits) {
            (false, true) => self.reinsert(0, self.init()),
            (true, false) => drop(self.take(0)),
            (true, true) | (false, false) => {}
        }
    }

    /// Returns how many messages have arrived in the inner mailbox. The count may begin anew when the
    /// mailbox is empty ([`Process::trim`]).
    pub fn arrivals(&self) -> u64 {
        self.inbox().map_or(0, Inbox::came)
    }

    /// Returns the number of messages in the inner mailbox.
    pub fn inbox_len(&self) -> usize {
        self.inbox().map_or(0, Inbox::len)
    }
}
