//! The port of a connection: what a socket or a streamed body and its owner send each other, with credit.
//!
//! What arrives from outside goes to the owner as requests, of which some may be unanswered at a time: a reply is the
//! credit for one more. Or it goes to those who ask for it, as the replies to their requests, for which they are charged until
//! they have received them; what they have no room for waits. The body of a request or of a
//! response goes nowhere until one of both is asked for. What the owner sends waits in a queue until it is written; while the queue is full the process
//! takes no more messages, so that its mailbox fills up and senders are told.

use std::collections::VecDeque;

use exuvia_abi::{Kind, Pid};
use exuvia_process::{AccountRef, Envelope, ExitReason, Payload, Process, SendError, System};

use exuvia_abi::io::{
    REFUSED, SOCKET_CLOSE, SOCKET_DATA, SOCKET_DATAGRAM, SOCKET_END, SOCKET_TEXT,
};

/// Requests to the owner that may be unanswered.
const WINDOW: usize = 8;
/// Bytes of these requests; one request may be larger.
const WINDOW_BYTES: usize = 256 << 10;
/// Requests for what arrives that may wait for it.
const READERS: usize = 8;
/// What may wait until it is written.
const QUEUE: usize = 64;
/// Bytes of it; more may come with the last.
const QUEUE_BYTES: usize = 64 << 10;

/// The state of a port.
#[derive(Debug)]
pub(crate) struct Port {
    owner: Pid,
    kind: PortKind,
    /// Requests to the owner that may be unanswered.
    pub(crate) window: usize,
    /// Whether what arrives goes to the owner without being asked for.
    is_pushed: bool,
    /// Those who have asked for what arrives, in order: each gets one part as its reply.
    readers: VecDeque<Reader>,
    /// The last process that is known to be charged.
    account: Option<(Pid, AccountRef)>,
    /// The process that is being asked how to charge it.
    pub(crate) asks: Option<Pid>,
    /// What has arrived first waits for its reader: until it is known how to charge it, or has room. Nothing more is taken.
    is_held: bool,
    /// Whether anything was asked for.
    is_begun: bool,
    /// The last of it has been replied: there is nothing more to ask for.
    is_at_end: bool,
    /// What has arrived is larger than the whole mailbox of the owner.
    is_oversized: bool,
    /// The monitor of the owner; 0 until the process has had its turn.
    monitor: u64,
    /// What has arrived and is no request yet, in order.
    arrived: Arrived,
    /// The requests to the owner that are unanswered, and their bytes. They are answered in order as a rule.
    unanswered: VecDeque<(u64, usize)>,
    unanswered_bytes: usize,
    /// The owner's mailbox was full: it is tried again later.
    pub(crate) is_retried: bool,
    /// What is to be written.
    queue: VecDeque<Outgoing>,
    queue_bytes: usize,
    /// Why the owner has ended.
    owner_ended: Option<ExitReason>,
}

/// What has arrived and is no request yet, in order, and its bytes: a window may be large, and is looked at for each datagram.
#[derive(Debug, Default)]
struct Arrived {
    parts: VecDeque<(u32, Payload)>,
    bytes: usize,
}

impl Arrived {
    fn push_back(&mut self, part: (u32, Payload)) {
        self.bytes += part.1.len();
        self.parts.push_back(part);
    }

    fn push_front(&mut self, part: (u32, Payload)) {
        self.bytes += part.1.len();
        self.parts.push_front(part);
    }

    fn pop_front(&mut self) -> Option<(u32, Payload)> {
        let part = self.parts.pop_front()?;
        self.bytes -= part.1.len();
        Some(part)
    }

    /// Drops all but the end.
    fn keep_end(&mut self) {
        self.parts.retain(|(tag, _)| *tag == SOCKET_CLOSE);
        self.bytes = self.parts.iter().map(|(_, payload)| payload.len()).sum();
    }

    fn clear(&mut self) {
        self.parts.clear();
        self.bytes = 0;
    }
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortKind {
    /// Both directions, or only that to the client.
    Socket,
    /// A body that is read.
    Body,
    /// The body of a request to the outside, and its response.
    Upload,
    /// Datagrams to and from many addresses.
    Datagrams,
}

/// Who has asked for one part of what arrives.
#[derive(Debug)]
struct Reader {
    to: Pid,
    reference: u64,
    /// `None`: not known yet.
    account: Option<AccountRef>,
}

/// What became of what has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// The owner has it, or it waits until somebody asks for it.
    Done,
    /// The mailbox of the owner is full, or whoever reads has no room.
    Later,
    /// This process has asked for it, and is to be asked how to charge it: [`Port::knows`].
    Asks(Pid),
    /// It does not fit into the owner's mailbox, however empty that is.
    TooLarge,
}

/// What is to be written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) tag: u32,
    pub(crate) payload: Payload,
    /// Who is told when it has been written.
    pub(crate) acknowledged: Option<(Pid, u64)>,
}

impl Port {
    /// The port of a socket with this owner.
    pub(crate) fn new(owner: Pid) -> Port {
        Port {
            is_pushed: true,
            is_begun: true,
            ..Port::of(owner, PortKind::Socket)
        }
    }

    /// The port of a socket from which its owner reads what arrives.
    pub(crate) fn passive(owner: Pid) -> Port {
        Port::of(owner, PortKind::Socket)
    }

    /// Returns whether what arrives waits until it is asked for.
    pub(crate) fn is_passive(&self) -> bool {
        !self.is_pushed
    }

    /// The port of an address of UDP.
    pub(crate) fn datagrams(owner: Pid) -> Port {
        Port {
            is_pushed: true,
            is_begun: true,
            ..Port::of(owner, PortKind::Datagrams)
        }
    }

    /// The port of a request to the outside whose body its owner sends, and whose response it reads.
    pub(crate) fn upload(owner: Pid) -> Port {
        Port {
            is_begun: true,
            ..Port::of(owner, PortKind::Upload)
        }
    }

    /// The port of a body. Nothing arrives before it is asked for. The owner may come later: [`Port::own`].
    pub(crate) fn body(owner: Pid) -> Port {
        Port::of(owner, PortKind::Body)
    }

    fn of(owner: Pid, kind: PortKind) -> Port {
        Port {
            owner,
            kind,
            window: WINDOW,
            is_pushed: false,
            readers: VecDeque::new(),
            account: None,
            asks: None,
            is_held: false,
            is_begun: false,
            is_at_end: false,
            is_oversized: false,
            monitor: 0,
            arrived: Arrived::default(),
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            is_retried: false,
            queue: VecDeque::new(),
            queue_bytes: 0,
            owner_ended: None,
        }
    }

    /// Sets the owner of a body, if it has none.
    pub(crate) fn own<G: 'static>(
        &mut self,
        process: &mut Process<G>,
        system: &System<G>,
        owner: Pid,
    ) {
        if self.owner == Pid::NONE {
            self.owner = owner;
            self.watch(process, system);
        }
    }

    /// Monitors the owner.
    pub(crate) fn watch<G: 'static>(&mut self, process: &mut Process<G>, system: &System<G>) {
        self.monitor = process.new_reference();
        process.monitor(system, self.owner, self.monitor);
    }

    /// Returns why the owner has ended, if it has.
    pub(crate) fn owner_ended(&self) -> Option<&ExitReason> {
        self.owner_ended.as_ref()
    }

    /// Returns whether this is a body for which nobody has asked.
    pub(crate) fn is_unread(&self) -> bool {
        !self.is_begun
    }

    /// Returns whether something has arrived that the owner's mailbox never takes.
    pub(crate) fn is_oversized(&self) -> bool {
        self.is_oversized
    }

    /// Returns whether more may be put here for the owner.
    pub(crate) fn has_credit(&self) -> bool {
        if !self.is_pushed {
            return !self.is_held && self.arrived.parts.len() < self.readers.len();
        }
        let under_way = self.arrived.parts.len() + self.unanswered.len();
        let bytes = self.arrived.bytes + self.unanswered_bytes;
        under_way == 0 || (under_way < self.window && bytes < WINDOW_BYTES)
    }

    /// Returns whether the owner has got everything.
    pub(crate) fn is_delivered(&self) -> bool {
        self.arrived.parts.is_empty()
    }

    /// Returns whether the owner has answered everything.
    pub(crate) fn is_answered(&self) -> bool {
        self.arrived.parts.is_empty() && self.unanswered.is_empty()
    }

    /// Puts here what has arrived.
    pub(crate) fn put(&mut self, tag: u32, payload: Payload) {
        // Behind a gap there is only the end.
        if !self.is_oversized || tag == SOCKET_CLOSE {
            self.arrived.push_back((tag, payload));
        }
    }

    /// Takes a SOCKET_READ: a message asks for all that arrives, a request for the next of it.
    ///
    /// # Errors
    ///
    /// Why a request is refused.
    pub(crate) fn read(&mut self, message: &Envelope) -> Result<(), &'static str> {
        if message.kind != Kind::Request {
            self.is_pushed = true;
        } else if self.is_at_end {
            return Err("there is nothing more to read");
        } else if self.is_pushed {
            return Err("what arrives is sent without being asked for");
        } else if self.readers.len() >= READERS {
            return Err("too many requests wait for what arrives");
        } else {
            let known = self.account.as_ref();
            let known = known.filter(|(of, _)| *of == message.sender);
            self.readers.push_back(Reader {
                to: message.sender,
                reference: message.reference,
                account: known.map(|(_, account)| account.clone()),
            });
        }
        self.is_begun = true;
        Ok(())
    }

    /// Says how a process is charged that has asked for what arrives. `None`: it has ended.
    pub(crate) fn knows(&mut self, of: Pid, account: Option<AccountRef>) {
        self.asks.take_if(|asked| *asked == of);
        let Some(account) = account else {
            return self.readers.retain(|reader| reader.to != of);
        };
        for reader in self.readers.iter_mut().filter(|reader| reader.to == of) {
            reader.account = Some(account.clone());
        }
        self.account = Some((of, account));
    }

    /// Replies to those who have asked for what has arrived, or requests the owner to take it.
    pub(crate) fn deliver<G: 'static>(
        &mut self,
        process: &mut Process<G>,
        system: &System<G>,
    ) -> Delivered {
        if self.owner_ended.is_some() {
            self.arrived.clear();
        }
        self.is_held = false;
        let mut became = Delivered::Done;
        while let Some((tag, payload)) = self.arrived.pop_front() {
            if let Some(reader) = self.readers.front() {
                let Reader { to, reference, .. } = *reader;
                let cost = Envelope::message(process.pid(), tag, payload.clone()).cost();
                let charged = match &reader.account {
                    Some(account) => system.charge(to, account, cost),
                    None => {
                        self.arrived.push_front((tag, payload));
                        self.is_held = true;
                        return match self.asks == Some(to) {
                            false => Delivered::Asks(to),
                            true => Delivered::Done,
                        };
                    }
                };
                match charged {
                    Ok(charge) => {
                        process.reply_charged(system, (to, reference), tag, payload, charge);
                        self.readers.pop_front();
                        self.is_at_end |= self.ends_with(tag);
                    }
                    Err(SendError::Full) => {
                        if self.is_too_large(process, system, to, (tag, &payload)) {
                            became = Delivered::TooLarge;
                            continue;
                        }
                        self.arrived.push_front((tag, payload));
                        self.is_held = true;
                        return Delivered::Later;
                    }
                    // It goes to the next one.
                    Err(SendError::Dead | SendError::Unknown) => {
                        self.readers.pop_front();
                        self.arrived.push_front((tag, payload));
                    }
                }
                continue;
            }
            if !self.is_pushed {
                self.arrived.push_front((tag, payload));
                break;
            }
            let (reference, bytes) = (process.new_reference(), payload.len());
            match process.request(system, self.owner, reference, tag, payload.clone()) {
                Ok(()) => {
                    self.unanswered.push_back((reference, bytes));
                    self.unanswered_bytes += bytes;
                }
                Err(SendError::Full) => {
                    if self.is_too_large(process, system, self.owner, (tag, &payload)) {
                        became = Delivered::TooLarge;
                        continue;
                    }
                    self.arrived.push_front((tag, payload));
                    return Delivered::Later;
                }
                // Its monitor says so too.
                Err(SendError::Dead | SendError::Unknown) => {}
            }
        }
        if self.is_at_end {
            let why = Payload::new(b"there is nothing more to read");
            for Reader { to, reference, .. } in self.readers.drain(..) {
                process.reply(system, to, reference, REFUSED, why.clone());
            }
        }
        became
    }

    /// Returns whether something that has arrived does not fit into a mailbox, however empty that is. Then only the end is left.
    fn is_too_large<G: 'static>(
        &mut self,
        process: &Process<G>,
        system: &System<G>,
        to: Pid,
        (tag, payload): (u32, &Payload),
    ) -> bool {
        let message = Envelope::message(process.pid(), tag, payload.clone());
        if system.could_accept(to, &message) {
            return false;
        }
        let bytes = payload.len();
        tracing::warn!(owner = %to, bytes, "a socket is closed: what has arrived is larger than the whole mailbox of its owner, see `mailbox_bytes`");
        self.is_oversized = true;
        self.arrived.keep_end();
        true
    }

    /// Returns whether nothing arrives behind this.
    fn ends_with(&self, tag: u32) -> bool {
        match self.kind {
            PortKind::Socket | PortKind::Datagrams => tag == SOCKET_CLOSE,
            PortKind::Body => matches!(tag, SOCKET_CLOSE | SOCKET_END),
            PortKind::Upload => matches!(tag, SOCKET_CLOSE | SOCKET_END | REFUSED),
        }
    }

    /// Takes a REPLY or a DOWN, if it is one of this port.
    pub(crate) fn answered(&mut self, message: &Envelope) -> bool {
        if message.reference == self.monitor {
            let reason = ExitReason::with(message.reason, message.payload.as_slice());
            self.owner_ended = Some(reason);
            self.arrived.clear();
            return true;
        }
        let at = (self.unanswered.iter()).position(|(known, _)| *known == message.reference);
        let Some((_, bytes)) = at.and_then(|at| self.unanswered.remove(at)) else {
            return false;
        };
        self.unanswered_bytes -= bytes;
        true
    }

    /// Returns whether the queue has no room for more.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= QUEUE || self.queue_bytes >= QUEUE_BYTES
    }

    /// Puts into the queue what somebody has sent, if it is something to be written.
    pub(crate) fn queue(&mut self, message: Envelope) -> Result<(), Envelope> {
        let is_known = match self.kind {
            PortKind::Socket | PortKind::Upload => matches!(
                message.tag,
                SOCKET_TEXT | SOCKET_DATA | SOCKET_END | SOCKET_CLOSE
            ),
            PortKind::Body => message.tag == SOCKET_CLOSE,
            PortKind::Datagrams => {
                matches!(message.tag, SOCKET_DATAGRAM | SOCKET_END | SOCKET_CLOSE)
            }
        };
        if !is_known {
            return Err(message);
        }
        self.queue_bytes += message.payload.len();
        self.queue.push_back(Outgoing {
            tag: message.tag,
            acknowledged: (message.kind == Kind::Request)
                .then_some((message.sender, message.reference)),
            payload: message.payload,
        });
        Ok(())
    }

    /// Gives back memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.arrived.parts.shrink_to_fit();
        self.readers.shrink_to_fit();
        // The process keeps its account as long as it is known here.
        self.account = None;
        self.unanswered.shrink_to_fit();
        self.queue.shrink_to_fit();
    }

    /// Takes all that is to be written.
    pub(crate) fn take_queue(&mut self) -> VecDeque<Outgoing> {
        self.queue_bytes = 0;
        std::mem::take(&mut self.queue)
    }
}
