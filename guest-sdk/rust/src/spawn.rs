//! Starting processes.

use std::time::Duration;

use exuvia_abi::spawn as flags;
use serde::Serialize;

use crate::sys::{self, RawSpawn};
use crate::{Address, Error, Grants, Pid, Priority, Wait};

/// A process to be started. Its limits are this process's own unless they are set, and never
/// exceed them.
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
    /// The pid.
    pub pid: Pid,
    /// The monitor's reference, if one was requested.
    pub monitor: Option<u64>,
}

impl Child {
    /// Returns the pid as a typed address.
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

/// Prepares to spawn a process of a module of the current release.
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

/// Prepares to spawn a process of this process's own module.
///
/// ```no_run
/// let twin = exuvia::spawn_self().start();
/// # let _ = twin;
/// ```
pub fn spawn_self() -> Spawn<'static> {
    // To the host, an empty name means the caller's module.
    spawn("")
}

impl Spawn<'_> {
    /// Sets the arguments to a value: an actor receives it in [`init`](crate::Actor::init).
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

    /// Sets the arguments to bytes.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").args_bytes(b"raw").start();
    /// # let _ = child;
    /// ```
    pub fn args_bytes(mut self, arguments: &[u8]) -> Self {
        self.arguments = arguments.to_vec();
        self
    }

    /// Links the process to this one before it runs.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").link().start();
    /// # let _ = child;
    /// ```
    pub fn link(mut self) -> Self {
        self.options.flags |= flags::LINK;
        self
    }

    /// Monitors the process before it runs.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").monitor().start();
    /// # let _ = child;
    /// ```
    pub fn monitor(mut self) -> Self {
        self.options.flags |= flags::MONITOR;
        self
    }

    /// Makes `start` wait until the process acknowledges its start; if it fails, `start`
    /// returns [`Error::StartFailed`].
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").sync().start();
    /// # let _ = child;
    /// ```
    pub fn sync(mut self) -> Self {
        self.options.flags |= flags::SYNC;
        self
    }

    /// Sets how long [`sync`](Spawn::sync) waits.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// let child = exuvia::spawn("worker").sync().start_timeout(Duration::from_secs(30)).start();
    /// # let _ = child;
    /// ```
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        let millis = Wait::For(timeout).millis();
        // 0 means the default.
        self.options.start_timeout = u32::try_from(millis).unwrap_or(u32::MAX).max(1);
        self
    }

    /// Sets the maximum size of its memory, in bytes.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").memory(4 << 20).start();
    /// # let _ = child;
    /// ```
    pub fn memory(mut self, bytes: u64) -> Self {
        self.options.memory = bytes;
        self
    }

    /// Sets the maximum number of messages and bytes in its mailbox.
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

    /// Sets the maximum size of a message it sends, in bytes.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").message_size(64 << 10).start();
    /// # let _ = child;
    /// ```
    pub fn message_size(mut self, bytes: u32) -> Self {
        self.options.message_bytes = bytes;
        self
    }

    /// Sets the maximum number of its children.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").children(10).start();
    /// # let _ = child;
    /// ```
    pub fn children(mut self, count: u32) -> Self {
        self.options.children = count;
        self
    }

    /// Sets the maximum number of its descendants: its children, their children, and so on.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").descendants(100).start();
    /// # let _ = child;
    /// ```
    pub fn descendants(mut self, count: u32) -> Self {
        self.options.descendants = count;
        self
    }

    /// Sets the maximum size of its tables, in bytes.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").tables(1 << 20).start();
    /// # let _ = child;
    /// ```
    pub fn tables(mut self, bytes: u64) -> Self {
        self.options.tables = bytes;
        self
    }

    /// Sets the highest priority that it may have. It starts with this priority, or with
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

    /// Sets the maximum number of files that it may have open.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").files(4).start();
    /// # let _ = child;
    /// ```
    pub fn files(mut self, count: u32) -> Self {
        self.options.files = count;
        self
    }

    /// Sets what it gets through WASI out of what this process has; everything, if this is not
    /// called. Granting what this process does not have fails with [`Error::Limit`].
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

    /// Starts the process.
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
        let (pid, reference) =
            sys::spawn(self.module, &self.arguments, &self.options, &self.grants)?;
        let monitored = self.options.flags & flags::MONITOR != 0;
        Ok(Child {
            pid,
            monitor: monitored.then_some(reference),
        })
    }
}
