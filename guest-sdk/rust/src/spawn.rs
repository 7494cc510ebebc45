//! Starting processes.

use std::time::Duration;

use exuvia_abi::spawn as flags;
use serde::Serialize;

use crate::sys::{self, RawSpawn};
use crate::{Address, Error, Grants, Pid, Priority, Wait};

/// A process to be started. The limits are as this process's own unless they
/// are set, and never above them.
///
/// ```no_run
/// # fn main() -> Result<(), exuvia::Error> {
/// let child = exuvia::spawn("worker").args(&("north", 3))?.link().sync().start()?;
/// child.pid.send(&"begin")?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Spawn<'a> {
    module: &'a str,
    arguments: Vec<u8>,
    grants: Vec<u8>,
    options: RawSpawn,
}

/// A started process.
///
/// ```no_run
/// # fn main() -> Result<(), exuvia::Error> {
/// let child = exuvia::spawn("worker").monitor().start()?;
/// exuvia::info!("{} under {:?}", child.pid, child.monitor);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its pid.
    pub pid: Pid,
    /// The monitor's reference, if there was to be one.
    pub monitor: Option<u64>,
}

impl Child {
    /// Its pid as a typed address.
    ///
    /// ```no_run
    /// # use exuvia::Address;
    /// # fn main() -> Result<(), exuvia::Error> {
    /// let worker: Address<String> = exuvia::spawn("worker").start()?.address();
    /// worker.send(&"begin".to_owned())?;
    /// # Ok(()) }
    /// ```
    pub fn address<M, Q, R>(self) -> Address<M, Q, R> {
        Address::new(self.pid)
    }
}

/// A process of that module of the current release.
///
/// ```no_run
/// let child = exuvia::spawn("worker").start();
/// # let _ = child;
/// ```
pub fn spawn(module: &str) -> Spawn<'_> {
    Spawn {
        module,
        arguments: Vec::new(),
        grants: Vec::new(),
        options: RawSpawn {
            size: flags::OPTIONS_KNOWN,
            ..RawSpawn::default()
        },
    }
}

/// A process of this process's own module.
///
/// ```no_run
/// let twin = exuvia::spawn_self().start();
/// # let _ = twin;
/// ```
pub fn spawn_self() -> Spawn<'static> {
    // The host takes an empty name as the caller's module.
    spawn("")
}

impl Spawn<'_> {
    /// Its arguments, a value: an actor gets it in [`init`](crate::Actor::init).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), exuvia::Error> {
    /// let child = exuvia::spawn("worker").args(&7)?.start()?;
    /// # let _ = child; Ok(()) }
    /// ```
    pub fn args<T: Serialize + ?Sized>(mut self, arguments: &T) -> Result<Self, Error> {
        self.arguments = crate::encode(arguments)?;
        Ok(self)
    }

    /// Its arguments, bytes.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").args_bytes(b"raw").start();
    /// # let _ = child;
    /// ```
    pub fn args_bytes(mut self, arguments: &[u8]) -> Self {
        self.arguments = arguments.to_vec();
        self
    }

    /// Links it to this process before it runs.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").link().start();
    /// # let _ = child;
    /// ```
    pub fn link(mut self) -> Self {
        self.options.flags |= flags::LINK;
        self
    }

    /// Monitors it before it runs.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").monitor().start();
    /// # let _ = child;
    /// ```
    pub fn monitor(mut self) -> Self {
        self.options.flags |= flags::MONITOR;
        self
    }

    /// Waits until it says that its start has succeeded, else
    /// [`Error::StartFailed`].
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").sync().start();
    /// # let _ = child;
    /// ```
    pub fn sync(mut self) -> Self {
        self.options.flags |= flags::SYNC;
        self
    }

    /// How long [`sync`](Spawn::sync) waits.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// let child = exuvia::spawn("worker").sync().start_timeout(Duration::from_secs(30)).start();
    /// # let _ = child;
    /// ```
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        let millis = Wait::For(timeout).millis();
        // 0 would mean the default.
        self.options.start_timeout = u32::try_from(millis).unwrap_or(u32::MAX).max(1);
        self
    }

    /// The most memory it may have, in bytes.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").memory(4 << 20).start();
    /// # let _ = child;
    /// ```
    pub fn memory(mut self, bytes: u64) -> Self {
        self.options.memory = bytes;
        self
    }

    /// The most its mailbox may hold.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").mailbox(1_000, 1 << 20).start();
    /// # let _ = child;
    /// ```
    pub fn mailbox(mut self, messages: u32, bytes: u64) -> Self {
        self.options.mailbox_messages = messages;
        self.options.mailbox_bytes = bytes;
        self
    }

    /// The largest message it may send, in bytes.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").message_size(64 << 10).start();
    /// # let _ = child;
    /// ```
    pub fn message_size(mut self, bytes: u32) -> Self {
        self.options.message_bytes = bytes;
        self
    }

    /// How many children it may have.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").children(10).start();
    /// # let _ = child;
    /// ```
    pub fn children(mut self, count: u32) -> Self {
        self.options.children = count;
        self
    }

    /// How many processes it may have below it: its children, theirs, and so on.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").descendants(100).start();
    /// # let _ = child;
    /// ```
    pub fn descendants(mut self, count: u32) -> Self {
        self.options.descendants = count;
        self
    }

    /// The most bytes that its tables may have.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").tables(1 << 20).start();
    /// # let _ = child;
    /// ```
    pub fn tables(mut self, bytes: u64) -> Self {
        self.options.tables = bytes;
        self
    }

    /// The highest priority that it may have. It begins with this one, or with
    /// [`Priority::Normal`] if that is lower.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").priority(exuvia::Priority::Low).start();
    /// # let _ = child;
    /// ```
    pub fn priority(mut self, highest: Priority) -> Self {
        self.options.priority = highest as u32;
        self
    }

    /// How many files it may have open.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").files(4).start();
    /// # let _ = child;
    /// ```
    pub fn files(mut self, count: u32) -> Self {
        self.options.files = count;
        self
    }

    /// What of this process's part of the system it gets through WASI; all of it, if this is not
    /// called. What this process does not have is refused with [`Error::Limit`].
    ///
    /// ```no_run
    /// use exuvia::Grants;
    ///
    /// let grants = Grants::none().read("/texts", "/in/texts").env("LANG", "C");
    /// let child = exuvia::spawn("worker").grants(&grants).start();
    /// # let _ = child;
    /// ```
    pub fn grants(mut self, grants: &Grants) -> Self {
        self.grants = grants.encoded();
        self
    }

    /// Starts it.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").start();
    /// # let _ = child;
    /// ```
    pub fn start(mut self) -> Result<Child, Error> {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "where a pointer has more bits there is no host that reads it"
        )]
        if !self.grants.is_empty() {
            self.options.grants = [
                self.grants.as_ptr() as usize as u32,
                self.grants.len() as u32,
            ];
        }
        let (pid, reference) = sys::spawn(self.module, &self.arguments, &self.options)?;
        let monitored = self.options.flags & flags::MONITOR != 0;
        Ok(Child {
            pid,
            monitor: monitored.then_some(reference),
        })
    }
}
