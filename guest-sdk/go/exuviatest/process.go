//go:build !wasip1

// Package exuviatest runs an actor outside Wasm, in ordinary tests: the actor that the package under test has set with
// exuvia.Actor or exuvia.Loop. Its host is in memory: it has one process, a clock that the test moves, and writes down
// what the process sends to others.
//
//	func TestAdd(t *testing.T) {
//		counter := exuviatest.Start(t, nil)
//		counter.Send("Add", Add{By: 3})
//		if got := exuviatest.Ask[int64](counter, "Get", nil); got != 3 {
//			t.Errorf("the count is %d", got)
//		}
//	}
//
// Tests that use it must not run in parallel. What only a node can show (swaps of other processes, supervision) is tested
// there.
package exuviatest

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	exuvia "github.com/exuvia/exuvia/guest-sdk/go"
	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

// Letter is something that the process has sent.
type Letter struct {
	To        exuvia.Pid
	Tag       uint32
	Reference uint64 // of a request
	Payload   []byte
}

// Name returns the name of the message and decodes its parameters, if into is not nil.
func (l Letter) Name(into any) (string, error) {
	var name string
	if msgpack.Unmarshal(l.Payload, &name) == nil {
		return name, nil
	}
	var message map[string]msgpack.Raw
	if err := msgpack.Unmarshal(l.Payload, &message); err != nil {
		return "", err
	}
	for name, parameters := range message {
		if into == nil {
			return name, nil
		}
		return name, msgpack.Unmarshal(parameters, into)
	}
	return "", fmt.Errorf("the message has no name")
}

// Process is the process under test.
type Process struct {
	t testing.TB
	h *host
}

// Start starts the process with these arguments, and fails the test if the process does not start.
func Start(t testing.TB, arguments any) *Process {
	t.Helper()
	p, err := TryStart(t, arguments)
	if err != nil {
		t.Fatalf("the process did not start: %v", err)
	}
	return p
}

// TryStart is [Start] for starts that may fail.
func TryStart(t testing.TB, arguments any) (*Process, error) {
	t.Helper()
	p := newProcess(t)
	var payload []byte
	if arguments != nil {
		payload = encode(t, arguments)
	}
	p.Deliver(exuvia.Message{Kind: exuvia.KindInit, Payload: payload})
	if p.h.ack != 0 {
		return nil, fmt.Errorf("%s", p.h.ackText)
	}
	return p, nil
}

// Load makes a process from a state that other code has saved, as a swap does.
func Load(t testing.TB, schema int32, saved []byte) (*Process, error) {
	p := newProcess(t)
	p.h.state = saved
	if sys.Entries.Load(schema, int32(len(saved))) != 0 {
		return nil, fmt.Errorf("%s", p.h.lastError)
	}
	return p, nil
}

// references are where those of the next process begin: none is used twice, as with a node.
var references uint64

func newProcess(t testing.TB) *Process {
	references += 1 << 32
	h := &host{self: exuvia.Pid{15: 1}, names: map[string]exuvia.Pid{}, groups: map[string][]exuvia.Pid{}, next: references, memory: 64 << 20}
	sys.Set(h)
	sys.Entries.Reset()
	// Only one goroutine of a process runs at a time, as in Wasm.
	processors := runtime.GOMAXPROCS(1)
	t.Cleanup(func() {
		sys.Set(nil)
		runtime.GOMAXPROCS(processors)
	})
	return &Process{t, h}
}

// Self returns the pid of the process.
func (p *Process) Self() exuvia.Pid { return p.h.self }

// Deliver puts a message into the mailbox and lets the process handle it. It returns what run returned: 0 at rest, 1 while
// goroutines wait, 2 when the process has ended.
func (p *Process) Deliver(m exuvia.Message) int32 {
	p.h.mailbox = append(p.h.mailbox, m)
	return p.Run()
}

// Run lets the process handle what is in its mailbox.
func (p *Process) Run() int32 { return sys.Entries.Run() }

// Send sends a message to the process and lets it handle it.
func (p *Process) Send(name string, parameters any) int32 {
	p.t.Helper()
	return p.Deliver(exuvia.Message{Kind: exuvia.KindMessage, Payload: message(p.t, name, parameters)})
}

// Request sends a request and lets the process handle it. It returns the reference, for [Process.Reply].
func (p *Process) Request(name string, parameters any) uint64 {
	p.t.Helper()
	p.h.next++
	reference := p.h.next
	p.Deliver(exuvia.Message{Kind: exuvia.KindRequest, Reference: reference, Payload: message(p.t, name, parameters)})
	return reference
}

// Reply decodes the reply to a request. It returns a [exuvia.RefusedError] for a refusal, and [exuvia.ErrEmpty] if there
// is no reply yet.
func (p *Process) Reply(reference uint64, into any) error {
	for _, reply := range p.h.replies {
		if reply.Reference == reference {
			m := exuvia.Message{Kind: exuvia.KindReply, Tag: reply.Tag, Payload: reply.Payload}
			return m.Decode(into)
		}
	}
	return exuvia.ErrEmpty
}

// Ask sends a request and returns the reply; the test fails without one.
func Ask[R any](p *Process, name string, parameters any) R {
	p.t.Helper()
	var reply R
	if err := p.Reply(p.Request(name, parameters), &reply); err != nil {
		p.t.Fatalf("the request %s: %v", name, err)
	}
	return reply
}

// Sent returns what the process has sent to others since the last call: messages and requests.
func (p *Process) Sent() []Letter {
	sent := p.h.sent
	p.h.sent = nil
	return sent
}

// Answer lets another process reply to a request of [Process.Sent].
func (p *Process) Answer(to Letter, value any) int32 {
	p.t.Helper()
	return p.Deliver(exuvia.Message{Kind: exuvia.KindReply, Sender: to.To, Reference: to.Reference, Payload: encode(p.t, value)})
}

// OnCall sets what other processes answer to calls that wait on the stack. Without it they time out.
func (p *Process) OnCall(answer func(request Letter) (any, error)) { p.h.onCall = answer }

// Advance moves the clock and delivers the timers that are due, one after the other.
func (p *Process) Advance(d time.Duration) {
	p.h.now += d
	for p.h.due() {
		p.Run()
	}
}

// Save returns what the process saves for new code.
func (p *Process) Save() ([]byte, error) {
	if sys.Entries.Save() != 0 {
		return nil, fmt.Errorf("%s", p.h.lastError)
	}
	return p.h.state, nil
}

// Log returns what was logged since the last call, a line each.
func (p *Process) Log() []string {
	log := p.h.log
	p.h.log = nil
	return log
}

// Ended returns the reason with which the process has ended itself, and its text.
func (p *Process) Ended() (reason exuvia.Reason, text string, ended bool) {
	return p.h.exitReason, p.h.exitText, p.h.exited
}

func encode(t testing.TB, value any) []byte {
	t.Helper()
	encoded, err := msgpack.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func message(t testing.TB, name string, parameters any) []byte {
	if parameters == nil {
		return encode(t, name)
	}
	return encode(t, map[string]any{name: parameters})
}
