// Written by generate.mjs from guest-sdk/abi.json and guest-sdk/io.md: do not edit.

export const ABI: i32 = 1;

/** Kinds of messages; the text is what the payload is. */
export enum Kind {
  /** the spawn arguments */
  INIT = 1,
  /** the sender's */
  MESSAGE = 2,
  /** the sender's */
  REQUEST = 3,
  /** the replier's */
  REPLY = 4,
  /** the reason's bytes */
  EXIT = 5,
  /** the reason's bytes */
  DOWN = 6,
  /** the setter's */
  TIMER = 7,
  /** none */
  TABLE = 8,
}

/** What host calls return. */
export enum Code {
  /** Success. */
  OK = 0,
  /** No such message, and the timeout is 0; or return REST now (see section 9). */
  EMPTY = -1,
  /** The timeout expired. */
  TIMEOUT = -2,
  /** The message or state does not fit the buffer and stays where it is. Its length is reported. */
  TOO_BIG = -3,
  /** New code is ready: return REST from run. */
  UPGRADE = -4,
  /** No such process or name, or the process ended before it replied. */
  NOPROC = -5,
  /** A limit of this process or of the node is reached. */
  LIMIT = -6,
  /** A pointer or length reaches beyond the memory. */
  BAD_POINTER = -7,
  /** An argument is invalid. */
  BAD_ARGUMENT = -8,
  /** The payload is larger than this process may send. */
  MESSAGE_TOO_LARGE = -9,
  /** The receiver's mailbox is full; the message was not accepted. */
  MAILBOX_FULL = -10,
  /** The name belongs to another process. */
  NAME_TAKEN = -11,
  /** The current release has no module of that name. */
  NO_MODULE = -12,
  /** The child ended before it acknowledged its start. */
  START_FAILED = -13,
  /** The process does not have the required right. */
  DENIED = -14,
  /** This host does not have the call, which was imported as optional. Since 1.1. */
  NOT_SUPPORTED = -15,
}

/** Why processes end; from 256 on the processes' own. */
export enum ReasonCode {
  /** The process has completed its work. */
  NORMAL = 0,
  /** The supervisor told the process to end, or the node stops. */
  SHUTDOWN = 1,
  /** The process was killed. Cannot be trapped. */
  KILLED = 2,
  /** There was no such process. */
  NOPROC = 3,
  /** The code of the process trapped; the payload is the backtrace. */
  TRAP = 4,
  /** The process reached its memory limit. */
  MEMORY = 5,
  /** The host failed while serving the process. */
  INTERNAL = 6,
  /** The module of the process is not in the release. */
  NO_MODULE = 7,
  /** New code failed, and the process could not be reverted. */
  UPGRADE = 8,
  /** The process violated this contract; for example, run returned an undefined value. */
  CONTRACT = 9,
  /** A supervisor's restart intensity was reached. */
  INTENSITY = 10,
  /** A limit of the node was reached, or a deferred request found a full mailbox (section 16). */
  LIMIT = 11,
}

/** What `run` returns. */
export enum Run {
  /** All state is in memory and globals. The process may be paged out and may upgrade to new code. */
  REST = 0,
  /** The same, but memory holds a continuation of this code (an executor, a promise). The process may be paged out, but does not upgrade until run returns REST. */
  WAITING = 1,
  /** The process ends with reason NORMAL. */
  DONE = 2,
}

/** Which message `receive` takes. */
export enum Receive {
  /** the first message; key is ignored */
  ANY = 0,
  /** the first message that is no EXIT or DOWN and whose tag is key, as an unsigned number */
  TAG = 1,
  /** the first REPLY, DOWN or TIMER whose reference is key */
  REFERENCE = 2,
  /** the first message, of any kind, from the process whose pid is at the pointer key (since 1.1) */
  SENDER = 3,
  /** the first REPLY, DOWN or TIMER with one of several references: the low half of key is a pointer to them, 8 bytes each, the high half their number, 1 to 64 (since 1.1) */
  REFERENCES = 4,
  /** a flag, added to ANY; see below */
  UPGRADE = 256,
  /** a flag: a message that does not fit is taken nevertheless (since 1.1) */
  TRUNCATE = 512,
  /** a flag, not with TRUNCATE: the message stays (since 1.1) */
  PEEK = 1024,
}

/** Flags of `spawn`. */
export enum Spawn {
  /** The child is linked to the caller before it runs. */
  LINK = 1,
  /** The caller monitors the child before it runs; reference out is written. Without this flag reference out may be 0. */
  MONITOR = 2,
  /** Wait until the child acknowledges its start. */
  SYNC = 4,
}

/** Flags of `demonitor`. */
export enum Demonitor {
  /** Also drop the DOWN or REPLY of this reference if it has already arrived. */
  FLUSH = 1,
}

/** Priorities. */
export enum Priority {
  /** Rarely, while other processes have something to do. */
  LOW = 1,
  /** In turn. */
  NORMAL = 2,
  /** Before all others, except for their share. */
  HIGH = 3,
}

/** Levels of the log. */
export enum Level {
  /** Something failed. */
  ERROR = 1,
  /** Something is unexpected. */
  WARN = 2,
  /** Worth knowing. */
  INFO = 3,
  /** For the module's author. */
  DEBUG = 4,
}

/** Clocks. */
export enum Clock {
  /** Since a fixed point; never decreases. */
  MONOTONIC = 0,
  /** Since 1970-01-01 UTC. */
  REALTIME = 1,
}

/** What `info` returns. */
export enum Info {
  /** Reductions so far. */
  REDUCTIONS = 0,
  /** Messages in the mailbox, including those that have arrived up to this moment. */
  MAILBOX = 1,
  /** Upgrades to new code so far. */
  UPGRADES = 2,
  /** The minor version of the host's ABI. A host of version 1.0 returns BAD_ARGUMENT. */
  ABI_MINOR = 3,
  /** The most bytes of one message that the caller may send. Since 1.1, as are the rest. */
  MESSAGE_BYTES = 4,
  /** The most bytes of messages that may wait in its mailbox. What no mailbox refuses (a REPLY, a DOWN) may be longer. */
  MAILBOX_BYTES = 5,
  /** The most messages that may wait in its mailbox. */
  MAILBOX_MESSAGES = 6,
  /** The most bytes of its memory. */
  MEMORY_BYTES = 7,
}

/** Who may use a table besides its owner. */
export enum Access {
  /** All processes may read. */
  PROTECTED = 0,
  /** No other process. */
  PRIVATE = 1,
  /** All processes may read and write. */
  PUBLIC = 2,
}

/** A tag of io.md. */
export const TAG_HTTP_REQUEST: u32 = 0xffffff10;
/** A tag of io.md. */
export const TAG_HTTP_RESPONSE: u32 = 0xffffff11;
/** A tag of io.md. */
export const TAG_HTTP_STREAM: u32 = 0xffffff12;
/** A tag of io.md. */
export const TAG_SOCKET_ACCEPT: u32 = 0xffffff13;
/** A tag of io.md. */
export const TAG_SOCKET_OPEN: u32 = 0xffffff14;
/** A tag of io.md. */
export const TAG_SOCKET_TEXT: u32 = 0xffffff15;
/** A tag of io.md. */
export const TAG_SOCKET_DATA: u32 = 0xffffff16;
/** A tag of io.md. */
export const TAG_SOCKET_END: u32 = 0xffffff17;
/** A tag of io.md. */
export const TAG_SOCKET_CLOSE: u32 = 0xffffff18;
/** A tag of io.md. */
export const TAG_SOCKET_READ: u32 = 0xffffff19;
/** A tag of io.md. */
export const TAG_SOCKET_DATAGRAM: u32 = 0xffffff1a;
/** A tag of io.md. */
export const TAG_REFUSED: u32 = 0xffffffff;
