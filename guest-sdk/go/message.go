package exuvia

import (
	"fmt"
	"strings"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

// Kind is what a message is.
type Kind uint32

// The kinds of messages.
const (
	KindInit    Kind = sys.KindInit
	KindMessage Kind = sys.KindMessage
	KindRequest Kind = sys.KindRequest
	KindReply   Kind = sys.KindReply
	KindExit    Kind = sys.KindExit
	KindDown    Kind = sys.KindDown
	KindTimer   Kind = sys.KindTimer
	KindTable   Kind = sys.KindTable
)

const (
	// TagTyped is the tag of messages that have a name and are MessagePack.
	TagTyped uint32 = 0
	// TagRefused is the tag of a reply that refuses a request; its payload says why.
	TagRefused uint32 = sys.TagRefused
	// tagAwaited is the tag of the timers of goroutines that wait.
	tagAwaited uint32 = 0xfffffffe
)

// Message is what arrives, as it is.
type Message struct {
	Kind Kind
	// Sender is the process that sent it or, of an exit, that has ended.
	Sender Pid
	// Reference is that of the request, the monitor or the timer; 0 for none.
	Reference uint64
	Tag       uint32
	// Reason is why a process ended.
	Reason  Reason
	Payload []byte
}

// Decode reads the payload. It returns a [RefusedError] for a reply that refuses.
func (m *Message) Decode(into any) error {
	if m.Kind == KindReply && m.Tag == TagRefused {
		return &RefusedError{m.Text()}
	}
	if len(m.Payload) == 0 {
		return msgpack.Unmarshal(encodedNil, into)
	}
	return msgpack.Unmarshal(m.Payload, into)
}

var encodedNil = []byte{0xc0}

// Text returns the payload as text.
func (m *Message) Text() string { return strings.ToValidUTF8(string(m.Payload), "\ufffd") }

// Reply answers this request with a value.
func (m *Message) Reply(value any) error { return Caller[any]{m.Sender, m.Reference}.Reply(value) }

// ReplyBytes answers this request with any bytes.
func (m *Message) ReplyBytes(tag uint32, payload []byte) error {
	return Caller[any]{m.Sender, m.Reference}.answer(tag, payload, nil)
}

// Refuse refuses this request: the caller gets a [RefusedError].
func (m *Message) Refuse(format string, arguments ...any) {
	if m.Kind == KindRequest {
		Caller[any]{m.Sender, m.Reference}.Refuse(format, arguments...)
	}
}

// Caller is who waits for the reply to a request. It can be kept, also in the state, and sent to others: whoever has it
// may reply, once.
type Caller[R any] struct {
	Pid       Pid    `msgpack:"pid"`
	Reference uint64 `msgpack:"reference"`
}

// Reply answers the request. Nothing happens if nobody waits for it any more.
func (c Caller[R]) Reply(value R) error {
	encoding.Reset(scratch[:0])
	payload, err := encoded(encoding.Any(value))
	err = c.answer(TagTyped, payload, err)
	wipe(payload)
	return err
}

// answer sends what was encoded. If that fails it refuses: a caller without a reply waits until its timeout.
func (c Caller[R]) answer(tag uint32, payload []byte, err error) error {
	if err == nil {
		err = check(sys.Reply(c.Pid.raw(), c.Reference, tag, payload))
	}
	if err != nil {
		c.Refuse("the reply: %v", err)
	}
	return err
}

// Refuse refuses the request: the caller gets a [RefusedError].
func (c Caller[R]) Refuse(format string, arguments ...any) {
	if len(arguments) > 0 {
		format = fmt.Sprintf(format, arguments...)
	}
	if sys.Reply(c.Pid.raw(), c.Reference, TagRefused, []byte(format)) == sys.CodeMessageTooLarge {
		sys.Reply(c.Pid.raw(), c.Reference, TagRefused, []byte("the reason is larger than a message may be"))
	}
}

// Down says that a monitored process, or the receiver of a [Pid.Request], has ended.
type Down struct {
	Pid Pid
	// Reference is that of the monitor or the request.
	Reference uint64
	Reason    Reason
	// Text is what the process left, for people.
	Text string
	// ByRelease says that new code was the cause. It should not count as a failure.
	ByRelease bool
}

// Exit says that a linked process has ended, while this one traps exits.
type Exit struct {
	Pid       Pid
	Reason    Reason
	Text      string
	ByRelease bool
}

// scratch is what values are encoded into. It is in the base, so a process pays only for what is in it, and [wipe] takes
// that away.
var scratch = make([]byte, 0, 1024)

// wipe clears what was encoded. A buffer that had to be larger is garbage then, but zeroes cost an image nothing.
func wipe(encoded []byte) { clear(encoded) }

// encoding writes into the scratch buffer.
var encoding msgpack.Encoder

// encoded returns what was written, and forgets it.
func encoded(err error) ([]byte, error) {
	bytes := encoding.Bytes()
	encoding.Reset(nil)
	return bytes, err
}

// encodeMessage encodes a message with a name, into the scratch buffer if it fits.
func encodeMessage(name string, parameters any) ([]byte, error) {
	encoding.Reset(scratch[:0])
	if parameters == nil {
		return encoded(encoding.Name(name))
	}
	err := encoding.MapLen(1)
	if err == nil {
		err = encoding.Name(name)
	}
	if err == nil {
		err = encoding.Any(parameters)
	}
	return encoded(err)
}

var (
	head  sys.Header
	inbox = make([]byte, 2048)
)

// small is how large a payload is that is copied out of the inbox. Others have a buffer of their own, and what is
// decoded refers to it.
const small = 2048

// receive takes a message. Its payload is valid until the next one is taken, unless it is large. A message for which
// there is no memory is dropped, with a line in the log, a request refused, and a start failed: no peer can do harm with it.
func receive(into *Message, timeout int64, mode int32, key int64) int32 {
	for {
		code := sys.Receive(&head, inbox, timeout, mode, key)
		if code == 0 {
			into.set(inbox[:head.Length])
			return 0
		}
		if code != sys.CodeTooBig {
			return code
		}
		if buffer := room(int(head.Length)); buffer != nil {
			// The mode finds the same message again; a message of higher length may be before it by now only if it
			// was not searched for.
			code = sys.Receive(&head, buffer, 0, mode, key)
			if code == 0 {
				into.set(buffer[:head.Length])
				return 0
			}
			continue
		}
		if code = sys.Receive(&head, nil, 0, mode|sys.ReceiveTruncate, key); code != 0 {
			continue
		}
		into.set(nil)
		Errorf("dropped a message from %v: no memory for its %d bytes", into.Sender, head.Length)
		switch into.Kind {
		case KindMessage, KindTimer:
			continue
		case KindRequest:
			into.Refuse("no memory for the %d bytes of the request", head.Length)
			continue
		case KindInit:
			// Not a start with other arguments than those that were given.
			sys.InitAck(256, fmt.Sprintf("no memory for the %d bytes of the arguments", head.Length))
			stopping.now, stopping.reason, stopping.text = true, Normal, ""
			return sys.CodeLimit
		case KindReply:
			into.Tag, into.Payload = TagRefused, []byte("no memory for the reply")
		}
		return 0
	}
}

func (m *Message) set(payload []byte) {
	*m = Message{Kind(head.Kind), head.Sender, head.Reference, head.Tag, Reason(head.Reason), payload}
}

// done clears what a message left in the inbox.
func (m *Message) done() {
	if len(m.Payload) <= small {
		clear(inbox[:len(m.Payload)])
	} else {
		tidyUp.large = true
	}
	*m = Message{}
	decoding = msgpack.Decoder{}
}

// own is keep for a message whose place in the inbox is needed no more.
func (m *Message) own() *Message {
	kept := m.keep()
	m.done()
	return kept
}

// keep gives a message a payload of its own.
func (m *Message) keep() *Message {
	kept := *m
	if len(kept.Payload) <= small {
		kept.Payload = append([]byte(nil), kept.Payload...)
	}
	return &kept
}

// decoder returns a decoder of the payload that allocates no more than there is memory for.
func (m *Message) decoder() msgpack.Decoder {
	if len(m.Payload) == 0 {
		return msgpack.NewDecoder(encodedNil)
	}
	d := msgpack.NewDecoder(m.Payload)
	d.Share = len(m.Payload) > small
	d.Budget = budget(len(m.Payload))
	return d
}

func (m *Message) down() Down {
	return Down{m.Sender, m.Reference, m.Reason, m.Text(), m.Tag == 1}
}

func (m *Message) exit() Exit { return Exit{m.Sender, m.Reason, m.Text(), m.Tag == 1} }
