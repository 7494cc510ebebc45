package exuvia

import (
	"errors"
	"fmt"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
)

// Why a host call failed. Test for them with [errors.Is].
var (
	// ErrTimeout: the time is over. A late reply is dropped.
	ErrTimeout = errors.New("timeout")
	// ErrNoProc: there is no such process or name, or it ended before it replied; see [ExitedError].
	ErrNoProc = errors.New("noproc")
	// ErrLimit: a limit of this process or of the node is reached.
	ErrLimit = errors.New("a limit is reached")
	// ErrBadArgument: an argument is invalid.
	ErrBadArgument = errors.New("an argument is invalid")
	// ErrMessageTooLarge: the payload is larger than this process may send, or what arrived is larger than its memory.
	ErrMessageTooLarge = errors.New("the message is too large")
	// ErrMailboxFull: the mailbox of the receiver is full; the message was not accepted.
	ErrMailboxFull = errors.New("the mailbox of the receiver is full")
	// ErrNameTaken: the name belongs to another process.
	ErrNameTaken = errors.New("the name belongs to another process")
	// ErrNoModule: the release has no module of that name.
	ErrNoModule = errors.New("the release has no module of that name")
	// ErrStartFailed: the child ended before it acknowledged its start.
	ErrStartFailed = errors.New("the child ended before it had started")
	// ErrDenied: the process does not have the right.
	ErrDenied = errors.New("denied")
	// ErrUpgrade: new code is ready; return [Rest].
	ErrUpgrade = errors.New("new code is ready")
	// ErrEmpty: there is no such message, value or row.
	ErrEmpty = errors.New("there is none")
)

// RefusedError is the error of a request that its receiver has refused.
type RefusedError struct {
	// Why is what the receiver said.
	Why string
}

func (e *RefusedError) Error() string { return "refused: " + e.Why }

// ExitedError is the error of a request whose receiver has ended. It is an [ErrNoProc].
type ExitedError struct {
	Reason Reason
}

func (e *ExitedError) Error() string { return ErrNoProc.Error() }

// Is makes it an [ErrNoProc].
func (e *ExitedError) Is(target error) bool { return target == ErrNoProc }

// check returns the error for what a host call has returned.
func check(code int32) error {
	if code >= 0 {
		return nil
	}
	switch code {
	case sys.CodeEmpty:
		return ErrEmpty
	case sys.CodeTimeout:
		return ErrTimeout
	case sys.CodeTooBig, sys.CodeMessageTooLarge:
		return ErrMessageTooLarge
	case sys.CodeUpgrade:
		return ErrUpgrade
	case sys.CodeNoproc:
		return ErrNoProc
	case sys.CodeLimit:
		return ErrLimit
	case sys.CodeBadArgument:
		return ErrBadArgument
	case sys.CodeMailboxFull:
		return ErrMailboxFull
	case sys.CodeNameTaken:
		return ErrNameTaken
	case sys.CodeNoModule:
		return ErrNoModule
	case sys.CodeStartFailed:
		return ErrStartFailed
	case sys.CodeDenied:
		return ErrDenied
	}
	return fmt.Errorf("the host returned %d", code)
}

// Reason is why a process ended: a code of the host, or one from 256 on that the process chose.
type Reason int32

// The reasons of the host.
const (
	Normal      Reason = sys.ReasonNormal
	Shutdown    Reason = sys.ReasonShutdown
	Killed      Reason = sys.ReasonKilled
	NoProc      Reason = sys.ReasonNoproc
	Trap        Reason = sys.ReasonTrap
	OutOfMemory Reason = sys.ReasonMemory
	Internal    Reason = sys.ReasonInternal
	NoModule    Reason = sys.ReasonNoModule
	Upgrade     Reason = sys.ReasonUpgrade
	Contract    Reason = sys.ReasonContract
	Intensity   Reason = sys.ReasonIntensity
	LimitMet    Reason = sys.ReasonLimit
)

// String returns the name that the host shows.
func (r Reason) String() string {
	names := [...]string{"normal", "shutdown", "killed", "noproc", "trap", "memory limit", "internal", "no module",
		"upgrade failed", "contract broken", "restart intensity reached", "limit met"}
	if r >= 0 && int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprint(int32(r))
}
