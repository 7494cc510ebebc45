//! Tests of guests in a real node with virtual time: inside `cargo test`, off Wasm.
//!
//! [`Node::start`] builds the app's modules and boots it. From then on the test is a process of
//! that node: functions of this crate, and clients of protocols, act on behalf of that process,
//! and replies are waited for in virtual time. An hour passes at once, and nothing depends on
//! the speed of the machine. [`Node::swap`] swaps code in the middle of a test.
//!
//! ```no_run
//! use exuvia::prelude::*;
//! use exuvia::test::Node;
//! use std::time::Duration;
//! # #[exuvia::protocol]
//! # pub trait Cart {
//! #     fn add(&mut self, thing: String);
//! #     fn items(&self) -> Vec<String>;
//! # }
//!
//! // A `#[test]`.
//! fn a_cart_is_forgotten_after_an_hour() {
//!     let node = Node::start(env!("CARGO_MANIFEST_DIR"));
//!     let cart = CartClient::whereis("cart").unwrap();
//!     cart.add("apples".to_owned()).unwrap();
//!     node.swap("cart", "versions/cart-v2.wasm").unwrap();
//!     assert_eq!(cart.items().unwrap(), ["apples"]);
//!     node.advance(Duration::from_secs(3600));
//!     assert!(cart.items().unwrap().is_empty());
//! }
//! ```
//!
//! This requires the program `exuvia`: on the path, or at the path in the variable `EXUVIA`. To
//! test a single actor without a node, and without the program, see
//! [`testing`](crate::testing).

use std::cell::RefCell;
use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use exuvia_abi::test_node::{self as ask, FAILED, MOST};
use exuvia_abi::{HOST_CALLS, Header, receive as modes};
use serde::de::DeserializeOwned;

use crate::{Error, Kind, Match, Pid};

thread_local! {
    /// The node that this thread's test runs in.
    static CURRENT: RefCell<Option<Rc<Connection>>> = const { RefCell::new(None) };
}

/// A node that a test runs in, on this thread; it stops when it is dropped.
///
/// ```no_run
/// let node = exuvia::test::Node::start("../bank");
/// node.advance(std::time::Duration::from_secs(60));
/// ```
#[derive(Debug)]
pub struct Node {
    connection: Rc<Connection>,
}

impl Node {
    /// Builds the modules of an app, given by its folder or its manifest, and boots it.
    ///
    /// ```no_run
    /// let node = exuvia::test::Node::start(env!("CARGO_MANIFEST_DIR"));
    /// ```
    ///
    /// # Panics
    ///
    /// If that fails, or if this thread has a node already.
    #[track_caller]
    pub fn start(app: impl AsRef<Path>) -> Node {
        let path = app.as_ref().to_string_lossy().into_owned();
        Node::begin(&Request::new(ask::START).bytes(path.as_bytes()))
    }

    /// Starts a node without an app; see [`Node::swap`] for its modules.
    ///
    /// ```no_run
    /// let node = exuvia::test::Node::empty();
    /// node.swap("echo", "target/wasm32-unknown-unknown/release/echo.wasm").unwrap();
    /// let echo = exuvia::spawn("echo").start().unwrap();
    /// # let _ = echo;
    /// ```
    ///
    /// # Panics
    ///
    /// If it cannot be started, or if this thread has a node already.
    #[track_caller]
    pub fn empty() -> Node {
        Node::begin(&Request::new(ask::EMPTY))
    }

    #[track_caller]
    fn begin(request: &Request) -> Node {
        let taken = CURRENT.with_borrow(Option::is_some);
        assert!(!taken, "this thread's test already has a node");
        let mut connection = Connection::new();
        let pid = connection
            .ask(request)
            .and_then(|mut response| response.pid());
        connection.me = pid.unwrap_or_else(|why| panic!("the node cannot be started: {why}"));
        let connection = Rc::new(connection);
        CURRENT.set(Some(connection.clone()));
        Node { connection }
    }

    /// Advances the clock: timers fire in order, each with all its consequences.
    ///
    /// ```no_run
    /// # let node = exuvia::test::Node::empty();
    /// node.advance(std::time::Duration::from_secs(3600));
    /// ```
    ///
    /// # Panics
    ///
    /// If a process stays busy.
    #[track_caller]
    pub fn advance(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.must(&Request::new(ask::ADVANCE).number(millis));
    }

    /// Swaps a module, or loads it if there was none with this name; returns the line that the
    /// node would print. The error is the reason why the swap was refused.
    ///
    /// ```no_run
    /// # let node = exuvia::test::Node::empty();
    /// let line = node.swap("cart", "target/versions/cart-v2.wasm").unwrap();
    /// assert!(line.contains("reused"), "{line}");
    /// ```
    pub fn swap(&self, module: &str, file: impl AsRef<Path>) -> Result<String, String> {
        let file = file.as_ref().to_string_lossy().into_owned();
        let request = Request::new(ask::LOAD);
        let request = request.bytes(module.as_bytes()).bytes(file.as_bytes());
        self.connection.ask(&request)?.text()
    }

    /// Rolls back to the previous release and returns the line that the node would print.
    ///
    /// ```no_run
    /// # let node = exuvia::test::Node::empty();
    /// node.rollback().unwrap();
    /// ```
    pub fn rollback(&self) -> Result<String, String> {
        self.connection.ask(&Request::new(ask::ROLLBACK))?.text()
    }

    /// Returns the state of an actor, as its `save` returns it.
    ///
    /// ```no_run
    /// # let node = exuvia::test::Node::empty();
    /// #[derive(serde::Deserialize)]
    /// struct Cart {
    ///     items: Vec<String>,
    /// }
    /// let cart: Cart = node.state(exuvia::whereis("cart").unwrap());
    /// assert!(cart.items.is_empty());
    /// ```
    ///
    /// # Panics
    ///
    /// If it has no state, or a state of another type.
    #[track_caller]
    pub fn state<T: DeserializeOwned>(&self, pid: Pid) -> T {
        let mut response = self.must(&Request::new(ask::STATE).pid(pid));
        let state = response.bytes().unwrap_or_else(|why| panic!("{why}"));
        crate::decode(&state).unwrap_or_else(|error| panic!("the state of {pid}: {error}"))
    }

    /// Returns the code that a process runs, as `module@version`.
    ///
    /// ```no_run
    /// # let node = exuvia::test::Node::empty();
    /// assert_eq!(node.version(exuvia::whereis("cart").unwrap()), "cart@2");
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no such process.
    #[track_caller]
    pub fn version(&self, pid: Pid) -> String {
        let mut response = self.must(&Request::new(ask::VERSION).pid(pid));
        response.text().unwrap_or_else(|why| panic!("{why}"))
    }

    /// Returns the events since the last call, as lines that `exuvia run` would print: log
    /// lines, exits, swaps.
    ///
    /// ```no_run
    /// # let node = exuvia::test::Node::empty();
    /// assert!(node.events().iter().any(|line| line.contains("restarted cart")));
    /// ```
    ///
    /// # Panics
    ///
    /// If a process stays busy.
    #[track_caller]
    pub fn events(&self) -> Vec<String> {
        let mut response = self.must(&Request::new(ask::EVENTS));
        let lines = response.text().unwrap_or_else(|why| panic!("{why}"));
        lines.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn must(&self, request: &Request) -> Response {
        let response = self.connection.ask(request);
        response.unwrap_or_else(|why| panic!("{why}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Returns the node of this thread's test, if there is one.
pub(crate) fn current() -> Option<Rc<Connection>> {
    CURRENT.with_borrow(Clone::clone)
}

/// The program `exuvia` and the pipes to it.
pub(crate) struct Connection {
    child: Child,
    pipes: RefCell<Option<(ChildStdin, ChildStdout)>>,
    pub(crate) me: Pid,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.child.id())
    }
}

impl Connection {
    #[track_caller]
    fn new() -> Connection {
        let program = std::env::var_os("EXUVIA").unwrap_or_else(|| "exuvia".into());
        let mut child = Command::new(&program)
            .arg("test-node")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{} cannot be run: {error}. Install it, or set EXUVIA to where it is",
                    program.display()
                )
            });
        let pipes = child.stdin.take().zip(child.stdout.take());
        Connection {
            child,
            pipes: RefCell::new(pipes),
            me: Pid::NONE,
        }
    }

    /// Sends a request to the node. The error is the node's own, not that of a host call.
    fn ask(&self, request: &Request) -> Result<Response, String> {
        let mut pipes = self.pipes.borrow_mut();
        let (input, output) = pipes.as_mut().ok_or("the node has no pipes")?;
        let gone = |error: std::io::Error| format!("the node has exited: {error}");
        let length = u32::try_from(request.0.len()).unwrap_or(u32::MAX);
        input.write_all(&length.to_le_bytes()).map_err(gone)?;
        input.write_all(&request.0).map_err(gone)?;
        input.flush().map_err(gone)?;
        let mut length = [0; 4];
        output.read_exact(&mut length).map_err(gone)?;
        let length = u32::from_le_bytes(length);
        if length > MOST {
            return Err(format!("a response of {length} bytes"));
        }
        let mut bytes = vec![0; length as usize];
        output.read_exact(&mut bytes).map_err(gone)?;
        let mut response = Response {
            code: 0,
            bytes,
            at: 0,
        };
        response.code = response.number()?;
        match response.code {
            FAILED => Err(response.text()?),
            _ => Ok(response),
        }
    }

    /// Makes a host call on behalf of the test's process.
    ///
    /// # Panics
    ///
    /// If a test cannot make this call, or if the node is gone.
    #[track_caller]
    pub(crate) fn call(&self, name: &str, arguments: impl FnOnce(Request) -> Request) -> Response {
        let place = HOST_CALLS.iter().position(|call| call.name == name);
        let place = place.and_then(|place| u8::try_from(place).ok());
        let number = ask::CALLS + place.unwrap_or_else(|| panic!("no host call `{name}`"));
        let response = self.ask(&arguments(Request::new(number)));
        response.unwrap_or_else(|why| panic!("{why}"))
    }

    /// Returns the next message that is wanted; `millis` as in `receive`.
    pub(crate) fn receive(&self, wanted: Match<'_>, millis: i64) -> Result<(Header, Vec<u8>), i32> {
        let (mode, key, of) = match wanted {
            Match::Any => (modes::ANY, 0, Vec::new()),
            Match::Tag(tag) => (modes::TAG, tag.into(), Vec::new()),
            Match::Reference(reference) => (modes::REFERENCE, reference, Vec::new()),
            Match::Sender(pid) => (modes::SENDER, 0, pid.to_bytes().into()),
            Match::References(all) => {
                let all = all.iter().flat_map(|one| one.to_le_bytes());
                (modes::REFERENCES, 0, all.collect())
            }
        };
        let asked = |request: Request| {
            let request = request.number(mode.into()).reference(key);
            request.number(millis).bytes(&of)
        };
        let response = self.call("receive", asked);
        match response.code() {
            code if code < 0 => Err(code),
            _ => Ok(response.message()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The node stops when its input ends.
        self.pipes.take();
        let _ = self.child.wait();
    }
}

/// A request to the node: its number and its arguments.
pub(crate) struct Request(Vec<u8>);

impl Request {
    fn new(number: u8) -> Request {
        Request(vec![number])
    }

    pub(crate) fn number(mut self, number: i64) -> Request {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(crate) fn reference(self, reference: u64) -> Request {
        self.number(reference.cast_signed())
    }

    pub(crate) fn pid(mut self, pid: Pid) -> Request {
        self.0.extend(pid.to_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Request {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend(length.to_le_bytes());
        self.0.extend(bytes);
        self
    }
}

/// A response: a host call's code, and its data.
pub(crate) struct Response {
    code: i64,
    bytes: Vec<u8>,
    at: usize,
}

impl Response {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.bytes.get(self.at..self.at + N);
        self.at += N;
        let taken = taken.and_then(|taken| taken.try_into().ok());
        taken.ok_or_else(|| "the response is too short".to_owned())
    }

    fn number(&mut self) -> Result<i64, String> {
        self.take().map(i64::from_le_bytes)
    }

    fn pid(&mut self) -> Result<Pid, String> {
        self.take().map(Pid::from_bytes)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, String> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        let taken = self.bytes.get(self.at..self.at + length);
        self.at += length;
        taken
            .map(<[u8]>::to_vec)
            .ok_or_else(|| "the response is too short".to_owned())
    }

    fn text(&mut self) -> Result<String, String> {
        String::from_utf8(self.bytes()?).map_err(|error| error.to_string())
    }

    /// Returns the code of a host call that returns an `i32`.
    pub(crate) fn code(&self) -> i32 {
        i32::try_from(self.code).unwrap_or(i32::MAX)
    }

    pub(crate) fn long(&self) -> i64 {
        self.code
    }

    /// Returns the message in the response.
    ///
    /// # Panics
    ///
    /// If there is none: the node and the test are of different releases.
    pub(crate) fn message(mut self) -> (Header, Vec<u8>) {
        let mut read = || -> Result<(Header, Vec<u8>), String> {
            let number = self.number()?;
            let kind = u32::try_from(number).ok().and_then(crate::message::kind);
            let kind: Kind = kind.ok_or_else(|| format!("a message of kind {number}"))?;
            let sender = self.pid()?.0;
            let reference = self.number()?.cast_unsigned();
            let tag = u32::try_from(self.number()?).map_err(|error| error.to_string())?;
            let reason = i32::try_from(self.number()?).map_err(|error| error.to_string())?;
            let payload = self.bytes()?;
            let length = u32::try_from(payload.len()).map_err(|error| error.to_string())?;
            let header = Header {
                kind,
                sender,
                reference,
                tag,
                length,
                reason,
            };
            Ok((header, payload))
        };
        read_from(read())
    }

    fn checked(self) -> Result<Response, Error> {
        Error::check(self.code()).map(|()| self)
    }

    /// Returns the reference written by a call that has succeeded.
    ///
    /// # Panics
    ///
    /// If the response does not contain it.
    pub(crate) fn reference(self) -> Result<u64, Error> {
        let mut response = self.checked()?;
        Ok(read_from(response.number()).cast_unsigned())
    }

    pub(crate) fn process(self) -> Result<Pid, Error> {
        let mut response = self.checked()?;
        Ok(read_from(response.pid()))
    }

    pub(crate) fn process_and_reference(self) -> Result<(Pid, u64), Error> {
        let mut response = self.checked()?;
        let pid = read_from(response.pid());
        Ok((pid, read_from(response.number()).cast_unsigned()))
    }

    /// Copies the bytes into a buffer if they fit; returns their length, or the call's code.
    pub(crate) fn into_room(mut self, room: &mut [u8]) -> i32 {
        if self.code() < 0 {
            return self.code();
        }
        let bytes = read_from(self.bytes());
        if let Some(room) = room.get_mut(..bytes.len()) {
            room.copy_from_slice(&bytes);
        }
        i32::try_from(bytes.len()).unwrap_or(i32::MAX)
    }

    pub(crate) fn pids(mut self, room: &mut [[u8; 16]]) -> i32 {
        let count = self.code();
        for place in room.iter_mut().take(usize::try_from(count).unwrap_or(0)) {
            *place = read_from(self.take());
        }
        count
    }
}

fn read_from<T>(read: Result<T, String>) -> T {
    read.unwrap_or_else(|why| panic!("the node's response cannot be read: {why}"))
}
