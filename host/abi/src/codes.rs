//! Return codes of host calls, kinds of messages, results of `run`, exit reasons.

/// The value that a host call of type `i32` returns to the instrumented module when the
/// process must wait. The module's own code never sees it.
pub const SUSPEND: i32 = i32::MIN;

/// Return codes of host calls. 0 or above is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// No such message, and the timeout is 0; or return `REST` now.
    Empty = -1,
    /// The timeout expired.
    Timeout = -2,
    /// The message or state does not fit the buffer and stays where it is. Its length is
    /// reported; for a message in the header.
    TooBig = -3,
    /// New code is ready: return `REST` from `run`.
    Upgrade = -4,
    /// No such process or name, or the process ended before it replied.
    NoProc = -5,
    /// A limit of this process or of the node is reached.
    Limit = -6,
    /// A pointer or length reaches beyond the memory.
    BadPointer = -7,
    /// An argument is invalid.
    BadArgument = -8,
    /// The payload is larger than this process may send.
    MessageTooLarge = -9,
    /// The receiver's mailbox is full; the message was not accepted.
    MailboxFull = -10,
    /// The name belongs to another process.
    NameTaken = -11,
    /// The current release has no module of that name.
    NoModule = -12,
    /// The child ended before it acknowledged its start.
    StartFailed = -13,
    /// The process does not have the required right.
    Denied = -14,
    /// This host does not have the call.
    NotSupported = -15,
}

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// The spawn arguments: the first message of every process.
    Init = 1,
    /// Sent with `send`.
    Message = 2,
    /// Sent with `call` or `request`; `reference` is to be passed to `reply`.
    Request = 3,
    /// The reply to a `request`.
    Reply = 4,
    /// A linked process ended, or another process called `exit_process`, and this process
    /// traps exits.
    Exit = 5,
    /// A monitored process ended, or the receiver of a `request`.
    Down = 6,
    /// A timer set with `send_after` expired.
    Timer = 7,
    /// A table now belongs to this process; `reference` is its number.
    Table = 8,
}

impl Kind {
    /// Returns the name for people, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Init => "init",
            Kind::Message => "message",
            Kind::Request => "request",
            Kind::Reply => "reply",
            Kind::Exit => "exit",
            Kind::Down => "down",
            Kind::Timer => "timer",
            Kind::Table => "table",
        }
    }
}

/// The scheduling priority of a process (Erlang: `process_flag(priority)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Priority {
    /// Runs rarely while other processes are runnable.
    Low = 1,
    /// Takes turns with the others of this priority.
    #[default]
    Normal = 2,
    /// Runs before all others.
    High = 3,
}

impl Priority {
    /// Returns the priority of that number. `None`: there is no such priority.
    pub const fn new(number: u32) -> Option<Priority> {
        Some(match number {
            1 => Priority::Low,
            2 => Priority::Normal,
            3 => Priority::High,
            _ => return None,
        })
    }
}

/// Results of `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum RunResult {
    /// All state is in memory and globals. The process may be paged out and upgraded.
    Rest = 0,
    /// The same, but memory holds a continuation of this code. The process may be paged out,
    /// but is not upgraded.
    Waiting = 1,
    /// The process ends with reason `normal`.
    Done = 2,
}

/// Codes of exit reasons. Codes from [`Reason::GUEST`] on belong to guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub i32);

impl Reason {
    /// The process has completed its work.
    pub const NORMAL: Reason = Reason(0);
    /// The supervisor told the process to end, or the node stops.
    pub const SHUTDOWN: Reason = Reason(1);
    /// The process was killed. Cannot be trapped.
    pub const KILLED: Reason = Reason(2);
    /// There was no such process.
    pub const NOPROC: Reason = Reason(3);
    /// The code of the process trapped; the payload is the backtrace.
    pub const TRAP: Reason = Reason(4);
    /// The process reached its memory limit.
    pub const MEMORY: Reason = Reason(5);
    /// The host failed while serving the process.
    pub const INTERNAL: Reason = Reason(6);
    /// The module of the process is not in the release.
    pub const NO_MODULE: Reason = Reason(7);
    /// New code failed, and the process could not be reverted.
    pub const UPGRADE: Reason = Reason(8);
    /// The process violated the contract; for example, `run` returned an undefined value.
    pub const CONTRACT: Reason = Reason(9);
    /// A supervisor's restart intensity was reached.
    pub const INTENSITY: Reason = Reason(10);
    /// A limit of the node was reached, or a deferred request found a full mailbox.
    pub const LIMIT: Reason = Reason(11);
    /// The first code that belongs to guests.
    pub const GUEST: i32 = 256;

    /// Returns the name of a reason of the host; `exit` for all others.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "normal",
            1 => "shutdown",
            2 => "killed",
            3 => "noproc",
            4 => "trap",
            5 => "memory limit",
            6 => "internal",
            7 => "no module",
            8 => "upgrade failed",
            9 => "contract broken",
            10 => "restart intensity reached",
            11 => "limit met",
            _ => "exit",
        }
    }
}
