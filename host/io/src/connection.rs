//! The process of a connection, and how the tasks of the connection use it.
//!
//! A task has the process do something by a function that runs in one of its turns (`System::control`); the
//! process completes what the task waits for when the reply, or the end of the receiver, arrives. It traps
//! exits: it ends when the connection does, and the connection ends when it is killed.

use std::collections::HashMap;
use std::sync::Arc;

use exuvia_abi::{Kind, Pid, Reason};
use exuvia_process::{
    Context, Envelope, ExitReason, Limits, Native, Payload, Process, Requester, SendError, Signal,
    SpawnError, SpawnSpec, System,
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::gateway::{Guests, NewProcess, NoProcess};
use crate::head::HTTP_REQUEST;

/// How a request of a connection ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was replied to, with this tag.
    Reply(u32, Payload),
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
    /// The process that the connection has for a route: a process of this module.
    OfConnection {
        /// The index of the route.
        route: usize,
        /// The module.
        module: String,
    },
}

/// A connection, for its tasks. Dropped, it ends the process.
pub(crate) struct Connection<G: 'static> {
    pid: Pid,
    system: Arc<System<G>>,
    guests: Arc<dyn Guests<G>>,
    state: Arc<Mutex<State>>,
    /// Changes when the process has ended.
    ended: watch::Receiver<bool>,
}

/// What the process and the tasks share. Locked for some instructions at a time.
#[derive(Debug, Default)]
struct State {
    /// The requests under way, by reference.
    requests: HashMap<u64, Request, foldhash::fast::FixedState>,
    /// The references of these requests, by number.
    references: HashMap<u64, u64, foldhash::fast::FixedState>,
    /// Number of requests so far.
    last_number: u64,
    /// The processes of the connection, by route.
    own: HashMap<usize, Pid, foldhash::fast::FixedState>,
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
    fn take(&mut self, reference: u64) -> Option<Request> {
        let request = self.requests.remove(&reference)?;
        self.references.remove(&request.number);
        Some(request)
    }
}

/// The process.
struct ConnectionProcess {
    state: Arc<Mutex<State>>,
    ended: watch::Sender<bool>,
}

impl Drop for ConnectionProcess {
    fn drop(&mut self) {
        self.ended.send_replace(true);
        // Requests under way end with their senders.
        let mut state = self.state.lock();
        state.requests.clear();
        state.references.clear();
    }
}

impl<G: 'static> Native<G> for ConnectionProcess {
    fn handle(&mut self, context: &mut Context<'_, G>, message: Envelope) {
        match message.kind {
            Kind::Init => {
                context.process.set_trap_exit(true);
            }
            Kind::Reply | Kind::Down => {
                let Some(request) = self.state.lock().take(message.reference) else {
                    return;
                };
                let outcome = match message.kind {
                    Kind::Reply => Outcome::Reply(message.tag, message.payload),
                    _ => {
                        let bytes = message.payload.as_slice();
                        Outcome::Down(ExitReason::with(message.reason, bytes))
                    }
                };
                if let Some(child) = request.child {
                    end_child(context.process, context.system, child);
                }
                // The client may have gone.
                let _ = request.done.send(outcome);
            }
            // From nobody: the connection has ended. Its processes end with it, since they are linked.
            Kind::Exit if message.sender == Pid::NONE => {
                let reason = self.state.lock().reason.unwrap_or("closed");
                let reason = ExitReason::with(Reason::SHUTDOWN.0, reason.as_bytes());
                context.exit(reason);
            }
            Kind::Exit => {
                // The end of another process does not end the connection: a request that it was to reply to
                // fails, and the next one may have a new process.
                let sender = message.sender;
                self.state.lock().own.retain(|_, pid| *pid != sender);
            }
            _ => {}
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

impl<G: 'static> Connection<G> {
    /// Starts the process of a connection.
    pub(crate) fn start(
        system: &Arc<System<G>>,
        guests: &Arc<dyn Guests<G>>,
        limits: &Arc<Limits>,
    ) -> Result<Connection<G>, SpawnError> {
        let state = Arc::new(Mutex::new(State::default()));
        let (sender, ended) = watch::channel(false);
        let process = ConnectionProcess {
            state: state.clone(),
            ended: sender,
        };
        let body = exuvia_process::Body::Native(Some(Box::new(process)));
        let spec = SpawnSpec::new(body, limits.clone(), Payload::empty());
        Ok(Connection {
            pid: system.spawn(spec)?,
            system: system.clone(),
            guests: guests.clone(),
            state,
            ended,
        })
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that it has.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Sets the reason with which the process ends when this is dropped.
    pub(crate) fn set_reason(&self, reason: &'static str) {
        self.state.lock().reason = Some(reason);
    }

    /// Makes a request and waits for its outcome. If the future is dropped before, the request is given up, and
    /// a process that was started for it ends.
    pub(crate) async fn request(&self, receiver: Receiver, payload: Payload) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let number = {
            let mut state = self.state.lock();
            state.last_number += 1;
            state.last_number
        };
        let (state, guests) = (self.state.clone(), self.guests.clone());
        let begin = move |process: &mut Process<G>, system: &System<G>| {
            begin(
                process,
                system,
                &state,
                &*guests,
                (receiver, payload),
                (number, done),
            );
        };
        if self.system.control(self.pid, begin).is_err() {
            return Outcome::Closed;
        }
        let mut cancel = Cancel {
            connection: self,
            number: Some(number),
        };
        let outcome = outcome.await.unwrap_or(Outcome::Closed);
        cancel.number = None;
        outcome
    }
}

impl<G: 'static> Drop for Connection<G> {
    fn drop(&mut self) {
        let exit = Signal::Exit {
            from: Pid::NONE,
            reason: ExitReason::new(Reason::SHUTDOWN),
            linked: false,
        };
        let _ = self.system.signal(self.pid, exit);
    }
}

/// Gives a request up, unless it is done.
struct Cancel<'a, G: 'static> {
    connection: &'a Connection<G>,
    number: Option<u64>,
}

impl<G: 'static> Drop for Cancel<'_, G> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let state = self.connection.state.clone();
        let give_up = move |process: &mut Process<G>, system: &System<G>| {
            let mut locked = state.lock();
            let Some(reference) = locked.references.get(&number).copied() else {
                return;
            };
            let request = locked.take(reference);
            drop(locked);
            process.demonitor(system, reference, true);
            if let Some(child) = request.and_then(|request| request.child) {
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
        Receiver::OfConnection { route, module } => {
            let known = state.lock().own.get(&route).copied();
            match known.map_or_else(|| start_child(process, system, guests, &module), Ok) {
                Ok(pid) => {
                    state.lock().own.insert(route, pid);
                    (pid, None)
                }
                Err(error) => return failed(done, Outcome::NoProcess(error)),
            }
        }
    };
    let reference = process.new_reference();
    match process.request(system, to, reference, HTTP_REQUEST, payload) {
        Ok(()) => {
            let mut state = state.lock();
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
