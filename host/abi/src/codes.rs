//! Answers of host calls, kinds of messages, results of `run`, exit reasons.

/// What a host call of type `i32` answers to the instrumented module when the
/// process must wait. The module's own code never sees it.
pub const SUSPEND: i32 = i32::MIN;

/// Answers of host calls. 0 or above is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// The mailbox has no such message and the timeout is 0.
    Empty = -1,
    /// The timeout passed.
    Timeout = -2,
    /// The message does not fit the buffer and stays first in the queue; the
    /// header was written and gives the length.
    TooBig = -3,
    /// New code is ready: return `REST` from `run`.
    Upgrade = -4,
    /// No such process, or it ended before it answered.
    NoProc = -5,
    /// A limit of this process or of the node is met.
    Limit = -6,
    /// A pointer or length reaches beyond the memory.
    BadPointer = -7,
    /// An argument has no meaning.
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
    /// The process has no such capability.
    Denied = -14,
}

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// The spawn arguments: the first message of every process.
    Init = 1,
    /// Sent with `send`.
    Message = 2,
    /// Sent with `call` or `request`; `reference` goes into the `reply`.
    Request = 3,
    /// The answer to a `request`.
    Reply = 4,
    /// A linked process ended, and this one traps exits.
    Exit = 5,
    /// A monitored process ended, or the one a `request` went to.
    Down = 6,
    /// A timer set with `send_after`.
    Timer = 7,
    /// A table now belongs to this process; `reference` is its number.
    Table = 8,
}

/// How soon a process gets its turn (Erlang: `process_flag(priority)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Priority {
    /// Seldom, while others have something to do.
    Low = 1,
    /// By turns.
    #[default]
    Normal = 2,
    /// Before all others.
    High = 3,
}

impl Priority {
    /// The priority of that number.
    pub const fn new(number: u32) -> Option<Priority> {
        Some(match number {
            1 => Priority::Low,
            2 => Priority::Normal,
            3 => Priority::High,
            _ => return None,
        })
    }
}

/// What `run` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum RunResult {
    /// All state is in memory; the process may be paged out and may cross.
    Rest = 0,
    /// The same, but a continuation lives in memory: it may be paged out, not cross.
    Waiting = 1,
    /// The process ends with reason `normal`.
    Done = 2,
}

/// Codes of exit reasons. Those from [`Reason::GUEST`] on belong to guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub i32);

impl Reason {
    /// Ended because its work is done.
    pub const NORMAL: Reason = Reason(0);
    /// Told to end by its supervisor, or the node stops.
    pub const SHUTDOWN: Reason = Reason(1);
    /// Killed; cannot be trapped.
    pub const KILLED: Reason = Reason(2);
    /// There was no such process.
    pub const NOPROC: Reason = Reason(3);
    /// The guest's code trapped; the payload is the backtrace.
    pub const TRAP: Reason = Reason(4);
    /// Its memory limit was met.
    pub const MEMORY: Reason = Reason(5);
    /// The host failed while serving it.
    pub const INTERNAL: Reason = Reason(6);
    /// Its module is not in the release.
    pub const NO_MODULE: Reason = Reason(7);
    /// New code failed it and no way back existed.
    pub const UPGRADE: Reason = Reason(8);
    /// It broke the contract: `run` answered a number that means nothing.
    pub const CONTRACT: Reason = Reason(9);
    /// A supervisor's restart intensity was reached.
    pub const INTENSITY: Reason = Reason(10);
    /// A limit of the node was met.
    pub const LIMIT: Reason = Reason(11);
    /// The first reason that belongs to guests.
    pub const GUEST: i32 = 256;

    /// A name for the host's own reasons.
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
