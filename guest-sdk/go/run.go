package exuvia

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

// run handles what has arrived.
func run() (result int32) {
	defer guard()
	handling.Sender = None
	if me.loop != nil {
		result = int32(me.loop(&handling))
		runTasks()
	} else {
		result = handleAll()
	}
	if stopping.now {
		if stopping.reason == Normal && stopping.text == "" {
			return sys.RunDone
		}
		sys.Exit(int32(stopping.reason), stopping.text)
		return sys.RunDone // only in tests
	}
	tidy()
	if result == sys.RunRest && tasks.all > 0 {
		return sys.RunWaiting
	}
	return result
}

// handled is the message that is being handled.
var handled Message

func handleAll() int32 {
	for !stopping.now {
		if receive(&handled, 0, sys.ReceiveAny, 0) != 0 {
			return sys.RunRest
		}
		m := &handled
		if wakes(m) {
			runTasks()
			continue
		}
		handling.Sender = m.Sender
		if m.Kind == KindInit {
			if !start(m) {
				return sys.RunDone
			}
		} else if current == nil {
			Errorf("dropped a message from %v: it came before the start", m.Sender)
			m.Refuse("the process has not started")
		} else {
			dispatch(m)
		}
		m.done()
		runTasks()
	}
	return sys.RunRest
}

// start makes the state; false if that fails.
func start(m *Message) bool {
	renew()
	d := m.decoder()
	if err := me.start(&handling, &d); err != nil {
		sys.InitAck(256, err.Error())
		return false
	}
	sys.InitAck(0, "")
	return true
}

func dispatch(m *Message) {
	switch {
	case m.Tag == TagTyped && (m.Kind == KindMessage || m.Kind == KindRequest || m.Kind == KindTimer):
		typed(m)
	case m.Kind == KindDown:
		if me.down == nil {
			Warnf("%v has ended (%v %s): this actor has no HandleDown", m.Sender, m.Reason, m.Text())
			return
		}
		me.down(&handling, m.down())
	case m.Kind == KindExit:
		if me.exit == nil {
			Warnf("%v has ended (%v %s): this actor has no HandleExit", m.Sender, m.Reason, m.Text())
			return
		}
		me.exit(&handling, m.exit())
	case m.Kind == KindReply:
		if me.reply == nil {
			Warnf("dropped a reply of %v: this actor has no HandleReply", m.Sender)
			return
		}
		me.reply(&handling, m.keep())
	case m.Kind == KindTable:
		if me.table == nil {
			Warnf("got a table of %v: this actor has no HandleTable", m.Sender)
			return
		}
		me.table(&handling, Table(m.Reference), m.Sender, m.Tag)
	case isLate(m):
	case m.Kind == KindMessage || m.Kind == KindRequest || m.Kind == KindTimer:
		if me.raw == nil {
			Warnf("dropped a message from %v: this actor has no HandleRaw for the tag %d", m.Sender, m.Tag)
			m.Refuse("this actor knows no requests with the tag %d", m.Tag)
			return
		}
		me.raw(&handling, m.keep())
	}
}

// decoding reads the payload of the message that is being handled. It is done with before the handler begins.
var decoding msgpack.Decoder

// nameOf reads the name of a message: it is the message, or the only key of a map. The parameters follow.
func nameOf(d *msgpack.Decoder) ([]byte, error) {
	switch d.Kind() {
	case msgpack.String:
		name, err := d.Text()
		if err == nil && len(d.Rest()) > 0 {
			return nil, fmt.Errorf("%d bytes are left behind the name", len(d.Rest()))
		}
		*d = msgpack.NewDecoder(encodedNil)
		return name, err
	case msgpack.Map:
		n, err := d.MapLen()
		if err != nil {
			return nil, err
		}
		if n != 1 {
			return nil, fmt.Errorf("a message is a map with its name as the only key, and this one has %d keys", n)
		}
		return d.Text()
	}
	return nil, fmt.Errorf("a message is its name, or a map with its name, and this is %v", d.Kind())
}

// typed handles a message that has a name.
func typed(m *Message) {
	decoding = m.decoder()
	name, err := nameOf(&decoding)
	decoding.Strict = true
	if err == nil {
		h, known := me.handlers[string(name)]
		switch {
		case !known:
			err = fmt.Errorf("unknown message `%.100s`", name)
		case h.request != (m.Kind == KindRequest) && h.request:
			err = fmt.Errorf("`%s` is a request, and was sent as a message", name)
		case h.request != (m.Kind == KindRequest):
			err = fmt.Errorf("`%s` is a message, and was sent as a request", name)
		default:
			if err = h.do(&handling, &decoding, m); err != nil {
				err = fmt.Errorf("`%s`: %w", name, err)
			}
		}
	}
	if err == nil {
		return
	}
	if m.Kind == KindRequest {
		m.Refuse("%s", err.Error())
		Warnf("refused a request from %v: %v", m.Sender, err)
		return
	}
	Warnf("dropped a message from %v: %v", m.Sender, err)
}

// guard ends the process with a trap if its code panics. The trap is taken while the panicking functions are on the stack,
// so its backtrace names them, and new code that panics in its probation is taken back. (The runtime would exit.)
func guard() {
	why := recover()
	if why == nil {
		return
	}
	// What is printed last to the standard error becomes a part of the reason.
	fmt.Fprintf(os.Stderr, "panic: %v\n%s", why, stack())
	sys.Trap()
}

// stack returns the stack of the panic that is being recovered: functions, files and lines.
func stack() string {
	text := string(debug.Stack())
	// The first lines are of this package and of the runtime.
	if at := strings.LastIndex(text, "\npanic("); at >= 0 {
		text = text[at+1:]
		for range 2 {
			if _, rest, ok := strings.Cut(text, "\n"); ok {
				text = rest
			}
		}
	}
	// The last ones are of this package too.
	if at := strings.Index(text, "\n"+reflect.TypeFor[Context]().PkgPath()+"."); at >= 0 {
		text = text[:at+1]
	}
	const most = 3000
	if len(text) > most {
		text = text[:most] + "\n"
	}
	return text
}

func save() int32 {
	defer guard()
	if me.save == nil {
		Errorf("this module saves no state")
		return 1
	}
	encoded, err := me.save()
	if err == nil {
		err = check(sys.StatePut(encoded))
	}
	if err != nil {
		Errorf("the state cannot be saved: %v", err)
		return 1
	}
	return 0
}

func load(from, length int32) int32 {
	defer guard()
	if me.load == nil {
		Errorf("this module loads no state")
		return 1
	}
	renew()
	encoded := make([]byte, length)
	err := check(sys.StateGet(encoded))
	if err == nil {
		err = me.load(from, encoded)
	}
	if err != nil {
		Errorf("the state of schema %d cannot be loaded: %v", from, err)
		return 1
	}
	tidyUp.large = tidyUp.large || len(encoded) > small
	return 0
}
