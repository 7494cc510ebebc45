//! An in-memory host for unit tests of guests: a mailbox that the test fills, and a record of
//! what the guest did. One per thread, and only off Wasm.
//!
//! It is a stub, not a second host: messages that are sent arrive nowhere, time stands still,
//! and no process exists but the one under test. What a call returns is what a node would return;
//! the cases of `modules/conformance` are run in a node, in [`test`](crate::test) and here.
//!
//! ```
//! use exuvia::prelude::*;
//! use exuvia::testing::{self, Effect, Process};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Counter {
//!     count: u64,
//! }
//!
//! #[exuvia::actor(schema = 1)]
//! impl Actor for Counter {
//!     type Request = u64;
//!     type Reply = u64;
//!     fn init(_: (), _: &mut Context) -> Result<Self, String> {
//!         Ok(Counter { count: 0 })
//!     }
//!     fn handle_call(&mut self, by: u64, _: Caller<u64>, _: &mut Context) -> Option<u64> {
//!         self.count += by;
//!         Some(self.count)
//!     }
//! }
//!
//! let mut process = Process::<Counter>::start(&());
//! let client = Pid::from_parts(1, 77);
//! let reference = testing::deliver_request(client, &5_u64);
//! process.run();
//! assert_eq!(testing::reply_to::<u64>(reference), Ok(5));
//! ```

mod groups;
pub(crate) mod host;
mod io;
mod messages;
mod processes;
mod tables;

use std::borrow::Cow;
use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use self::io::{
    datagrams, deliver_connected, deliver_end, deliver_event, deliver_fetched,
    deliver_fetched_in_parts, deliver_http, deliver_http_in_parts, deliver_part, deliver_upload,
    deliver_uploaded, response_to, unread,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::task::Slot;
use crate::{Actor, Error, Kind, Level, Message, Pid, Priority, Reason, RunResult, runtime, tag};

/// The pid of the process under test.
pub const ME: Pid = Pid::from_parts(1, 1);

/// The pid of the process that makes requests to the outside: see [`deliver_fetched`].
pub const HTTP_CLIENT: Pid = Pid::from_parts(1, 0);

/// An action of the guest.
///
/// ```
/// use exuvia::testing::{self, Effect};
/// exuvia::info!("hello");
/// assert_eq!(
///     testing::effects(),
///     [Effect::Log { level: exuvia::Level::Info, line: "hello".to_owned() }]
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are the host call's arguments")]
pub enum Effect {
    /// `send`.
    Send { to: Pid, tag: u32, payload: Vec<u8> },
    /// `request` or `call`.
    Request {
        to: Pid,
        tag: u32,
        payload: Vec<u8>,
        reference: u64,
    },
    /// `reply`.
    Reply {
        to: Pid,
        reference: u64,
        tag: u32,
        payload: Vec<u8>,
    },
    /// `spawn`.
    Spawn {
        module: String,
        arguments: Vec<u8>,
        flags: u32,
        pid: Pid,
    },
    /// `init_ack`; status 0 is success.
    InitAck { status: i32, payload: Vec<u8> },
    /// `exit`.
    Exit { reason: Reason, payload: Vec<u8> },
    /// `exit_process`.
    ExitProcess { pid: Pid, reason: Reason },
    /// `kill`.
    Kill { pid: Pid },
    /// `link`.
    Link { pid: Pid },
    /// `unlink`.
    Unlink { pid: Pid },
    /// `monitor`.
    Monitor { pid: Pid, reference: u64 },
    /// `demonitor`.
    Demonitor { reference: u64 },
    /// `send_after`.
    Timer {
        to: Pid,
        tag: u32,
        payload: Vec<u8>,
        millis: i64,
        reference: u64,
    },
    /// `cancel_timer`.
    CancelTimer { reference: u64 },
    /// `sleep`.
    Sleep { millis: i64 },
    /// `log`.
    Log { level: Level, line: String },
    /// `publish`.
    Publish {
        group: String,
        tag: u32,
        payload: Vec<u8>,
    },
    /// `table_give`.
    GiveTable { table: u64, to: Pid, tag: u32 },
    /// `supervisor_start`.
    SupervisorStart { specification: Vec<u8> },
}

/// The state of the in-memory host.
struct World {
    mailbox: VecDeque<Waiting>,
    /// Whether the next call that would wait fails with LIMIT.
    refuses: bool,
    effects: Vec<Effect>,
    /// Processes whose mailboxes are full.
    full: BTreeSet<Pid>,
    /// What all clocks say.
    clock: Duration,
    answers: VecDeque<Result<Vec<u8>, Reason>>,
    names: BTreeMap<String, Pid>,
    groups: BTreeMap<String, BTreeSet<Pid>>,
    tables: tables::Tables,
    /// Sockets from which the guest reads.
    arriving: BTreeMap<Pid, io::Arriving>,
    config: BTreeMap<String, Vec<u8>>,
    /// Timers that are set, and their delays in milliseconds.
    timers: BTreeMap<u64, i64>,
    priority: Priority,
    trapping: bool,
    /// References and pids issued so far.
    given: u64,
    state: Option<Vec<u8>>,
}

/// A message in the mailbox.
struct Waiting {
    /// The number in its header, which may be one of a later host.
    kind: u32,
    message: Message<'static>,
}

impl World {
    const fn new() -> World {
        World {
            mailbox: VecDeque::new(),
            refuses: false,
            effects: Vec::new(),
            full: BTreeSet::new(),
            clock: Duration::ZERO,
            answers: VecDeque::new(),
            names: BTreeMap::new(),
            groups: BTreeMap::new(),
            tables: tables::Tables::new(),
            arriving: BTreeMap::new(),
            config: BTreeMap::new(),
            timers: BTreeMap::new(),
            priority: Priority::Normal,
            trapping: false,
            given: 0,
            state: None,
        }
    }

    fn next(&mut self) -> u64 {
        self.given += 1;
        self.given
    }
}

thread_local! {
    static WORLD: RefCell<World> = const { RefCell::new(World::new()) };
}

fn world<R>(with: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(with)
}

/// Resets the in-memory host: for threads that run several tests.
///
/// ```
/// exuvia::testing::reset();
/// ```
pub fn reset() {
    world(|world| *world = World::new());
}

/// Puts a message into the mailbox.
///
/// ```
/// use exuvia::{Kind, Match, Message, Pid, Reason, Wait, testing};
/// testing::deliver(Message {
///     kind: Kind::Exit,
///     sender: Pid::from_parts(1, 9),
///     reference: 0,
///     tag: 0,
///     reason: Reason::KILLED,
///     payload: b"by hand".into(),
/// });
/// assert!(exuvia::receive(Match::Any, Wait::No).is_ok());
/// ```
pub fn deliver(message: Message<'static>) {
    let kind = message.kind as u32;
    world(|world| world.mailbox.push_back(Waiting { kind, message }));
}

/// Puts a message into the mailbox whose kind only a later host knows: a guest skips it.
///
/// ```
/// use exuvia::{Match, Nothing, Wait, testing};
/// testing::deliver_unknown(b"from the future");
/// assert_eq!(exuvia::receive(Match::Any, Wait::No), Err(Nothing::Empty));
/// ```
pub fn deliver_unknown(payload: &[u8]) {
    let message = Message {
        kind: Kind::Message,
        sender: Pid::NONE,
        reference: 0,
        tag: 0,
        reason: Reason::NORMAL,
        payload: Cow::Owned(payload.to_vec()),
    };
    let kind = u32::MAX;
    world(|world| world.mailbox.push_back(Waiting { kind, message }));
}

/// Makes the next call that would wait fail because the maximum number of processes are
/// waiting.
///
/// ```
/// use exuvia::{Match, Nothing, Wait, testing};
/// testing::refuse_wait();
/// assert_eq!(exuvia::receive(Match::Any, Wait::Forever), Err(Nothing::Limit));
/// ```
pub fn refuse_wait() {
    world(|world| world.refuses = true);
}

/// Fills the mailbox of another process: what is sent to it fails with [`Error::MailboxFull`], and it misses what is
/// published.
///
/// ```
/// use exuvia::{Error, Pid, testing};
/// let slow = Pid::from_parts(1, 2);
/// testing::fill_mailbox(slow);
/// assert_eq!(slow.send(&1), Err(Error::MailboxFull));
/// ```
pub fn fill_mailbox(pid: Pid) {
    world(|world| world.full.insert(pid));
}

/// Lets time pass: [`monotonic`](crate::monotonic) and [`realtime`](crate::realtime) say so. Timers do not fire by it: deliver them with
/// [`deliver_timer`].
///
/// ```
/// use std::time::Duration;
/// exuvia::testing::advance(Duration::from_secs(3));
/// assert_eq!(exuvia::monotonic(), Duration::from_secs(3));
/// ```
pub fn advance(by: Duration) {
    world(|world| world.clock += by);
}

/// The process whose mailbox was [filled](fill_mailbox) has read it.
///
/// ```
/// use exuvia::{Pid, testing};
/// let slow = Pid::from_parts(1, 2);
/// testing::fill_mailbox(slow);
/// testing::empty_mailbox(slow);
/// assert_eq!(slow.send(&1), Ok(()));
/// ```
pub fn empty_mailbox(pid: Pid) {
    world(|world| world.full.remove(&pid));
}

/// Puts a typed message into the mailbox, as [`Pid::send`] does.
///
/// ```
/// exuvia::testing::deliver_message(exuvia::Pid::NONE, &"hello");
/// ```
pub fn deliver_message<T: Serialize + ?Sized>(from: Pid, value: &T) {
    deliver(typed(Kind::Message, from, 0, value));
}

/// Puts a typed request into the mailbox, as [`Pid::call`] does. Returns its reference.
///
/// ```
/// let reference = exuvia::testing::deliver_request(exuvia::Pid::NONE, &"how many?");
/// # let _ = reference;
/// ```
pub fn deliver_request<T: Serialize + ?Sized>(from: Pid, value: &T) -> u64 {
    let reference = world(World::next);
    deliver(typed(Kind::Request, from, reference, value));
    reference
}

/// Puts the reply to a request of the guest into the mailbox: a value, or the exit reason of
/// the receiver. The reference is in [`Effect::Request`].
///
/// ```
/// use exuvia::{Address, Pid, Wait, testing};
/// let peer = Address::<(), (), u64>::new(Pid::from_parts(1, 2));
/// let pending = peer.request(&()).unwrap();
/// testing::deliver_reply(pending.reference(), Ok(&5_u64));
/// assert_eq!(pending.wait(Wait::No), Ok(5));
/// ```
pub fn deliver_reply<T: Serialize + ?Sized>(reference: u64, answer: Result<&T, Reason>) {
    deliver(match answer {
        Ok(value) => typed(Kind::Reply, Pid::NONE, reference, value),
        Err(reason) => Message {
            reason,
            ..typed(Kind::Down, Pid::NONE, reference, &())
        },
    });
}

/// Lets a timer that the guest has set fire. The reference is in [`Effect::Timer`].
///
/// ```
/// use exuvia::testing::{self, Effect};
/// exuvia::me().send_after(&"tick", std::time::Duration::from_secs(1)).unwrap();
/// testing::deliver_timer(&testing::effects()[0]);
/// assert_eq!(exuvia::mailbox_length(), 1);
/// ```
///
/// # Panics
///
/// If `timer` is not a timer.
pub fn deliver_timer(timer: &Effect) {
    let Effect::Timer {
        tag,
        payload,
        reference,
        ..
    } = timer
    else {
        panic!("{timer:?} is not a timer");
    };
    world(|world| world.timers.remove(reference));
    deliver(Message {
        kind: Kind::Timer,
        sender: ME,
        reference: *reference,
        tag: *tag,
        reason: Reason::NORMAL,
        payload: Cow::Owned(payload.clone()),
    });
}

/// Sets the reply to the next `call`: a value, or the exit reason of its receiver. A call
/// without a reply times out.
///
/// ```
/// use exuvia::{Pid, Wait, testing};
/// testing::answer_call(Ok(&5_u64));
/// assert_eq!(Pid::from_parts(1, 2).call(&"how many?", Wait::Forever), Ok(5_u64));
/// ```
pub fn answer_call<T: Serialize + ?Sized>(answer: Result<&T, Reason>) {
    let answer = answer.map(|value| encoded(value));
    world(|world| world.answers.push_back(answer));
}

/// Sets the app's configuration value for a key, for [`config`](crate::config).
///
/// ```
/// exuvia::testing::set_config("chat.max_users", &100);
/// assert_eq!(exuvia::config("chat.max_users"), Ok(Some(100)));
/// ```
pub fn set_config<T: Serialize + ?Sized>(key: &str, value: &T) {
    let value = encoded(value);
    world(|world| world.config.insert(key.to_owned(), value));
}

/// Returns what the guest did since the last call.
///
/// ```
/// exuvia::Pid::from_parts(1, 2).send(&1).unwrap();
/// assert_eq!(exuvia::testing::effects().len(), 1);
/// assert!(exuvia::testing::effects().is_empty());
/// ```
pub fn effects() -> Vec<Effect> {
    world(|world| std::mem::take(&mut world.effects))
}

/// Returns the reply to the request with this reference and removes it from the effects.
/// [`Error::Timeout`] if there is none.
///
/// ```
/// use exuvia::{Error, testing};
/// assert_eq!(testing::reply_to::<u64>(7), Err(Error::Timeout));
/// ```
pub fn reply_to<T: DeserializeOwned>(reference: u64) -> Result<T, Error> {
    let (tag, payload) = reply(reference).ok_or(Error::Timeout)?;
    Message {
        kind: Kind::Reply,
        sender: Pid::NONE,
        reference,
        tag,
        reason: Reason::NORMAL,
        payload: Cow::Owned(payload),
    }
    .decode()
}

/// Takes the tag and the payload of the reply to a request.
fn reply(reference: u64) -> Option<(u32, Vec<u8>)> {
    world(|world| {
        let at = world.effects.iter().position(
            |effect| matches!(effect, Effect::Reply { reference: of, .. } if *of == reference),
        )?;
        match world.effects.remove(at) {
            Effect::Reply { tag, payload, .. } => Some((tag, payload)),
            _ => None,
        }
    })
}

/// The process of an actor under test: its state between two entries.
///
/// ```no_run
/// # use exuvia::prelude::*;
/// # fn example<A: Actor<Args = ()>>() {
/// let mut process = exuvia::testing::Process::<A>::start(&());
/// let saved = process.save().unwrap();
/// assert!(process.load(1, &saved));
/// # }
/// ```
#[derive(Debug)]
pub struct Process<A> {
    slot: RefCell<Slot<A>>,
}

impl<A: Actor> Process<A> {
    /// Creates a process that has not run yet.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # fn example<A: Actor>() {
    /// let process = exuvia::testing::Process::<A>::new();
    /// assert!(process.state().is_none());
    /// # }
    /// ```
    pub fn new() -> Process<A> {
        Process {
            slot: RefCell::new(Slot::new()),
        }
    }

    /// Creates a process that has received its arguments and has run.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # fn example<A: Actor<Args = u64>>() {
    /// let process = exuvia::testing::Process::<A>::start(&3_u64);
    /// # let _ = process; }
    /// ```
    pub fn start<T: Serialize + ?Sized>(arguments: &T) -> Process<A> {
        let mut process = Process::new();
        deliver(typed(Kind::Init, Pid::NONE, 0, arguments));
        process.run();
        process
    }

    /// Enters the process, as the host does when there is something to do. `Waiting` means that
    /// an `async` handler waits for a message from [`deliver_reply`] or [`deliver_timer`].
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # fn example<A: Actor>(process: &mut exuvia::testing::Process<A>) {
    /// assert_eq!(process.run(), exuvia::RunResult::Rest);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the actor terminates with a reason that is not `normal`: the in-memory host has no
    /// other way to stop it. The effects contain the reason.
    pub fn run(&mut self) -> RunResult {
        runtime::run(&self.slot)
    }

    /// Returns the state as `save` encodes it, or `None` if it refuses.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # fn example<A: Actor>(process: &exuvia::testing::Process<A>) {
    /// assert!(process.save().is_some());
    /// # }
    /// ```
    pub fn save(&self) -> Option<Vec<u8>> {
        world(|world| world.state = None);
        runtime::save(&self.slot).then(|| world(|world| world.state.take().unwrap_or_default()))
    }

    /// Loads a state that another version saved; returns `false` if it is rejected.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # fn example<A: Actor>(process: &mut exuvia::testing::Process<A>, saved: &[u8]) {
    /// assert!(process.load(1, saved));
    /// # }
    /// ```
    pub fn load(&mut self, from_schema: i32, bytes: &[u8]) -> bool {
        world(|world| world.state = Some(bytes.to_vec()));
        runtime::load(&self.slot, from_schema, bytes.len())
    }

    /// Returns the state; `None` before the start, and while an `async` handler owns it.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # fn example<A: Actor>(process: &exuvia::testing::Process<A>) {
    /// assert!(process.state().is_some());
    /// # }
    /// ```
    pub fn state(&self) -> Ref<'_, Option<A>> {
        Ref::map(self.slot.borrow(), |slot| &slot.state)
    }
}

impl<A: Actor> Default for Process<A> {
    fn default() -> Process<A> {
        Process::new()
    }
}

fn typed<T: Serialize + ?Sized>(
    kind: Kind,
    sender: Pid,
    reference: u64,
    value: &T,
) -> Message<'static> {
    Message {
        kind,
        sender,
        reference,
        tag: tag::TYPED,
        reason: Reason::NORMAL,
        payload: Cow::Owned(encoded(value)),
    }
}

fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    crate::encode(value).unwrap_or_else(|error| panic!("the test's value: {error}"))
}
