//! What a process can request of the host about itself and the node.

use std::time::Duration;

use exuvia_abi::{clock, demonitor as flags, info};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Scratch;
use crate::{Error, Pid, Priority, Reason, Wait, sys};

/// Returns this process's pid.
///
/// ```
/// assert_eq!(exuvia::me(), exuvia::me());
/// ```
pub fn me() -> Pid {
    sys::self_pid()
}

/// Registers a name for a process; the name is released when the process terminates.
///
/// ```
/// exuvia::register("logger", exuvia::me()).unwrap();
/// assert_eq!(exuvia::whereis("logger"), Ok(exuvia::me()));
/// ```
pub fn register(name: &str, pid: Pid) -> Result<(), Error> {
    Error::check(sys::register(name, pid))
}

/// Unregisters a name.
///
/// ```
/// exuvia::unregister("logger").ok();
/// ```
pub fn unregister(name: &str) -> Result<(), Error> {
    Error::check(sys::unregister(name))
}

/// Returns the process with this name, or [`Error::NoProc`] if there is none.
///
/// ```
/// assert!(exuvia::whereis("nobody").is_err());
/// ```
pub fn whereis(name: &str) -> Result<Pid, Error> {
    sys::whereis(name)
}

/// Monitors the process that currently has a name, as [`Pid::monitor`] does. Returns its pid
/// and the monitor's reference; if no process has the name, the pid is [`Pid::NONE`] and the
/// message arrives at once.
///
/// ```
/// # fn example() -> Result<(), exuvia::Error> {
/// let (registry, monitor) = exuvia::monitor_name("registry")?;
/// # let _ = (registry, monitor); Ok(()) }
/// ```
pub fn monitor_name(name: &str) -> Result<(Pid, u64), Error> {
    sys::monitor_name(name)
}

/// Sets the scheduling priority of this process and returns the previous one.
/// [`Error::Denied`]: its limits do not allow it (`limits.priority` of the manifest).
///
/// ```
/// use exuvia::Priority;
/// assert_eq!(exuvia::set_priority(Priority::Low), Ok(Priority::Normal));
/// ```
pub fn set_priority(priority: Priority) -> Result<Priority, Error> {
    let before = sys::set_priority(priority as u32);
    Error::check(before)?;
    Ok(Priority::new(before.unsigned_abs()).unwrap_or_default())
}

/// Returns the app's configuration value for a key: `[config]` of the manifest. Dots reach a
/// key in a table, and `""` is the whole table. Returns `None` if the manifest has no such key.
///
/// ```
/// # fn example() -> Result<(), exuvia::Error> {
/// // [config.chat]
/// // max_users = 100
/// let most: Option<u32> = exuvia::config("chat.max_users")?;
/// # let _ = most; Ok(()) }
/// ```
pub fn config<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let found = crate::codec::fetch(|room| sys::config(key, room))?;
    found.map(|bytes| crate::decode(&bytes)).transpose()
}

/// Sets whether the exits of linked processes arrive as messages instead of terminating this
/// process. Returns the previous setting.
///
/// ```
/// assert!(!exuvia::trap_exit(true));
/// ```
pub fn trap_exit(on: bool) -> bool {
    sys::trap_exit(on)
}

/// Cancels a monitor or a pending request: nothing more arrives with its reference. With
/// `flush`, messages that have arrived already are dropped as well.
///
/// ```
/// # fn example(reference: u64) { exuvia::demonitor(reference, true).ok(); }
/// ```
pub fn demonitor(reference: u64, flush: bool) -> Result<(), Error> {
    Error::check(sys::demonitor(
        reference,
        if flush { flags::FLUSH } else { 0 },
    ))
}

/// Cancels a timer. Returns the remaining time, or `None` if it had fired already.
///
/// ```
/// assert_eq!(exuvia::cancel_timer(12_345), None);
/// ```
pub fn cancel_timer(reference: u64) -> Option<Duration> {
    let left = sys::cancel_timer(reference);
    u64::try_from(left).ok().map(Duration::from_millis)
}

/// Waits. The process keeps its frame meanwhile; a timer costs less. [`Error::Limit`]: the
/// maximum number of processes are waiting already, and this one did not wait at all.
///
/// ```
/// exuvia::sleep(std::time::Duration::from_millis(5)).unwrap();
/// ```
pub fn sleep(duration: Duration) -> Result<(), Error> {
    Error::check(sys::sleep(Wait::For(duration)))
}

/// Terminates this process.
///
/// ```no_run
/// exuvia::exit(exuvia::Reason::SHUTDOWN, "told to");
/// ```
pub fn exit(reason: Reason, text: &str) -> ! {
    sys::exit(reason, text.as_bytes())
}

/// Acknowledges that the start has succeeded, so that a waiting parent continues. It is sent
/// automatically after an actor's [`init`](crate::Actor::init), and for a process that rests or
/// waits for the first time after it has taken its first message.
///
/// ```
/// exuvia::init_ack();
/// ```
pub fn init_ack() {
    sys::init_ack(0, &[]);
}

/// Reports that the start has failed, and why. Return
/// [`RunResult::Done`](crate::RunResult::Done) afterwards.
///
/// ```
/// exuvia::init_failed(exuvia::Reason(exuvia::Reason::GUEST), "no such table");
/// ```
pub fn init_failed(reason: Reason, text: &str) {
    sys::init_ack(reason.0, text.as_bytes());
}

/// Fills a buffer with random bytes.
///
/// ```
/// let mut key = [0; 16];
/// exuvia::random(&mut key);
/// ```
pub fn random(buffer: &mut [u8]) {
    // One call fills at most this many bytes.
    for part in buffer.chunks_mut(exuvia_abi::limits::RANDOM as usize) {
        let answer = sys::random(part);
        assert!(answer >= 0, "the host returned {answer} from random");
    }
}

/// Makes bytes zero, and gives their memory back to the system where that is worth it: for large
/// buffers of a process that keeps them. The image of a process at rest has no zeros, whoever wrote them.
/// What is freed is cleared by the allocator.
///
/// ```
/// let mut buffer = vec![7; 1_000_000];
/// exuvia::discard(&mut buffer);
/// assert!(buffer.iter().all(|byte| *byte == 0));
/// ```
pub fn discard(buffer: &mut [u8]) {
    sys::discard(buffer);
}

/// Returns a random number.
///
/// ```
/// let die = exuvia::random_u64() % 6 + 1;
/// # assert!(die <= 6);
/// ```
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Returns the time since some fixed point; it never goes back.
///
/// ```
/// let before = exuvia::monotonic();
/// assert!(exuvia::monotonic() >= before);
/// ```
pub fn monotonic() -> Duration {
    Duration::from_nanos(sys::clock(clock::MONOTONIC).cast_unsigned())
}

/// Returns the time since 1970-01-01 UTC.
///
/// ```
/// let now = exuvia::realtime();
/// # let _ = now;
/// ```
pub fn realtime() -> Duration {
    Duration::from_nanos(sys::clock(clock::REALTIME).cast_unsigned())
}

/// Returns the number of reductions that this process has used.
///
/// ```
/// let spent = exuvia::reductions();
/// # let _ = spent;
/// ```
pub fn reductions() -> u64 {
    sys::info(info::REDUCTIONS).cast_unsigned()
}

/// Returns the number of messages in this process's mailbox.
///
/// ```
/// assert_eq!(exuvia::mailbox_length(), 0);
/// ```
pub fn mailbox_length() -> u64 {
    sys::info(info::MAILBOX).cast_unsigned()
}

/// Returns how often this process has been upgraded to new code.
///
/// ```
/// assert_eq!(exuvia::upgrades(), 0);
/// ```
pub fn upgrades() -> u64 {
    sys::info(info::UPGRADES).cast_unsigned()
}

/// Starts a supervisor of the host as a child of this process, linked to it, and waits until
/// its children have started. The specification has the keys of `[supervisor]` in the app's
/// manifest; omitted keys have the same defaults as there.
///
/// ```no_run
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Specification {
///     strategy: &'static str,
///     children: Vec<Child>,
/// }
///
/// #[derive(Serialize)]
/// struct Child {
///     id: &'static str,
///     module: &'static str,
///     args: u64,
///     restart: &'static str,
/// }
///
/// let children = vec![Child { id: "a", module: "counter", args: 1, restart: "permanent" }];
/// let pid = exuvia::start_supervisor(&Specification { strategy: "one_for_one", children });
/// # let _ = pid;
/// ```
pub fn start_supervisor<T: Serialize + ?Sized>(specification: &T) -> Result<Pid, Error> {
    let mut scratch = Scratch::new();
    scratch.encode(specification)?;
    sys::supervisor_start(scratch.as_slice())
}
