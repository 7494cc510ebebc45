//! Calls about messages: receive, send, request, call, reply.

use exuvia_abi::{Code, Kind, Pid, Reason, receive};

use super::error::accepted;
use super::{CallError, CallResult, CallServices, Caller, Runner};
use crate::ExitReason;
use crate::selector::Selector;
use crate::signal::Envelope;
use crate::system::SendError;

/// A reply to [`Caller::call`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replied {
    /// It is in the mailbox, at this position.
    At(usize),
    /// The receiver has ended before it replied: a `DOWN` is in the mailbox, at this position.
    Down(usize),
}

/// The flags of `receive`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveFlags {
    /// [`receive::UPGRADE`].
    pub upgrade: bool,
    /// [`receive::TRUNCATE`].
    pub truncate: bool,
    /// [`receive::PEEK`].
    pub peek: bool,
}

/// Checks the arguments of `receive`: a mode of [`receive`] with flags, and a timeout in
/// milliseconds. Returns the mode and the flags.
#[inline]
pub fn receive_mode(mode: i32, timeout: i64) -> Result<(i32, ReceiveFlags), Code> {
    let (flags, mode) = (mode & !receive::MODE, mode & receive::MODE);
    let has = |flag: i32| flags & flag != 0;
    let known = receive::UPGRADE | receive::TRUNCATE | receive::PEEK;
    let is_valid = mode <= receive::REFERENCES
        && flags & !known == 0
        && !(has(receive::UPGRADE) && mode != receive::ANY)
        && !(has(receive::TRUNCATE) && has(receive::PEEK))
        && timeout >= receive::FOREVER;
    if !is_valid {
        return Err(Code::BadArgument);
    }
    let flags = ReceiveFlags {
        upgrade: has(receive::UPGRADE),
        truncate: has(receive::TRUNCATE),
        peek: has(receive::PEEK),
    };
    Ok((mode, flags))
}

impl<G: Runner, S: CallServices<G>> Caller<'_, G, S> {
    /// Returns the position of the first wanted message, among those that have arrived by now.
    #[inline]
    pub fn receive(&mut self, wanted: &Selector) -> CallResult<Option<usize>> {
        let mut position = self.process.position(wanted);
        if position.is_none() {
            self.drain()?;
            position = self.process.position(wanted);
        }
        if *wanted != Selector::Any {
            self.debt.examined(self.process.take_scanned());
        }
        Ok(position)
    }

    /// Returns what selects the messages of a process, or of the host and sources outside the node
    /// ([`Pid::NONE`]). Returns [`Code::BadArgument`] for an unknown pid.
    pub fn messages_of(&self, sender: Pid) -> Result<Selector, Code> {
        if sender != Pid::NONE {
            self.known(sender)?;
        }
        Ok(Selector::Sender(sender))
    }

    /// Takes the message at a position out of the mailbox, to be handled. The caller has copied it
    /// before, from [`Process::peek`](crate::Process::peek), unless it is large.
    #[inline]
    pub fn take(&mut self, position: usize) -> Result<(), Code> {
        let message = self.process.take(position).ok_or(Code::Empty)?;
        if self.process.traced {
            self.services.trace_received(self.process, &message);
        }
        match self.transaction() {
            Some(transaction) => transaction.took(position, message),
            None => self.process.handles(message),
        }
        Ok(())
    }

    /// Sends a message. Returns [`Code::BadArgument`] for an unknown pid,
    /// [`Code::MessageTooLarge`], or [`Code::MailboxFull`].
    ///
    /// In a transaction the mailbox is checked now, and the message is sent on commit; if the
    /// mailbox is full by then, the message is lost, with a line in the node's log.
    #[inline]
    pub fn send(&mut self, to: Pid, tag: u32, payload: &[u8]) -> CallResult<()> {
        let slot = self.known(to)?;
        let payload = self.payload(payload)?;
        let envelope = Envelope::message(self.process.pid(), tag, payload);
        if !self.is_deferred() {
            self.trace(to, Kind::Message, tag, 0, &envelope.payload);
            return Ok(accepted(self.system.send_to(slot, to, envelope))?);
        }
        self.check_mailbox(to, &envelope)?;
        self.trace(to, Kind::Message, tag, 0, &envelope.payload);
        self.count_payload(envelope.payload.len());
        self.defer(move |process, system| {
            if let Err(SendError::Full) = system.send(to, envelope) {
                tracing::warn!(module = %process.module(), from = %process.pid(), %to, "a message deferred in probation was refused: the mailbox has become full");
            }
        });
        Ok(())
    }

    /// Returns [`Code::MailboxFull`] if a message that is deferred would not be accepted now.
    fn check_mailbox(&self, to: Pid, envelope: &Envelope) -> Result<(), Code> {
        accepted(self.system.would_accept(to, envelope))
    }

    /// Sends a request. Returns its reference, under which either a reply or a `DOWN` arrives, or
    /// an error of [`Caller::send`], or [`Code::Limit`].
    ///
    /// In a transaction the mailbox is checked now; if it is full on commit, a `DOWN` with LIMIT
    /// arrives.
    pub fn request(&mut self, to: Pid, tag: u32, payload: &[u8]) -> CallResult<u64> {
        self.known(to)?;
        let payload = self.payload(payload)?;
        self.may_monitor(1)?;
        let deferred = self.is_deferred();
        let reference = self.process.new_reference();
        if deferred {
            let envelope = Envelope {
                reference,
                kind: Kind::Request,
                ..Envelope::message(self.process.pid(), tag, payload.clone())
            };
            self.check_mailbox(to, &envelope)?;
        }
        self.trace(to, Kind::Request, tag, reference, &payload);
        if !deferred {
            let sent = (self.process).request(self.system, to, reference, tag, payload);
            accepted(sent)?;
            return Ok(reference);
        }
        self.promise(0, 1);
        self.count_payload(payload.len());
        self.defer(move |process, system| {
            let sent = process.request(system, to, reference, tag, payload);
            if sent.is_err() {
                // Too late to return a code, but every request gets a reply or a DOWN.
                let reason = ExitReason::with(Reason::LIMIT.0, b"the mailbox is full");
                process.fail_request(system, to, reference, &reason);
            }
        });
        Ok(reference)
    }

    /// Begins a call: sends a request whose reply the process waits for. `waits`: the timeout is
    /// not 0. Returns the reference for [`Caller::replied`]; errors as [`Caller::request`], and
    /// [`Code::BadArgument`] if the process calls itself.
    pub fn call(&mut self, to: Pid, tag: u32, payload: &[u8], waits: bool) -> CallResult<u64> {
        self.known(to)?;
        if to == self.process.pid() {
            return Err(Code::BadArgument.into());
        }
        let payload = self.payload(payload)?;
        self.may_monitor(1)?;
        if waits {
            self.may_wait()?;
        }
        self.commits();
        let reference = self.process.new_reference();
        self.trace(to, Kind::Request, tag, reference, &payload);
        accepted((self.process).request(self.system, to, reference, tag, payload))?;
        Ok(reference)
    }

    /// Returns the reply to a call, if it has arrived.
    pub fn replied(&mut self, reference: u64) -> CallResult<Option<Replied>> {
        self.drain()?;
        let position = self.process.position(&Selector::Reference(reference));
        self.debt.examined(self.process.take_scanned());
        Ok(position.map(|position| {
            let message = self.process.peek(position);
            match message.is_some_and(|message| message.kind == Kind::Down) {
                true => Replied::Down(position),
                false => Replied::At(position),
            }
        }))
    }

    /// Cancels a request that the process itself has been waiting for.
    pub fn cancel_request(&mut self, reference: u64) {
        let to = self.process.monitored(reference);
        self.process.demonitor(self.system, reference, true);
        self.signalled(to.unwrap_or(Pid::NONE));
    }

    /// Replies to a request. Errors as [`Caller::send`], but for a full mailbox.
    pub fn reply(
        &mut self,
        to: Pid,
        reference: u64,
        tag: u32,
        payload: &[u8],
    ) -> Result<(), CallError> {
        self.known(to)?;
        let payload = self.payload(payload)?;
        self.trace(to, Kind::Reply, tag, reference, &payload);
        self.count_payload(payload.len());
        self.defer(move |process, system| process.reply(system, to, reference, tag, payload));
        self.signalled(to);
        Ok(())
    }
}
