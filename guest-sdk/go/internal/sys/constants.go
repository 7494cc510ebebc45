// Code generated from guest-sdk/abi.json and guest-sdk/io.md by go generate; DO NOT EDIT.

package sys

// The version of the ABI.
const (
	ABI   = 1
	Minor = 1
)

// What `run` returns.
const (
	RunRest    = 0 // All state is in memory and globals. The process may be paged out and may upgrade to new code.
	RunWaiting = 1 // The same, but memory holds a continuation of this code (an executor, a promise). The process may be paged out, but does not upgrade until run returns REST.
	RunDone    = 2 // The process ends with reason NORMAL.
)

// The kinds of messages.
const (
	KindInit    = 1
	KindMessage = 2
	KindRequest = 3
	KindReply   = 4
	KindExit    = 5
	KindDown    = 6
	KindTimer   = 7
	KindTable   = 8
)

// What host calls return.
const (
	CodeOK              = 0   // Success.
	CodeEmpty           = -1  // No such message, and the timeout is 0; or return REST now (see section 9).
	CodeTimeout         = -2  // The timeout expired.
	CodeTooBig          = -3  // The message or state does not fit the buffer and stays where it is. Its length is reported.
	CodeUpgrade         = -4  // New code is ready: return REST from run.
	CodeNoproc          = -5  // No such process or name, or the process ended before it replied.
	CodeLimit           = -6  // A limit of this process or of the node is reached.
	CodeBadPointer      = -7  // A pointer or length reaches beyond the memory.
	CodeBadArgument     = -8  // An argument is invalid.
	CodeMessageTooLarge = -9  // The payload is larger than this process may send.
	CodeMailboxFull     = -10 // The receiver's mailbox is full; the message was not accepted.
	CodeNameTaken       = -11 // The name belongs to another process.
	CodeNoModule        = -12 // The current release has no module of that name.
	CodeStartFailed     = -13 // The child ended before it acknowledged its start.
	CodeDenied          = -14 // The process does not have the required right.
	CodeNotSupported    = -15 // This host does not have the call, which was imported as optional. Since 1.1.
)

// Exit reasons of the host.
const (
	ReasonNormal    = 0  // The process has completed its work.
	ReasonShutdown  = 1  // The supervisor told the process to end, or the node stops.
	ReasonKilled    = 2  // The process was killed. Cannot be trapped.
	ReasonNoproc    = 3  // There was no such process.
	ReasonTrap      = 4  // The code of the process trapped; the payload is the backtrace.
	ReasonMemory    = 5  // The process reached its memory limit.
	ReasonInternal  = 6  // The host failed while serving the process.
	ReasonNoModule  = 7  // The module of the process is not in the release.
	ReasonUpgrade   = 8  // New code failed, and the process could not be reverted.
	ReasonContract  = 9  // The process violated this contract; for example, run returned an undefined value.
	ReasonIntensity = 10 // A supervisor's restart intensity was reached.
	ReasonLimit     = 11 // A limit of the node was reached, or a deferred request found a full mailbox (section 16).
)

// Modes and flags of `receive`.
const (
	ReceiveAny        = 0    // the first message; key is ignored
	ReceiveTag        = 1    // the first message that is no EXIT or DOWN and whose tag is key, as an unsigned number
	ReceiveReference  = 2    // the first REPLY, DOWN or TIMER whose reference is key
	ReceiveSender     = 3    // the first message, of any kind, from the process whose pid is at the pointer key (since 1.1)
	ReceiveReferences = 4    // the first REPLY, DOWN or TIMER with one of several references: the low half of key is a pointer to them, 8 bytes each, the high half their number, 1 to 64 (since 1.1)
	ReceiveUpgrade    = 256  // a flag, added to ANY; see below
	ReceiveTruncate   = 512  // a flag: a message that does not fit is taken nevertheless (since 1.1)
	ReceivePeek       = 1024 // a flag, not with TRUNCATE: the message stays (since 1.1)
)

// Flags of `spawn`.
const (
	SpawnLink    = 1 // The child is linked to the caller before it runs.
	SpawnMonitor = 2 // The caller monitors the child before it runs; reference out is written. Without this flag reference out may be 0.
	SpawnSync    = 4 // Wait until the child acknowledges its start.
)

// Flags of `demonitor`.
const (
	DemonitorFlush = 1 // Also drop the DOWN or REPLY of this reference if it has already arrived.
)

// Priorities.
const (
	PriorityLow    = 1 // Rarely, while other processes have something to do.
	PriorityNormal = 2 // In turn.
	PriorityHigh   = 3 // Before all others, except for their share.
)

// Levels of the log.
const (
	LogError = 1 // Something failed.
	LogWarn  = 2 // Something is unexpected.
	LogInfo  = 3 // Worth knowing.
	LogDebug = 4 // For the module's author.
)

// Clocks.
const (
	ClockMonotonic = 0 // Since a fixed point; never decreases.
	ClockRealtime  = 1 // Since 1970-01-01 UTC.
)

// What `info` tells.
const (
	InfoReductions      = 0 // Reductions so far.
	InfoMailbox         = 1 // Messages in the mailbox, including those that have arrived up to this moment.
	InfoUpgrades        = 2 // Upgrades to new code so far.
	InfoABIMinor        = 3 // The minor version of the host's ABI. A host of version 1.0 returns BAD_ARGUMENT.
	InfoMessageBytes    = 4 // The most bytes of one message that the caller may send. Since 1.1, as are the rest.
	InfoMailboxBytes    = 5 // The most bytes of messages that may wait in its mailbox. What no mailbox refuses (a REPLY, a DOWN) may be longer.
	InfoMailboxMessages = 6 // The most messages that may wait in its mailbox.
	InfoMemoryBytes     = 7 // The most bytes of its memory.
)

// Who may use a table.
const (
	AccessProtected = 0 // All processes may read.
	AccessPrivate   = 1 // No other process.
	AccessPublic    = 2 // All processes may read and write.
)

// Tags of the host.
const (
	TagHTTPRequest    uint32 = 0xffffff10
	TagHTTPResponse   uint32 = 0xffffff11
	TagHTTPStream     uint32 = 0xffffff12
	TagSocketAccept   uint32 = 0xffffff13
	TagSocketOpen     uint32 = 0xffffff14
	TagSocketText     uint32 = 0xffffff15
	TagSocketData     uint32 = 0xffffff16
	TagSocketEnd      uint32 = 0xffffff17
	TagSocketClose    uint32 = 0xffffff18
	TagSocketRead     uint32 = 0xffffff19
	TagSocketDatagram uint32 = 0xffffff1a
	TagRefused        uint32 = 0xffffffff
)
