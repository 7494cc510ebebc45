//! What the tasks of a connection do with its port: open it, have its owner get what has arrived, and take what it has sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use exuvia_abi::Pid;
use exuvia_process::{AccountRef, Charge, Envelope, ExitReason, Payload, Process, System};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::{Connection, Shared};
use crate::port::{Delivered, Outgoing, Port};
use exuvia_abi::io::{REFUSED, SOCKET_CLOSE, SOCKET_OPEN};

/// How long a process that is told that its socket has been closed may take to acknowledge it.
pub(crate) const CLOSING: Duration = Duration::from_secs(5);
/// After how long a full mailbox is tried again; longer each time, up to [`FULL_LONG`].
const FULL: Duration = Duration::from_millis(10);
const FULL_LONG: Duration = Duration::from_millis(320);
/// How long the end of a socket waits until its owner takes it: has room for it, or reads it.
const UNTAKEN: Duration = Duration::from_secs(60);
/// How long a process that has responded may take to ask for the end of a body that it has read.
const OVER: Duration = Duration::from_secs(2);

/// What is said of a write that is refused because its socket ends.
pub(super) const UNWRITTEN: &str = "the socket has ended before this was written";

/// What happens to the port of a connection.
#[derive(Debug)]
pub(crate) enum PortEvent {
    /// This is to be written.
    Write(VecDeque<Outgoing>),
    /// The owner has ended; all that it had sent came before.
    OwnerEnded(ExitReason),
    /// What has arrived is larger than the whole mailbox of the owner.
    TooLarge,
    /// It is a body that nobody has asked for, and its request is over.
    Unread,
    /// The process of the connection has ended.
    Closed,
}

/// What is to be written. Whoever wants to know gets one answer for each: that it has been written, or, also when this is
/// dropped, that it has not.
pub(crate) struct Writes<'a, G: 'static> {
    connection: &'a Connection<G>,
    queue: VecDeque<Outgoing>,
    /// Who wants to know of what was taken before the last, and has not been told.
    taken: Vec<(Pid, u64)>,
    /// Who wants to know of what was taken last.
    last: Option<(Pid, u64)>,
}

impl<G: 'static> Writes<'_, G> {
    /// Takes the next.
    pub(crate) fn next(&mut self) -> Option<(u32, Payload)> {
        let outgoing = self.queue.pop_front()?;
        let before = std::mem::replace(&mut self.last, outgoing.acknowledged);
        self.taken.extend(before);
        Some((outgoing.tag, outgoing.payload))
    }

    /// All that was taken has been written.
    pub(crate) fn written(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        taken.extend(self.last.take());
        self.connection.reply(taken, 0, Payload::empty());
    }

    /// What was taken last is not written.
    pub(crate) fn refuse(&mut self, why: &str) {
        let last = self.last.take();
        self.connection.refuse(last.into_iter().collect(), why);
    }
}

impl<G: 'static> Drop for Writes<'_, G> {
    fn drop(&mut self) {
        let mut unwritten = std::mem::take(&mut self.taken);
        unwritten.extend(self.last.take());
        unwritten.extend(self.queue.drain(..).filter_map(|one| one.acknowledged));
        self.connection.refuse(unwritten, UNWRITTEN);
    }
}

/// Has the owner get what has arrived, now or when its mailbox has room.
struct Delivery<G: 'static> {
    system: Arc<System<G>>,
    pid: Pid,
    shared: Arc<Shared>,
    runtime: Handle,
}

impl<G: Send + 'static> Delivery<G> {
    /// Has the process do it in its next turn.
    /// `retried`: after so long.
    fn begin(self, retried: Option<Duration>) {
        let (system, pid) = (self.system.clone(), self.pid);
        // Without a process there is no owner that waits for anything.
        let _ = system.control(pid, move |process, system| {
            self.deliver(process, system, retried);
        });
    }

    fn deliver(self, process: &mut Process<G>, system: &System<G>, retried: Option<Duration>) {
        let mut state = self.shared.state.lock();
        let Some(port) = &mut state.port else { return };
        if retried.is_some() {
            port.is_retried = false;
        }
        match port.deliver(process, system) {
            Delivered::Done => {
                drop(state);
                // Whoever waits for the end waits for this too.
                self.shared.credit.notify_one();
            }
            Delivered::Later if !std::mem::replace(&mut port.is_retried, true) => {
                drop(state);
                let pause = retried.map_or(FULL, |last| (2 * last).min(FULL_LONG));
                self.runtime.clone().spawn(async move {
                    sleep(pause).await;
                    self.begin(Some(pause));
                });
            }
            Delivered::Later => {}
            Delivered::Asks(reader) => {
                port.asks = Some(reader);
                drop(state);
                let asked = Asked {
                    delivery: Some(self),
                    of: reader,
                    account: None,
                };
                let asks = move |process: &mut Process<G>, system: &System<G>| {
                    asked.answer(process.account_ref(system));
                };
                let _ = system.control(reader, asks);
            }
            Delivered::TooLarge => {
                drop(state);
                self.shared.credit.notify_one();
                self.shared.to_write.notify_one();
            }
        }
    }
}

/// A process that has asked for what arrives is asked how it is charged. Dropped, also because the process has ended, it goes
/// on with the delivery.
struct Asked<G: Send + 'static> {
    delivery: Option<Delivery<G>>,
    of: Pid,
    account: Option<AccountRef>,
}

impl<G: Send + 'static> Asked<G> {
    fn answer(mut self, account: AccountRef) {
        self.account = Some(account);
    }
}

impl<G: Send + 'static> Drop for Asked<G> {
    fn drop(&mut self) {
        let Some(delivery) = self.delivery.take() else {
            return;
        };
        let (of, account) = (self.of, self.account.take());
        let (system, pid) = (delivery.system.clone(), delivery.pid);
        let _ = system.control(pid, move |process, system| {
            if let Some(port) = &mut delivery.shared.state.lock().port {
                port.knows(of, account);
            }
            delivery.deliver(process, system, None);
        });
    }
}

impl<G: Send + 'static> Connection<G> {
    /// Opens the port: its owner is told with a message.
    pub(crate) fn open(&self, owner: Pid, message: Payload) {
        self.open_port(Port::new(owner), owner, message);
    }

    /// Opens this port, which has this owner.
    pub(crate) fn open_port(&self, port: Port, owner: Pid, message: Payload) {
        self.shared.state.lock().port = Some(Box::new(port));
        let shared = self.shared.clone();
        let open = move |process: &mut Process<G>, system: &System<G>| {
            if let Some(port) = &mut shared.state.lock().port {
                port.watch(process, system);
            }
            // If its mailbox is full, the owner sees the socket by what arrives.
            let open = Envelope::message(process.pid(), SOCKET_OPEN, message);
            let _ = system.send(owner, open);
        };
        let _ = self.system.control(self.pid, open);
    }

    /// Makes the port of a body, whose owner comes with the request: [`Connection::request`].
    pub(crate) fn open_body(&self) {
        let port = Port::body(Pid::NONE);
        self.shared.state.lock().port = Some(Box::new(port));
    }

    /// Opens a port that its owner has asked for: a reply tells it, for which it is charged.
    pub(crate) fn open_as_reply(
        &self,
        port: Port,
        to: (Pid, u64),
        (tag, payload, charge): (u32, Payload, Charge),
    ) {
        self.shared.state.lock().port = Some(Box::new(port));
        let shared = self.shared.clone();
        let open = move |process: &mut Process<G>, system: &System<G>| {
            if let Some(port) = &mut shared.state.lock().port {
                port.watch(process, system);
            }
            process.reply_charged(system, to, tag, payload, charge);
        };
        let _ = self.system.control(self.pid, open);
    }

    /// Waits until the owner may get something more. Returns false if it has ended.
    pub(crate) async fn credit(&self) -> bool {
        self.port_is(Port::has_credit).await
    }

    /// Returns whether the owner may get something more now.
    pub(crate) fn has_credit(&self) -> bool {
        (self.shared.state.lock().port.as_deref()).is_some_and(Port::has_credit)
    }

    /// Returns whether the owner may get one more datagram now, of so many that it may have which it has not acknowledged.
    pub(crate) fn has_credit_of(&self, window: usize) -> bool {
        let mut state = self.shared.state.lock();
        (state.port.as_deref_mut()).is_some_and(|port| {
            port.window = window;
            port.has_credit()
        })
    }

    /// Returns whether what arrives waits until it is asked for.
    pub(crate) fn is_passive(&self) -> bool {
        (self.shared.state.lock().port.as_deref()).is_some_and(Port::is_passive)
    }

    /// Waits until the owner has answered all that it has got, or has ended.
    pub(crate) async fn answered(&self) {
        self.port_is(Port::is_answered).await;
    }

    /// Has the owner get something that has arrived.
    pub(crate) fn deliver(&self, tag: u32, payload: Payload) {
        if let Some(port) = &mut self.shared.state.lock().port {
            port.put(tag, payload);
        }
        self.begin_delivery();
    }

    fn begin_delivery(&self) {
        let delivery = Delivery {
            system: self.system.clone(),
            pid: self.pid,
            shared: self.shared.clone(),
            runtime: self.runtime.clone(),
        };
        delivery.begin(None);
    }

    /// Tries again what a turn of the process could not deliver.
    fn deliver_late(&self) {
        let is_late = &self.shared.is_late;
        if is_late.load(Ordering::Acquire) && is_late.swap(false, Ordering::AcqRel) {
            self.begin_delivery();
        }
    }

    /// Waits for something to write, or for the end of the owner or of the process.
    pub(crate) async fn port_event(&self) -> PortEvent {
        loop {
            let to_write = self.shared.to_write.notified();
            self.deliver_late();
            if let Some(event) = self.next_event() {
                return event;
            }
            tokio::select! {
                () = to_write => {}
                () = self.ended() => return PortEvent::Closed,
            }
        }
    }

    fn next_event(&self) -> Option<PortEvent> {
        let mut state = self.shared.state.lock();
        let is_over = state.is_over;
        let port = state.port.as_mut()?;
        let was_full = port.is_full();
        let queue = port.take_queue();
        if queue.is_empty() {
            if port.is_oversized() {
                return Some(PortEvent::TooLarge);
            }
            if is_over && port.is_unread() {
                return Some(PortEvent::Unread);
            }
            return port.owner_ended().cloned().map(PortEvent::OwnerEnded);
        }
        drop(state);
        if was_full {
            // It takes messages again.
            let _ = self.system.control(self.pid, |_, _| {});
        }
        Some(PortEvent::Write(queue))
    }

    /// Writes nothing more. Tells the owner that its socket has been closed, and waits until it has acknowledged this and
    /// all before, for a while.
    pub(crate) async fn close(&self, payload: Payload) {
        // The process may have held messages back; the delivery gives it a turn.
        self.close_port();
        self.deliver(SOCKET_CLOSE, payload);
        let _ = timeout(UNTAKEN, self.port_is(Port::is_delivered)).await;
        let _ = timeout(CLOSING, self.port_is(Port::is_answered)).await;
    }

    /// Has something wait for the owner until that takes it, for a while.
    pub(crate) async fn tell(&self, tag: u32, payload: Payload) {
        self.deliver(tag, payload);
        let _ = timeout(UNTAKEN, self.delivered()).await;
    }

    /// Waits until the owner has got all that has arrived, or has ended.
    pub(crate) async fn delivered(&self) {
        self.port_is(Port::is_delivered).await;
    }

    /// Tells whoever reads a body how it ends, if anybody has begun to. Waits for so long until it is taken, and not much longer
    /// than until the request is over. Returns whether all of it has been.
    pub(crate) async fn end_body(&self, tag: u32, payload: Payload, time: Duration) -> bool {
        let is_unread = |port: Option<&Port>| port.is_none_or(Port::is_unread);
        if is_unread(self.shared.state.lock().port.as_deref()) {
            return false;
        }
        self.deliver(tag, payload);
        let is_taken = tokio::select! {
            is_taken = timeout(time, self.port_is(Port::is_delivered)) => is_taken == Ok(true),
            () = self.over() => false,
        };
        is_taken && !self.is_oversized()
    }

    /// Returns whether something that has arrived did not fit into a mailbox, however empty that is.
    pub(crate) fn is_oversized(&self) -> bool {
        (self.shared.state.lock().port.as_deref()).is_some_and(Port::is_oversized)
    }

    /// Waits until the owner or the process has ended, also if the owner has sent something that was not taken.
    pub(crate) async fn owner_ended(&self) {
        loop {
            let ends = self.shared.ends.notified();
            let owner_ended = {
                let state = self.shared.state.lock();
                (state.port.as_deref()).is_some_and(|port| port.owner_ended().is_some())
            };
            if owner_ended || self.shared.has_ended.load(Ordering::Acquire) {
                return;
            }
            ends.await;
        }
    }

    /// Waits until some time after the request of a body is over.
    async fn over(&self) {
        loop {
            let ends = self.shared.ends.notified();
            if self.is_over() {
                break;
            }
            ends.await;
        }
        sleep(OVER).await;
    }

    /// Returns whether the request of a body is over.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.state.lock().is_over
    }

    /// Waits until something holds of the port. Returns false if its owner or the process has ended before.
    async fn port_is(&self, holds: impl Fn(&Port) -> bool) -> bool {
        loop {
            let credit = self.shared.credit.notified();
            self.deliver_late();
            match self.shared.state.lock().port.as_deref() {
                // There is no port to wait for.
                None => return false,
                Some(port) if port.owner_ended().is_some() => return false,
                Some(port) if holds(port) => return true,
                Some(_) => {}
            }
            tokio::select! {
                () = credit => {}
                () = self.ended() => return false,
            }
        }
    }
}

impl<G: 'static> Connection<G> {
    /// Returns what is to be written, one after another.
    pub(crate) fn writes(&self, queue: VecDeque<Outgoing>) -> Writes<'_, G> {
        Writes {
            connection: self,
            queue,
            taken: Vec::new(),
            last: None,
        }
    }

    /// Tells those who want to know it that something is not written, and why.
    fn refuse(&self, all: Vec<(Pid, u64)>, why: &str) {
        self.reply(all, REFUSED, Payload::new(why.as_bytes()));
    }

    /// Takes no more to write, and refuses what is not written.
    pub(super) fn close_port(&self) {
        let unwritten = self.shared.state.lock().close();
        self.refuse(unwritten, UNWRITTEN);
    }

    fn reply(&self, all: Vec<(Pid, u64)>, tag: u32, payload: Payload) {
        if all.is_empty() {
            return;
        }
        let reply = move |process: &mut Process<G>, system: &System<G>| {
            for (to, reference) in all {
                process.reply(system, to, reference, tag, payload.clone());
            }
        };
        let _ = self.system.control(self.pid, reply);
    }
}
