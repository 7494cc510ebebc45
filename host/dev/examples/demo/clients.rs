//! The clients: native processes that keep a window of numbered requests outstanding for each of
//! their counters, and check every reply.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use exuvia_node::abi::{Kind, Reason};
use exuvia_node::process::{Context, Envelope, ExitReason, Native};
use exuvia_node::{Guest, Node, Pid};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The initial value of a counter, from the manifest.
const START: u64 = 1000;
/// The maximum number of faults that are described in words.
const FAULTS: usize = 10;

#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) clients: usize,
    pub(crate) window: usize,
}

#[derive(Serialize)]
struct Request {
    seq: u64,
}

#[derive(Deserialize)]
struct Reply {
    version: u32,
    count: u64,
    seq: u64,
    previous: u64,
}

/// The counts that all clients add to.
pub(crate) struct Shared {
    stop: AtomicBool,
    running: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    doubled: AtomicU64,
    disorder: AtomicU64,
    dead: AtomicU64,
    /// The version from which each counter replied last.
    versions: Vec<AtomicU32>,
    faults: Mutex<Vec<String>>,
}

impl Shared {
    fn fault(&self, text: impl FnOnce() -> String) {
        let mut faults = self.faults.lock();
        if faults.len() < FAULTS {
            faults.push(text());
        }
    }
}

/// The results so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) doubled: u64,
    pub(crate) disorder: u64,
    pub(crate) dead: u64,
    pub(crate) faults: Vec<String>,
    /// Whether all requests should have been answered by now.
    pub(crate) last: bool,
}

impl Totals {
    /// Returns the number of requests that were never answered, which is known only at the end;
    /// before, the number of those whose counter exited.
    pub(crate) fn lost(&self) -> u64 {
        if self.last {
            self.sent - self.answered
        } else {
            self.dead
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.lost() == 0 && self.doubled == 0 && self.disorder == 0 && self.dead == 0
    }
}

pub(crate) struct Clients {
    shared: Arc<Shared>,
}

impl Clients {
    pub(crate) fn start(node: &Node, settings: Settings) -> Result<Clients, String> {
        let mut counters = Vec::new();
        while let Ok(pid) = node.find(&format!("counter-{}", counters.len())) {
            counters.push(pid);
        }
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            running: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            disorder: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            versions: counters.iter().map(|_| AtomicU32::new(0)).collect(),
            faults: Mutex::new(Vec::new()),
        });
        let numbered: Vec<(usize, Pid)> = counters.into_iter().enumerate().collect();
        let share = numbered.len().div_ceil(settings.clients).max(1);
        for mine in numbered.chunks(share) {
            let client = Client {
                streams: mine
                    .iter()
                    .map(|(number, pid)| Stream {
                        number: *number,
                        pid: *pid,
                        sent: 0,
                        answered: 0,
                    })
                    .collect(),
                requests: HashMap::new(),
                window: settings.window as u64,
                shared: shared.clone(),
            };
            shared.running.fetch_add(1, Ordering::AcqRel);
            node.spawn_native(Box::new(client))
                .ok_or("the node has no free processes for the clients")?;
        }
        Ok(Clients { shared })
    }

    pub(crate) fn counters(&self) -> usize {
        self.shared.versions.len()
    }

    /// Returns how many counters replied last from this version.
    pub(crate) fn on_version(&self, version: u32) -> usize {
        self.shared
            .versions
            .iter()
            .filter(|last| last.load(Ordering::Acquire) == version)
            .count()
    }

    pub(crate) fn totals(&self) -> Totals {
        let shared = &self.shared;
        // Answers first: whatever is answered in between was sent before.
        let answered = shared.answered.load(Ordering::Acquire);
        Totals {
            answered,
            sent: shared.sent.load(Ordering::Acquire),
            doubled: shared.doubled.load(Ordering::Acquire),
            disorder: shared.disorder.load(Ordering::Acquire),
            dead: shared.dead.load(Ordering::Acquire),
            faults: shared.faults.lock().clone(),
            last: false,
        }
    }

    /// Stops sending requests, and waits for the replies to the outstanding ones.
    pub(crate) fn stop(self, _node: &Node) -> Totals {
        self.shared.stop.store(true, Ordering::Release);
        let began = Instant::now();
        while self.shared.running.load(Ordering::Acquire) > 0
            && began.elapsed() < Duration::from_secs(10)
        {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Totals {
            last: true,
            ..self.totals()
        }
    }
}

/// A counter, as its client knows it.
struct Stream {
    number: usize,
    pid: Pid,
    sent: u64,
    answered: u64,
}

struct Client {
    streams: Vec<Stream>,
    /// The stream and the number of each outstanding request, by reference.
    requests: HashMap<u64, (usize, u64)>,
    window: u64,
    shared: Arc<Shared>,
}

impl Native<Guest> for Client {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        match message.kind {
            Kind::Init => {
                for index in 0..self.streams.len() {
                    for _ in 0..self.window {
                        self.ask(context, index);
                    }
                }
            }
            Kind::Reply => {
                if let Some((index, seq)) = self.requests.remove(&message.reference) {
                    self.check(index, seq, &message);
                    if !self.shared.stop.load(Ordering::Acquire) {
                        self.ask(context, index);
                    }
                }
            }
            Kind::Down => {
                if let Some((index, seq)) = self.requests.remove(&message.reference) {
                    let stream = &self.streams[index];
                    self.shared.dead.fetch_add(1, Ordering::AcqRel);
                    self.shared.fault(|| {
                        format!(
                            "counter-{} exited before it answered request {seq}: {}",
                            stream.number,
                            ExitReason::with(message.reason, message.payload.as_slice())
                        )
                    });
                }
            }
            _ => {}
        }
        if self.requests.is_empty() {
            self.shared.running.fetch_sub(1, Ordering::AcqRel);
            context.exit(ExitReason::new(Reason::NORMAL));
        }
    }
}

impl Client {
    fn ask(&mut self, context: &mut Context<'_, Guest>, index: usize) {
        let stream = &mut self.streams[index];
        stream.sent += 1;
        let seq = stream.sent;
        let reference = context.process.new_reference();
        let payload = rmp_serde::to_vec_named(&Request { seq }).unwrap_or_default();
        self.shared.sent.fetch_add(1, Ordering::AcqRel);
        self.requests.insert(reference, (index, seq));
        let sent =
            context
                .process
                .request(context.system, stream.pid, reference, 0, payload.into());
        if let Err(error) = sent {
            self.requests.remove(&reference);
            self.shared.dead.fetch_add(1, Ordering::AcqRel);
            self.shared
                .fault(|| format!("request {seq} was refused: {error:?}"));
        }
    }

    fn check(&mut self, index: usize, seq: u64, message: &Envelope) {
        let shared = &self.shared;
        let stream = &mut self.streams[index];
        shared.answered.fetch_add(1, Ordering::AcqRel);
        let expected = stream.answered + 1;
        stream.answered = expected;
        let reply: Reply = match rmp_serde::from_slice(message.payload.as_slice()) {
            Ok(reply) => reply,
            Err(error) => {
                shared.disorder.fetch_add(1, Ordering::AcqRel);
                shared.fault(|| format!("an answer to request {seq} is not readable: {error}"));
                return;
            }
        };
        let in_order = seq == expected && reply.seq == seq && reply.previous == seq - 1;
        let once = reply.count == START + seq;
        if !in_order {
            shared.disorder.fetch_add(1, Ordering::AcqRel);
        }
        if !once {
            shared.doubled.fetch_add(1, Ordering::AcqRel);
        }
        if !in_order || !once {
            shared.fault(|| {
                format!(
                    "counter-{}, version {}: request {seq} (expected {expected}) was answered as {} after {}, count {} instead of {}",
                    stream.number,
                    reply.version,
                    reply.seq,
                    reply.previous,
                    reply.count,
                    START + seq
                )
            });
        }
        shared.versions[stream.number].store(reply.version, Ordering::Release);
    }
}
