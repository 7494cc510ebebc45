package exuvia

import (
	"fmt"
	"time"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
)

// Pid identifies a process. It is 16 bytes, also in MessagePack, and can be compared and used as a key.
type Pid [16]byte

// None is no process. As a sender it is the host, or somebody outside of the node.
var None Pid

// Forever is the timeout that does not end.
const Forever time.Duration = -1

// String returns the pid as the tools of the host show it.
func (p Pid) String() string {
	if p == None {
		return "outside the node"
	}
	local := uint64(0)
	for i := 15; i >= 8; i-- {
		local = local<<8 | uint64(p[i])
	}
	const slotBits = 25
	return fmt.Sprintf("<%d.%d>", local&(1<<slotBits-1), local>>slotBits)
}

// raw gives a pid to a host call. The pid is copied into a place that does not move.
func (p Pid) raw() *[16]byte {
	argument = p
	return (*[16]byte)(&argument)
}

// argument is the pid of the host call that is being made.
var argument Pid

// Self returns the pid of this process.
func Self() Pid {
	var pid Pid
	sys.Self((*[16]byte)(&pid))
	return pid
}

// Send sends a message: its name and its parameters, a struct or nil. It never waits. To a process that has
// ended it is dropped, without an error.
func (p Pid) Send(name string, parameters any) error {
	payload, err := encodeMessage(name, parameters)
	if err != nil {
		return err
	}
	defer wipe(payload)
	return check(sys.Send(p.raw(), TagTyped, payload))
}

// SendBytes sends any bytes under a tag of your own. Tags from 0xffffff00 on are of the host and of the SDKs.
func (p Pid) SendBytes(tag uint32, payload []byte) error {
	return check(sys.Send(p.raw(), tag, payload))
}

// Request sends a request without waiting, and returns its reference. Later exactly one of these comes with it:
// the reply ([HandleReply]), or a [Down] if the process ends first.
func (p Pid) Request(name string, parameters any) (uint64, error) {
	payload, err := encodeMessage(name, parameters)
	if err != nil {
		return 0, err
	}
	defer wipe(payload)
	return p.RequestBytes(TagTyped, payload)
}

// RequestBytes is [Pid.Request] with any bytes under a tag of your own.
func (p Pid) RequestBytes(tag uint32, payload []byte) (uint64, error) {
	err := check(sys.Request(p.raw(), tag, payload, &reference))
	return reference, err
}

// reference is where host calls write a reference.
var reference uint64

// SendAfter sends a message when the delay has passed; to [Self], it arrives as a message would. It returns the
// reference of the timer, for [CancelTimer]. Timers live on in new code.
func (p Pid) SendAfter(delay time.Duration, name string, parameters any) (uint64, error) {
	payload, err := encodeMessage(name, parameters)
	if err != nil {
		return 0, err
	}
	defer wipe(payload)
	return p.SendBytesAfter(delay, TagTyped, payload)
}

// SendBytesAfter is [Pid.SendAfter] with any bytes under a tag of your own.
func (p Pid) SendBytesAfter(delay time.Duration, tag uint32, payload []byte) (uint64, error) {
	err := check(sys.SendAfter(p.raw(), tag, payload, milliseconds(delay), &reference))
	return reference, err
}

// milliseconds rounds up, so that nothing comes too early; what is negative is forever.
func milliseconds(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// CancelTimer cancels a timer that this process has set. It returns the time that was left, and false if the timer
// has fired: its message is there, or on its way.
func CancelTimer(reference uint64) (left time.Duration, ok bool) {
	n := sys.CancelTimer(reference)
	if n < 0 {
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}

// Link links this process with the other: if one of them ends abnormally, the other one does too, unless it traps exits.
func (p Pid) Link() error { return check(sys.Link(p.raw())) }

// Unlink removes a link.
func (p Pid) Unlink() error { return check(sys.Unlink(p.raw())) }

// Monitor has a [Down] sent to this process when the other one ends, at once if it has ended. It returns the reference
// that the Down has.
func (p Pid) Monitor() (uint64, error) {
	err := check(sys.Monitor(p.raw(), &reference))
	return reference, err
}

// Demonitor removes a monitor, or gives up a request: nothing arrives with this reference any more.
func Demonitor(reference uint64) error {
	return check(sys.Demonitor(reference, sys.DemonitorFlush))
}

// TrapExits says whether exit signals of linked processes become messages ([HandleExit]); it returns what it was before.
func TrapExits(on bool) bool {
	n := int32(0)
	if on {
		n = 1
	}
	return sys.TrapExit(n) == 1
}

// Exit sends an exit signal. The reason is [Normal], [Shutdown], or one of your own from 256 on.
func (p Pid) Exit(reason Reason, text string) error {
	return check(sys.ExitProcess(p.raw(), int32(reason), text))
}

// Kill ends the process, whatever it does.
func (p Pid) Kill() error { return check(sys.Kill(p.raw())) }

// Register gives the process a name of 1 to 255 bytes.
func (p Pid) Register(name string) error { return check(sys.Register(name, p.raw())) }

// Unregister releases a name.
func Unregister(name string) error { return check(sys.Unregister(name)) }

// Whereis returns the process that has a name, or [ErrNoProc].
func Whereis(name string) (Pid, error) {
	err := check(sys.Whereis(name, (*[16]byte)(&argument)))
	return argument, err
}

// MonitorName monitors the process that has a name now, and returns it. If there is none, a [Down] from [None] arrives.
func MonitorName(name string) (Pid, uint64, error) {
	err := check(sys.MonitorName(name, (*[16]byte)(&argument), &reference))
	return argument, reference, err
}

// Priority is how soon a process gets its turns.
type Priority int32

// The priorities.
const (
	Low            Priority = sys.PriorityLow
	NormalPriority Priority = sys.PriorityNormal
	High           Priority = sys.PriorityHigh
)

// SetPriority sets the priority of this process and returns the former one.
func SetPriority(to Priority) (Priority, error) {
	code := sys.SetPriority(int32(to))
	return Priority(code), check(code)
}
