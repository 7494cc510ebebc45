//! The process of a connection, and how the tasks of the connection use it.
//!
//! A task has the process do something by a function that runs in one of its turns (`System::control`); the
//! process completes what the task waits for when the reply, or the end of the receiver, arrives. It traps
//! exits: it ends when the connection does, and the connection ends when it is killed.

mod owner;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exuvia_abi::{Kind, Pid, Reason};
use exuvia_process::{
    Context, Envelope, ExitReason, Limits, Native, Payload, Process, Requester, SendError, Signal,
    SpawnError, SpawnSpec, System,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use self::owner::UNWRITTEN;
pub(crate) use self::owner::{CLOSING, PortEvent};
use crate::gateway::{Guests, NewProcess, NoProcess};
use crate::port::{Delivered, Port};
use exuvia_abi::io::{HTTP_REQUEST, HTTP_STREAM, REFUSED, SOCKET_ACCEPT, SOCKET_READ};

/// How a request of a connection ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was replied to.
    Reply {
        /// Who replied.
        from: Pid,
        /// The reference of the request.
        reference: u64,
        /// The tag of the reply.
        tag: u32,
        /// Its payload.
        payload: Payload,
    },
    /// The receiver has ended, for this reason.
    Down(ExitReason),
    /// The receiver's mailbox is full.
    Full,
    /// No process can be started for it.
    NoProcess(NoProcess),
    /// The connection's process has ended.
    Closed,
}

/// Who gets a request.
#[derive(Debug)]
pub(crate) enum Receiver {
    /// This process.
    Process(Pid),
    /// A new process of this module, which ends afterwards.
    New(String),
    /// The process of this module that the connection has.
    OfConnection(String),
}

/// A connection, for its tasks. Dropped, it ends the process.
pub(crate) struct Connection<G: 'static> {
    pid: Pid,
    system: Arc<System<G>>,
    guests: Arc<dyn Guests<G>>,
    shared: Arc<Shared>,
    runtime: Handle,
}

/// What the process and the tasks share.
#[derive(Debug, Default)]
struct Shared {
    /// Locked for some instructions at a time.
    state: Mutex<State>,
    /// The port has something to write, or its owner has ended.
    to_write: Notify,
    /// The owner of the port has answered something, or has ended.
    credit: Notify,
    /// The process has ended.
    has_ended: AtomicBool,
    /// Whoever gets what arrives had no room for it, or was not known, in a turn that cannot try it again itself.
    is_late: AtomicBool,
    /// All who wait for the end of the process, of the port's owner, or of the request of a body, are to look again.
    ends: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The requests under way, by reference.
    requests: HashMap<u64, Request, foldhash::fast::FixedState>,
    /// The references of these requests, by number.
    references: HashMap<u64, u64, foldhash::fast::FixedState>,
    /// Number of requests so far.
    last_number: u64,
    /// The processes of the connection, by module.
    own: HashMap<String, Pid, foldhash::fast::FixedState>,
    /// Processes that were started for a request and stay for what came of it, by the number of the request.
    kept: HashMap<u64, Pid, foldhash::fast::FixedState>,
    /// What a socket or a body and its owner send each other.
    port: Option<Box<Port>>,
    /// The request that the port's body belongs to is over, with its response.
    is_over: bool,
    /// Nothing is written any more: what is sent is refused, and holds nothing up.
    is_closing: bool,
    /// The connection has been quiet: memory is freed at the end of the turn.
    rests: bool,
    /// Why the process is to end, once its connection has.
    reason: Option<&'static str>,
}

#[derive(Debug)]
struct Request {
    number: u64,
    /// The process that ends with the request.
    child: Option<Pid>,
    done: oneshot::Sender<Outcome>,
}

impl State {
    /// Drops what waits to be written; what comes is refused. Returns who wants to know of it.
    fn close(&mut self) -> Vec<(Pid, u64)> {
        self.is_closing = true;
        let queue = (self.port.as_mut()).map(|port| port.take_queue());
        let queue = queue.into_iter().flatten();
        queue.filter_map(|one| one.acknowledged).collect()
    }

    /// Gives back the memory of requests that are over: a socket may be at rest for long.
    fn shrink(&mut self) {
        self.requests.shrink_to_fit();
        self.references.shrink_to_fit();
        self.own.shrink_to_fit();
        self.kept.shrink_to_fit();
        if let Some(port) = &mut self.port {
            port.shrink();
        }
    }

    fn take(&mut self, reference: u64) -> Option<Request> {
        let request = self.requests.remove(&reference)?;
        self.references.remove(&request.number);
        Some(request)
    }
}

/// The process.
struct ConnectionProcess {
    shared: Arc<Shared>,
    /// Memory is freed at the end of this turn.
    rests: bool,
}

impl Drop for ConnectionProcess {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Release);
        self.shared.ends.notify_waiters();
        // Requests under way end with their senders.
        let mut state = self.shared.state.lock();
        state.requests.clear();
        state.references.clear();
    }
}

impl<G: 'static> Native<G> for ConnectionProcess {
    fn kind(&self) -> &'static str {
        "connection"
    }

    fn begin_turn(&mut self, _: &mut Context<'_, G>) -> bool {
        let mut state = self.shared.state.lock();
        self.rests = std::mem::take(&mut state.rests);
        // The client is slower than those who send to it: they are told when the mailbox is full.
        let is_full = state.port.as_ref().is_some_and(|port| port.is_full());
        state.is_closing || !is_full
    }

    fn rests(&mut self) -> bool {
        std::mem::take(&mut self.rests)
    }

    fn handle(&mut self, context: &mut Context<'_, G>, message: Envelope) {
        match message.kind {
            Kind::Init => {
                context.process.set_trap_exit(true);
            }
            Kind::Reply | Kind::Down => self.answered(context, message),
            Kind::Message | Kind::Request => self.queue(context, message),
            // From nobody: the connection has ended. Its processes end with it, since they are linked.
            Kind::Exit if message.sender == Pid::NONE => {
                let reason = self.shared.state.lock().reason.unwrap_or("closed");
                let reason = ExitReason::with(Reason::SHUTDOWN.0, reason.as_bytes());
                context.exit(reason);
            }
            Kind::Exit => {
                // The end of another process does not end the connection: a request that it was to reply to
                // fails, and the next one may have a new process.
                let sender = message.sender;
                let mut state = self.shared.state.lock();
                state.own.retain(|_, pid| *pid != sender);
                state.kept.retain(|_, pid| *pid != sender);
            }
            _ => {}
        }
    }
}

impl ConnectionProcess {
    /// Takes the reply to a request, or the end of its receiver or of the port's owner.
    fn answered<G: 'static>(&self, context: &mut Context<'_, G>, message: Envelope) {
        let mut state = self.shared.state.lock();
        if let Some(port) = &mut state.port
            && port.answered(&message)
        {
            let has_ended = port.owner_ended().is_some();
            drop(state);
            self.shared.credit.notify_one();
            if has_ended {
                self.shared.to_write.notify_one();
                self.shared.ends.notify_waiters();
            }
            return;
        }
        let Some(request) = state.take(message.reference) else {
            return;
        };
        let stays = message.kind == Kind::Reply
            && matches!(message.tag, SOCKET_ACCEPT | HTTP_STREAM)
            && !request.done.is_closed();
        if let (true, Some(child)) = (stays, request.child) {
            state.kept.insert(request.number, child);
        }
        drop(state);
        let outcome = match message.kind {
            Kind::Reply => Outcome::Reply {
                from: message.sender,
                reference: message.reference,
                tag: message.tag,
                payload: message.payload,
            },
            _ => {
                let bytes = message.payload.as_slice();
                Outcome::Down(ExitReason::with(message.reason, bytes))
            }
        };
        if let (false, Some(child)) = (stays, request.child) {
            end_child(context.process, context.system, child);
        }
        // The client may have gone.
        let _ = request.done.send(outcome);
    }

    /// Takes what is to be written.
    fn queue<G: 'static>(&self, context: &mut Context<'_, G>, message: Envelope) {
        if message.tag == SOCKET_READ {
            return self.read(context, &message);
        }
        let mut state = self.shared.state.lock();
        let is_closing = state.is_closing;
        let refused = match &mut state.port {
            Some(port) if !is_closing => port.queue(message).err(),
            _ => Some(message),
        };
        drop(state);
        match refused {
            None => self.shared.to_write.notify_one(),
            Some(message) if message.kind == Kind::Request => {
                let why = match is_closing {
                    true => UNWRITTEN,
                    false => "this connection takes no such message",
                };
                let why = Payload::new(why.as_bytes());
                let (to, reference) = (message.sender, message.reference);
                (context.process).reply(context.system, to, reference, REFUSED, why);
            }
            Some(_) => {}
        }
    }
}

impl ConnectionProcess {
    /// Takes a message that asks for what arrives.
    fn read<G: 'static>(&self, context: &mut Context<'_, G>, message: &Envelope) {
        let mut state = self.shared.state.lock();
        let read = match &mut state.port {
            Some(port) => port.read(message),
            None => Err("this connection has nothing to read"),
        };
        let mut delivered = Delivered::Done;
        match (read, &mut state.port) {
            // What has arrived waits for this.
            (Ok(()), Some(port)) => {
                delivered = port.deliver(context.process, context.system);
                let is_late = matches!(delivered, Delivered::Later | Delivered::Asks(_));
                self.shared.is_late.fetch_or(is_late, Ordering::Release);
            }
            (Err(why), _) if message.kind == Kind::Request => {
                let why = Payload::new(why.as_bytes());
                let (to, reference) = (message.sender, message.reference);
                (context.process).reply(context.system, to, reference, REFUSED, why);
            }
            _ => {}
        }
        drop(state);
        self.shared.credit.notify_one();
        // It is to be tried again, or is too large.
        if delivered != Delivered::Done {
            self.shared.to_write.notify_one();
        }
    }
}

/// Ends a process that was started for one request, also if it traps exits.
fn end_child<G: 'static>(process: &mut Process<G>, system: &System<G>, child: Pid) {
    process.unlink(system, child);
    let exit = Signal::Exit {
        from: process.pid(),
        reason: ExitReason::new(Reason::SHUTDOWN),
        linked: false,
    };
    if system.signal(child, exit).is_ok() {
        let _ = system.signal(
            child,
            Signal::Kill {
                from: process.pid(),
            },
        );
    }
}

impl<G: Send + 'static> Connection<G> {
    /// Starts the process of a connection. Called within a runtime.
    pub(crate) fn start(
        system: &Arc<System<G>>,
        guests: &Arc<dyn Guests<G>>,
        limits: &Arc<Limits>,
    ) -> Result<Connection<G>, SpawnError> {
        let shared = Arc::new(Shared::default());
        let process = ConnectionProcess {
            shared: shared.clone(),
            rests: false,
        };
        let body = exuvia_process::Body::Native(Some(Box::new(process)));
        let spec = SpawnSpec::new(body, limits.clone(), Payload::empty());
        Ok(Connection {
            pid: system.spawn(spec)?,
            system: system.clone(),
            guests: guests.clone(),
            shared,
            runtime: Handle::current(),
        })
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&self) {
        loop {
            // It notices what comes from its creation on, and the end may have been before.
            let ends = self.shared.ends.notified();
            if self.shared.has_ended.load(Ordering::Acquire) {
                return;
            }
            ends.await;
        }
    }

    /// The connection is quiet, and may be so for long.
    pub(crate) fn rest(&self) {
        let shared = self.shared.clone();
        let rest = move |_: &mut Process<G>, _: &System<G>| {
            let mut state = shared.state.lock();
            state.shrink();
            state.rests = true;
        };
        let _ = self.system.control(self.pid, rest);
    }

    /// Sets the reason with which the process ends when this is dropped.
    pub(crate) fn set_reason(&self, reason: &'static str) {
        self.shared.state.lock().reason = Some(reason);
    }

    /// Makes a request and waits for its outcome. If the future is dropped before, the request is given up, and
    /// a process that was started for it ends. If the outcome is that a socket or a body follows, that process stays
    /// as long as what is returned beside it.
    pub(crate) async fn request(
        self: &Arc<Self>,
        receiver: Receiver,
        payload: Payload,
    ) -> (Outcome, Kept<G>) {
        let (done, outcome) = oneshot::channel();
        let number = {
            let mut state = self.shared.state.lock();
            state.last_number += 1;
            state.last_number
        };
        let (shared, guests) = (self.shared.clone(), self.guests.clone());
        let begin = move |process: &mut Process<G>, system: &System<G>| {
            begin(
                process,
                system,
                &shared.state,
                &*guests,
                (receiver, payload),
                (number, done),
            );
        };
        let kept = Kept {
            connection: self.clone(),
            number,
            is_done: false,
        };
        if self.system.control(self.pid, begin).is_err() {
            return (Outcome::Closed, kept);
        }
        let mut kept = kept;
        let outcome = outcome.await.unwrap_or(Outcome::Closed);
        kept.is_done = true;
        (outcome, kept)
    }

    /// Returns the process of a module that the connection has, or starts it. It ends with the connection.
    pub(crate) async fn own(&self, module: String) -> Result<Pid, NoProcess> {
        let (done, started) = oneshot::channel();
        let (shared, guests) = (self.shared.clone(), self.guests.clone());
        let start = move |process: &mut Process<G>, system: &System<G>| {
            let started = own(process, system, &shared.state, &*guests, module);
            // The connection may have gone: the process ends with it.
            let _ = done.send(started);
        };
        let _ = self.system.control(self.pid, start);
        started.await.unwrap_or(Err(NoProcess::Stopping))
    }
}

impl<G: 'static> Drop for Connection<G> {
    fn drop(&mut self) {
        self.close_port();
        let exit = Signal::Exit {
            from: Pid::NONE,
            reason: ExitReason::new(Reason::SHUTDOWN),
            linked: false,
        };
        let _ = self.system.signal(self.pid, exit);
    }
}

/// What stays of a request. Dropped before it is done, it gives the request up; afterwards it ends the process that was
/// started for it and has stayed.
pub(crate) struct Kept<G: 'static> {
    connection: Arc<Connection<G>>,
    number: u64,
    is_done: bool,
}

impl<G: 'static> Drop for Kept<G> {
    fn drop(&mut self) {
        let (number, shared) = (self.number, self.connection.shared.clone());
        let (is_body, has_all_ended) = {
            let mut state = shared.state.lock();
            state.is_over = true;
            let has_all_ended = self.is_done && !state.kept.contains_key(&number);
            (state.port.is_some(), has_all_ended)
        };
        if is_body {
            shared.to_write.notify_one();
            shared.ends.notify_waiters();
        }
        if has_all_ended {
            return;
        }
        let give_up = move |process: &mut Process<G>, system: &System<G>| {
            let mut state = shared.state.lock();
            let kept = state.kept.remove(&number);
            let reference = state.references.get(&number).copied();
            let request = reference.and_then(|reference| state.take(reference));
            drop(state);
            if let Some(reference) = reference {
                process.demonitor(system, reference, true);
            }
            if let Some(child) = kept.or(request.and_then(|request| request.child)) {
                end_child(process, system, child);
            }
        };
        let _ = (self.connection.system).control(self.connection.pid, give_up);
    }
}

/// Makes a request, on the process.
fn begin<G: 'static>(
    process: &mut Process<G>,
    system: &System<G>,
    state: &Mutex<State>,
    guests: &dyn Guests<G>,
    (receiver, payload): (Receiver, Payload),
    (number, done): (u64, oneshot::Sender<Outcome>),
) {
    // The client may have gone before.
    if done.is_closed() {
        return;
    }
    let failed = |done: oneshot::Sender<Outcome>, outcome| drop(done.send(outcome));
    let (to, child) = match receiver {
        Receiver::Process(pid) => (pid, None),
        Receiver::New(module) => match start_child(process, system, guests, &module) {
            Ok(child) => (child, Some(child)),
            Err(error) => return failed(done, Outcome::NoProcess(error)),
        },
        Receiver::OfConnection(module) => match own(process, system, state, guests, module) {
            Ok(pid) => (pid, None),
            Err(error) => return failed(done, Outcome::NoProcess(error)),
        },
    };
    let reference = process.new_reference();
    match process.request(system, to, reference, HTTP_REQUEST, payload) {
        Ok(()) => {
            let mut state = state.lock();
            if let Some(port) = &mut state.port {
                port.own(process, system, to);
            }
            state.references.insert(number, reference);
            let request = Request {
                number,
                child,
                done,
            };
            state.requests.insert(reference, request);
        }
        Err(error) => {
            if let Some(child) = child {
                end_child(process, system, child);
            }
            failed(
                done,
                match error {
                    SendError::Full => Outcome::Full,
                    SendError::Dead | SendError::Unknown => {
                        Outcome::Down(ExitReason::new(Reason::NOPROC))
                    }
                },
            );
        }
    }
}

/// Returns the process of a module that a connection has, or starts it.
fn own<G: 'static>(
    process: &mut Process<G>,
    system: &System<G>,
    state: &Mutex<State>,
    guests: &dyn Guests<G>,
    module: String,
) -> Result<Pid, NoProcess> {
    let known = state.lock().own.get(&module).copied();
    let pid = match known {
        Some(pid) => pid,
        None => start_child(process, system, guests, &module)?,
    };
    state.lock().own.insert(module, pid);
    Ok(pid)
}

/// Starts a process of a module, linked to `process`.
fn start_child<G: 'static>(
    process: &mut Process<G>,
    system: &System<G>,
    guests: &dyn Guests<G>,
    module: &str,
) -> Result<Pid, NoProcess> {
    let NewProcess { body, limits } = guests.new_process(module)?;
    start_linked(
        process,
        system,
        (body, limits),
        Payload::empty(),
        |_| Ok(()),
    )
}

/// Starts a process, linked to `process`. `prepare` gets its pid before it runs; if it fails, nothing is started.
pub(crate) fn start_linked<G: 'static>(
    process: &mut Process<G>,
    system: &System<G>,
    (body, limits): (exuvia_process::Body<G>, Arc<Limits>),
    arguments: Payload,
    prepare: impl FnOnce(Pid) -> Result<(), NoProcess>,
) -> Result<Pid, NoProcess> {
    // As a guest: a flood of requests must not take the slots that the host has reserved.
    let reserved = system.reserve_for(Requester::Guest, &limits);
    let pid = reserved.map_err(|SpawnError::TableFull| NoProcess::TableFull)?;
    if let Err(error) = prepare(pid) {
        system.abandon(pid);
        return Err(error);
    }
    process.add_child(pid, true, &[]);
    let spec = SpawnSpec {
        parent: process.pid(),
        link: true,
        ..SpawnSpec::new(body, limits, arguments)
    };
    system.start(pid, spec);
    Ok(pid)
}
