//! Native processes that drive and watch guests: they take a turn like any process, but no frame.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use exuvia_node::process::{Context, Envelope, ExitReason, Native, Payload};
use exuvia_node::{Guest, Node, Pid};

use exuvia_node::abi::{Kind, Reason};

/// Longer than any benchmark: a lost message must not hang the whole table.
const PATIENCE: Duration = Duration::from_secs(900);

/// Passes the payloads of messages to a thread.
pub(crate) struct Collector {
    pub(crate) pid: Pid,
    receiver: Receiver<Vec<u8>>,
}

struct Collect(SyncSender<Vec<u8>>);

impl Native<Guest> for Collect {
    fn handle(&mut self, _: &mut Context<'_, Guest>, message: Envelope) {
        if message.kind == Kind::Message {
            // The thread may have stopped taking messages.
            let _ = self.0.try_send(message.payload.as_slice().to_vec());
        }
    }
}

impl Collector {
    pub(crate) fn start(node: &Node) -> Collector {
        let (sender, receiver) = sync_channel(4096);
        let pid = node.spawn_native(Box::new(Collect(sender))).unwrap();
        Collector { pid, receiver }
    }

    /// Returns the payload of the next message.
    pub(crate) fn next(&self) -> Vec<u8> {
        self.receiver.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn wait_for(&self, messages: usize) {
        for _ in 0..messages {
            self.next();
        }
    }
}

/// The requests that a driver sends.
pub(crate) struct Round {
    pub(crate) targets: Arc<[Pid]>,
    pub(crate) request: Vec<u8>,
    /// The maximum number of outstanding requests.
    pub(crate) window: usize,
    pub(crate) expected: Expected,
}

/// The expected replies. Every reply is compared, not a sample.
pub(crate) enum Expected {
    /// Any reply.
    Any,
    /// The same reply from all targets.
    Same(Vec<u8>),
    /// The reply by the target's index in the round.
    Each(fn(usize) -> Vec<u8>),
}

impl Expected {
    fn is(&self, reply: &[u8], target: usize) -> bool {
        match self {
            Expected::Any => true,
            Expected::Same(all) => reply == all,
            Expected::Each(of) => reply == of(target),
        }
    }
}

struct Driver {
    round: Round,
    request: Payload,
    next: usize,
    replies: usize,
    /// The indices of the targets, by the references of the outstanding requests.
    asked: HashMap<u64, usize>,
    done: SyncSender<Result<(), String>>,
}

impl Native<Guest> for Driver {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        match message.kind {
            Kind::Init => {}
            Kind::Reply => {
                let reply = message.payload.as_slice();
                let right = (self.asked.remove(&message.reference))
                    .is_some_and(|target| self.round.expected.is(reply, target));
                if !right {
                    return self.end(context, Err(format!("wrong answer: {message:?}")));
                }
                self.replies += 1;
            }
            _ => return self.end(context, Err(format!("got {message:?}"))),
        }
        let targets = &self.round.targets;
        while self.next < targets.len() && self.next - self.replies < self.round.window {
            let reference = context.process.new_reference();
            let sent = context.process.request(
                context.system,
                targets[self.next],
                reference,
                0,
                self.request.clone(),
            );
            if sent.is_err() {
                return self.end(context, Err(format!("could not ask: {sent:?}")));
            }
            self.asked.insert(reference, self.next);
            self.next += 1;
        }
        if self.replies == targets.len() {
            self.end(context, Ok(()));
        }
    }
}

impl Driver {
    fn end(&mut self, context: &mut Context<'_, Guest>, how: Result<(), String>) {
        let _ = self.done.try_send(how);
        context.exit(ExitReason::new(Reason::NORMAL));
    }
}

/// Sends one request to every target, and waits until all have replied.
pub(crate) fn ask_all(node: &Node, round: Round) {
    ask_together(node, vec![round]);
}

/// Runs several rounds at the same time, each with a driver of its own.
pub(crate) fn ask_together(node: &Node, rounds: Vec<Round>) {
    let (done, ended) = sync_channel(rounds.len());
    let drivers = rounds.len();
    for round in rounds {
        let driver = Driver {
            request: Payload::new(&round.request),
            round,
            next: 0,
            replies: 0,
            asked: HashMap::new(),
            done: done.clone(),
        };
        node.spawn_native(Box::new(driver)).unwrap();
    }
    for _ in 0..drivers {
        ended.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}

/// The longest time between two replies of a busy process that always has requests.
#[derive(Default)]
pub(crate) struct Gap {
    longest: AtomicU64,
    answers: AtomicU64,
    stop: AtomicBool,
}

impl Gap {
    /// Returns the longest gap since the last call in microseconds, and resets it.
    pub(crate) fn take(&self) -> f64 {
        self.longest.swap(0, Ordering::Relaxed) as f64 / 1e3
    }

    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Pester {
    target: Pid,
    window: usize,
    request: Payload,
    last: u64,
    gap: Arc<Gap>,
}

impl Native<Guest> for Pester {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        let now = context.system.clock.now();
        let asked = match message.kind {
            Kind::Init => self.window,
            Kind::Reply => {
                let gap = now - self.last;
                self.gap.longest.fetch_max(gap, Ordering::Relaxed);
                self.gap.answers.fetch_add(1, Ordering::Relaxed);
                1
            }
            _ => return,
        };
        self.last = now;
        if self.gap.stop.load(Ordering::Relaxed) {
            return;
        }
        for _ in 0..asked {
            let reference = context.process.new_reference();
            let _ = context.process.request(
                context.system,
                self.target,
                reference,
                0,
                self.request.clone(),
            );
        }
    }
}

/// Keeps a process busy with `window` requests at a time.
pub(crate) fn pester(node: &Node, target: Pid, window: usize) -> Arc<Gap> {
    let gap = Arc::new(Gap::default());
    let pester = Pester {
        target,
        window,
        request: Payload::empty(),
        last: 0,
        gap: gap.clone(),
    };
    node.spawn_native(Box::new(pester)).unwrap();
    gap
}
