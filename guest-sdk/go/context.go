package exuvia

import (
	"fmt"
	"time"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

// Context is given to handlers, and to goroutines that wait. It knows how to wait: in a handler, a call keeps the stack
// and the process does nothing else meanwhile; in a goroutine of [Context.Go], it costs memory only, the process handles
// other messages, and may be paged out.
type Context struct {
	// Sender is the process that sent the message. In a goroutine it is that of the handler that began it.
	Sender Pid
	task   bool
}

var (
	// handling is the context of handlers.
	handling Context
	stopping struct {
		now    bool
		reason Reason
		text   string
	}
)

// Stop ends the process when the handler has returned, with [Normal], [Shutdown] or a reason of your own from 256 on. The
// text is for people.
func (ctx *Context) Stop(reason Reason, text string) {
	stopping.now, stopping.reason, stopping.text = true, reason, text
}

// Call sends a request, by its name and parameters (a struct, or nil), and waits for the reply, which is decoded into
// what the pointer points to; nil drops it. Errors are [ErrTimeout], [ErrNoProc], a [RefusedError], those of sending, and
// those of decoding.
func (ctx *Context) Call(to Pid, name string, parameters, reply any, timeout time.Duration) error {
	payload, err := encodeMessage(name, parameters)
	if err != nil {
		return err
	}
	m, err := ctx.call(to, TagTyped, payload, timeout)
	wipe(payload)
	if err != nil {
		return err
	}
	defer clear(replies[:min(len(m.Payload), len(replies))])
	switch {
	case m.Kind == KindDown:
		return &ExitedError{m.Reason}
	case m.Tag == TagRefused:
		return &RefusedError{m.Text()}
	case reply == nil:
		return nil
	}
	d := m.decoder()
	return d.Decode(reply)
}

// CallBytes is [Context.Call] with any bytes and a tag of your own. The reply may be a refusal ([Message.Decode] tells).
func (ctx *Context) CallBytes(to Pid, tag uint32, payload []byte, timeout time.Duration) (*Message, error) {
	m, err := ctx.call(to, tag, payload, timeout)
	if err == nil && m.Kind == KindDown {
		err = &ExitedError{m.Reason}
	}
	if err != nil {
		return nil, err
	}
	return m.keep(), nil
}

var replies = make([]byte, 1024)

func (ctx *Context) call(to Pid, tag uint32, payload []byte, timeout time.Duration) (*Message, error) {
	if ctx.task {
		return await(to, tag, payload, timeout)
	}
	m := &Message{}
	code := sys.Call(to.raw(), tag, payload, &head, replies, milliseconds(timeout))
	switch code {
	case 0:
		m.set(replies[:head.Length])
		return m, nil
	case sys.CodeNoproc:
		if head.Kind == sys.KindDown {
			return nil, &ExitedError{Reason(head.Reason)}
		}
	case sys.CodeTooBig:
		// It is in the mailbox.
		if code = receive(m, 0, sys.ReceiveReference, int64(head.Reference)); code == 0 {
			return m.own(), nil
		}
	}
	return nil, check(code)
}

// Sleep waits. In a handler, [Pid.SendAfter] is better: it costs nothing meanwhile.
func (ctx *Context) Sleep(d time.Duration) error {
	if ctx.task {
		return sleep(d)
	}
	return check(sys.Sleep(max(milliseconds(d), 0)))
}

// Match says which message is received.
type Match struct {
	mode       int32
	key        int64
	sender     Pid
	references []uint64
}

// Any matches any message.
var Any = Match{mode: sys.ReceiveAny}

// WithTag matches the first message that is no exit or down and has this tag.
func WithTag(tag uint32) Match { return Match{mode: sys.ReceiveTag, key: int64(tag)} }

// WithReference matches the first reply, down or timer with this reference.
func WithReference(reference uint64) Match {
	return Match{mode: sys.ReceiveReference, key: int64(reference)}
}

// WithReferences matches the first reply, down or timer with one of up to 64 references.
func WithReferences(references ...uint64) Match {
	return Match{mode: sys.ReceiveReferences, references: references}
}

// From matches the first message of any kind from this process.
func From(pid Pid) Match { return Match{mode: sys.ReceiveSender, sender: pid} }

// Receive takes the first message that matches, and leaves all others in their order. It returns [ErrTimeout], or
// [ErrEmpty] if the timeout is 0. The process does nothing else meanwhile.
func (ctx *Context) Receive(match Match, timeout time.Duration) (*Message, error) {
	return take(match, match.mode, timeout)
}

// ReceiveOrUpgrade takes any message, in a loop that never returns otherwise: with [ErrUpgrade], new code is ready, and
// the loop returns [Rest].
func (ctx *Context) ReceiveOrUpgrade(timeout time.Duration) (*Message, error) {
	return take(Any, sys.ReceiveAny|sys.ReceiveUpgrade, timeout)
}

// What `receive` is given a pointer to must not move.
var (
	wantedSender     Pid
	wantedReferences [64]uint64
)

func take(match Match, mode int32, timeout time.Duration) (*Message, error) {
	key := match.key
	switch match.mode {
	case sys.ReceiveSender:
		wantedSender = match.sender
		key = sys.Address((*[16]byte)(&wantedSender))
	case sys.ReceiveReferences:
		if len(match.references) > len(wantedReferences) {
			return nil, fmt.Errorf("%w: %d references are more than %d", ErrBadArgument, len(match.references), len(wantedReferences))
		}
		n := copy(wantedReferences[:], match.references)
		key = sys.Among(wantedReferences[:n])
	}
	m := &Message{}
	code := receive(m, milliseconds(timeout), mode, key)
	if code == 0 {
		m = m.own()
	}
	if err := check(code); err != nil {
		return nil, err
	}
	return m, nil
}

// Encode and decode, for payloads with a tag of your own.

// Encode returns a value in MessagePack.
func Encode(value any) ([]byte, error) { return msgpack.Marshal(value) }

// Decode reads a value from MessagePack. Nothing at all is read as nil.
func Decode(payload []byte, into any) error {
	if len(payload) == 0 {
		payload = encodedNil
	}
	return msgpack.Unmarshal(payload, into)
}
