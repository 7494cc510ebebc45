//! What a process asks of the host about itself and the node.

use std::time::Duration;

use exuvia_abi::{clock, demonitor as flags, info};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Scratch;
use crate::{Error, Pid, Priority, Reason, Wait, sys};

/// This process's pid.
///
/// ```
/// assert_eq!(exuvia::me(), exuvia::me());
/// ```
pub fn me() -> Pid {
    sys::self_pid()
}

/// Gives a process a name; it is free again when the process ends.
///
/// ```
/// exuvia::register("logger", exuvia::me()).unwrap();
/// assert_eq!(exuvia::whereis("logger"), Ok(exuvia::me()));
/// ```
pub fn register(name: &str, pid: Pid) -> Result<(), Error> {
    Error::check(sys::register(name, pid))
}

/// Takes a name back.
///
/// ```
/// exuvia::unregister("logger").ok();
/// ```
pub fn unregister(name: &str) -> Result<(), Error> {
    Error::check(sys::unregister(name))
}

/// The process of that name; [`Error::NoProc`] if there is none.
///
/// ```
/// assert!(exuvia::whereis("nobody").is_err());
/// ```
pub fn whereis(name: &str) -> Result<Pid, Error> {
    sys::whereis(name)
}

/// Monitors whoever has a name now, as [`Pid::monitor`] does. Answers that pid
/// and the monitor's reference; if nobody has the name, the pid is [`Pid::NONE`] and the
/// message comes at once.
///
/// ```
/// # fn example() -> Result<(), exuvia::Error> {
/// let (registry, monitor) = exuvia::monitor_name("registry")?;
/// # let _ = (registry, monitor); Ok(()) }
/// ```
pub fn monitor_name(name: &str) -> Result<(Pid, u64), Error> {
    sys::monitor_name(name)
}

/// How soon this process gets its turns from now on; answers how it was.
/// [`Error::Denied`]: its limits do not allow so much (`limits.priority` of the manifest).
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

/// What the app is configured with under a key: `[config]` of the manifest. A key in a table
/// is reached with dots, and `""` is all of it. Nothing if the manifest says nothing.
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

/// Whether the exits of linked processes arrive as messages instead of ending
/// this one. Answers what it was before.
///
/// ```
/// assert!(!exuvia::trap_exit(true));
/// ```
pub fn trap_exit(on: bool) -> bool {
    sys::trap_exit(on)
}

/// Takes a monitor or a pending request back: nothing more arrives under its
/// reference. With `flush`, what has arrived already is dropped as well.
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

/// Takes a timer back. Answers the time that was left, or nothing if it had
/// gone off.
///
/// ```
/// assert_eq!(exuvia::cancel_timer(12_345), None);
/// ```
pub fn cancel_timer(reference: u64) -> Option<Duration> {
    let left = sys::cancel_timer(reference);
    u64::try_from(left).ok().map(Duration::from_millis)
}

/// Waits. The process keeps its frame meanwhile; a timer costs less.
/// [`Error::Limit`] says that as many processes wait as may, and that this one
/// has not waited at all.
///
/// ```
/// exuvia::sleep(std::time::Duration::from_millis(5)).unwrap();
/// ```
pub fn sleep(duration: Duration) -> Result<(), Error> {
    Error::check(sys::sleep(Wait::For(duration)))
}

/// Ends this process.
///
/// ```no_run
/// exuvia::exit(exuvia::Reason::SHUTDOWN, "told to");
/// ```
pub fn exit(reason: Reason, text: &str) -> ! {
    sys::exit(reason, text.as_bytes())
}

/// Says that the start has succeeded, so that a parent that waits goes on. An
/// actor's [`init`](crate::Actor::init) does it by itself, and so does a process
/// that rests or waits for the first time after it has taken its first message.
///
/// ```
/// exuvia::init_ack();
/// ```
pub fn init_ack() {
    sys::init_ack(0, &[]);
}

/// Says that the start has failed and why. Return
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
    // One call fills at most so much.
    for part in buffer.chunks_mut(exuvia_abi::limits::RANDOM as usize) {
        let answer = sys::random(part);
        assert!(answer >= 0, "the host answered {answer} to random");
    }
}

/// A random number.
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

/// The time since some fixed point; it never goes back.
///
/// ```
/// let before = exuvia::monotonic();
/// assert!(exuvia::monotonic() >= before);
/// ```
pub fn monotonic() -> Duration {
    Duration::from_nanos(sys::clock(clock::MONOTONIC).cast_unsigned())
}

/// The time since 1970-01-01 UTC.
///
/// ```
/// let now = exuvia::realtime();
/// # let _ = now;
/// ```
pub fn realtime() -> Duration {
    Duration::from_nanos(sys::clock(clock::REALTIME).cast_unsigned())
}

/// Reductions that this process has spent.
///
/// ```
/// let spent = exuvia::reductions();
/// # let _ = spent;
/// ```
pub fn reductions() -> u64 {
    sys::info(info::REDUCTIONS).cast_unsigned()
}

/// Messages that wait in this process's mailbox.
///
/// ```
/// assert_eq!(exuvia::mailbox_length(), 0);
/// ```
pub fn mailbox_length() -> u64 {
    sys::info(info::MAILBOX).cast_unsigned()
}

/// How often this process has crossed to new code.
///
/// ```
/// assert_eq!(exuvia::crossings(), 0);
/// ```
pub fn crossings() -> u64 {
    sys::info(info::CROSSINGS).cast_unsigned()
}

/// Starts a supervisor of the host as a child of this process, linked to it, and
/// waits until its children have started. The specification has the keys of
/// `[supervisor]` in the app's manifest; what you leave out has the same default
/// as there.
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
