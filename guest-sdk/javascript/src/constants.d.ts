// Written by generate.mjs from guest-sdk/abi.json and guest-sdk/io.md: do not edit.

export const KIND: {
  readonly INIT: 1;
  readonly MESSAGE: 2;
  readonly REQUEST: 3;
  readonly REPLY: 4;
  readonly EXIT: 5;
  readonly DOWN: 6;
  readonly TIMER: 7;
  readonly TABLE: 8;
};

export const CODE: {
  /** Success. */
  readonly OK: 0;
  /** No such message, and the timeout is 0; or return REST now (see section 9). */
  readonly EMPTY: -1;
  /** The timeout expired. */
  readonly TIMEOUT: -2;
  /** The message or state does not fit the buffer and stays where it is. Its length is reported. */
  readonly TOO_BIG: -3;
  /** New code is ready: return REST from run. */
  readonly UPGRADE: -4;
  /** No such process or name, or the process ended before it replied. */
  readonly NOPROC: -5;
  /** A limit of this process or of the node is reached. */
  readonly LIMIT: -6;
  /** A pointer or length reaches beyond the memory. */
  readonly BAD_POINTER: -7;
  /** An argument is invalid. */
  readonly BAD_ARGUMENT: -8;
  /** The payload is larger than this process may send. */
  readonly MESSAGE_TOO_LARGE: -9;
  /** The receiver's mailbox is full; the message was not accepted. */
  readonly MAILBOX_FULL: -10;
  /** The name belongs to another process. */
  readonly NAME_TAKEN: -11;
  /** The current release has no module of that name. */
  readonly NO_MODULE: -12;
  /** The child ended before it acknowledged its start. */
  readonly START_FAILED: -13;
  /** The process does not have the required right. */
  readonly DENIED: -14;
  /** This host does not have the call, which was imported as optional. Since 1.1. */
  readonly NOT_SUPPORTED: -15;
};

export const REASON: {
  /** The process has completed its work. */
  readonly NORMAL: 0;
  /** The supervisor told the process to end, or the node stops. */
  readonly SHUTDOWN: 1;
  /** The process was killed. Cannot be trapped. */
  readonly KILLED: 2;
  /** There was no such process. */
  readonly NOPROC: 3;
  /** The code of the process trapped; the payload is the backtrace. */
  readonly TRAP: 4;
  /** The process reached its memory limit. */
  readonly MEMORY: 5;
  /** The host failed while serving the process. */
  readonly INTERNAL: 6;
  /** The module of the process is not in the release. */
  readonly NO_MODULE: 7;
  /** New code failed, and the process could not be reverted. */
  readonly UPGRADE: 8;
  /** The process violated this contract; for example, run returned an undefined value. */
  readonly CONTRACT: 9;
  /** A supervisor's restart intensity was reached. */
  readonly INTENSITY: 10;
  /** A limit of the node was reached, or a deferred request found a full mailbox (section 16). */
  readonly LIMIT: 11;
};

export const RUN: {
  /** All state is in memory and globals. The process may be paged out and may upgrade to new code. */
  readonly REST: 0;
  /** The same, but memory holds a continuation of this code (an executor, a promise). The process may be paged out, but does not upgrade until run returns REST. */
  readonly WAITING: 1;
  /** The process ends with reason NORMAL. */
  readonly DONE: 2;
};

export const RECEIVE: {
  /** the first message; key is ignored */
  readonly ANY: 0;
  /** the first message that is no EXIT or DOWN and whose tag is key, as an unsigned number */
  readonly TAG: 1;
  /** the first REPLY, DOWN or TIMER whose reference is key */
  readonly REFERENCE: 2;
  /** the first message, of any kind, from the process whose pid is at the pointer key (since 1.1) */
  readonly SENDER: 3;
  /** the first REPLY, DOWN or TIMER with one of several references: the low half of key is a pointer to them, 8 bytes each, the high half their number, 1 to 64 (since 1.1) */
  readonly REFERENCES: 4;
  /** a flag, added to ANY; see below */
  readonly UPGRADE: 256;
  /** a flag: a message that does not fit is taken nevertheless (since 1.1) */
  readonly TRUNCATE: 512;
  /** a flag, not with TRUNCATE: the message stays (since 1.1) */
  readonly PEEK: 1024;
};

export const SPAWN: {
  /** The child is linked to the caller before it runs. */
  readonly LINK: 1;
  /** The caller monitors the child before it runs; reference out is written. Without this flag reference out may be 0. */
  readonly MONITOR: 2;
  /** Wait until the child acknowledges its start. */
  readonly SYNC: 4;
};

export const DEMONITOR: {
  /** Also drop the DOWN or REPLY of this reference if it has already arrived. */
  readonly FLUSH: 1;
};

export const PRIORITY: {
  /** Rarely, while other processes have something to do. */
  readonly LOW: 1;
  /** In turn. */
  readonly NORMAL: 2;
  /** Before all others, except for their share. */
  readonly HIGH: 3;
};

export const LOG: {
  /** Something failed. */
  readonly ERROR: 1;
  /** Something is unexpected. */
  readonly WARN: 2;
  /** Worth knowing. */
  readonly INFO: 3;
  /** For the module's author. */
  readonly DEBUG: 4;
};

export const CLOCK: {
  /** Since a fixed point; never decreases. */
  readonly MONOTONIC: 0;
  /** Since 1970-01-01 UTC. */
  readonly REALTIME: 1;
};

export const INFO: {
  /** Reductions so far. */
  readonly REDUCTIONS: 0;
  /** Messages in the mailbox, including those that have arrived up to this moment. */
  readonly MAILBOX: 1;
  /** Upgrades to new code so far. */
  readonly UPGRADES: 2;
  /** The minor version of the host's ABI. A host of version 1.0 returns BAD_ARGUMENT. */
  readonly ABI_MINOR: 3;
  /** The most bytes of one message that the caller may send. Since 1.1, as are the rest. */
  readonly MESSAGE_BYTES: 4;
  /** The most bytes of messages that may wait in its mailbox. What no mailbox refuses (a REPLY, a DOWN) may be longer. */
  readonly MAILBOX_BYTES: 5;
  /** The most messages that may wait in its mailbox. */
  readonly MAILBOX_MESSAGES: 6;
  /** The most bytes of its memory. */
  readonly MEMORY_BYTES: 7;
};

export const ACCESS: {
  /** All processes may read. */
  readonly PROTECTED: 0;
  /** No other process. */
  readonly PRIVATE: 1;
  /** All processes may read and write. */
  readonly PUBLIC: 2;
};

export const TAG: {
  readonly HTTP_REQUEST: 0xffffff10;
  readonly HTTP_RESPONSE: 0xffffff11;
  readonly HTTP_STREAM: 0xffffff12;
  readonly SOCKET_ACCEPT: 0xffffff13;
  readonly SOCKET_OPEN: 0xffffff14;
  readonly SOCKET_TEXT: 0xffffff15;
  readonly SOCKET_DATA: 0xffffff16;
  readonly SOCKET_END: 0xffffff17;
  readonly SOCKET_CLOSE: 0xffffff18;
  readonly SOCKET_READ: 0xffffff19;
  readonly SOCKET_DATAGRAM: 0xffffff1a;
  readonly REFUSED: 0xffffffff;
  readonly AWAITED: 0xfffffffe;
};

export const OPTIONS: { readonly [field: string]: number };
