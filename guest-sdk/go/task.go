package exuvia

import (
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
)

// tasks are the goroutines of [Context.Go].
var tasks struct {
	// all that have not ended, and those of them that do not wait for a message.
	all, busy int
	// waits has the goroutine that waits for each reference; nil while there is none, which costs an image nothing.
	waits map[uint64]*wait
}

// wait is what a goroutine waits for: the first message with one of two references.
type wait struct {
	arrived chan *Message
	first   uint64 // a reference
	second  uint64 // 0 if there is none
}

// Go starts a goroutine that may wait ([Context.Call], [Context.Sleep]) without a stack of the host's: the handler returns,
// the process handles other messages in between, and may be paged out. There is no new code for the process before the
// goroutine has ended, so it should wait for an end. Only one goroutine runs at a time, and another one only while
// it waits, so the state needs no lock.
//
// A goroutine that is begun with a plain go statement runs too, but it must not wait for messages, and what it panics with
// ends the process with exit status 2 instead of a trap. It must not wait for the clock either (time.Sleep): nothing wakes
// a process but a message.
func (ctx *Context) Go(do func(ctx *Context)) {
	tasks.all++
	tasks.busy++
	inner := &Context{Sender: ctx.Sender, task: true}
	go func() {
		defer func() {
			tasks.all--
			tasks.busy--
			if tasks.all == 0 {
				tasks.waits = nil
			}
		}()
		defer guard()
		do(inner)
	}()
}

// run lets goroutines run until all wait.
func runTasks() {
	for turns := 1; tasks.busy > 0; turns++ {
		runtime.Gosched()
		// Some may wait for each other, by channels.
		if turns%64 == 0 && runnable() == 0 {
			return
		}
	}
}

var runnableGoroutines = []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}}

func runnable() uint64 {
	metrics.Read(runnableGoroutines)
	return runnableGoroutines[0].Value.Uint64()
}

// wakes gives a message to the goroutine that waits for it, and reports whether there is one.
func wakes(m *Message) bool {
	if len(tasks.waits) == 0 || m.Reference == 0 {
		return false
	}
	switch m.Kind {
	case KindReply, KindDown, KindTimer:
	default:
		return false
	}
	w := tasks.waits[m.Reference]
	if w == nil {
		return false
	}
	delete(tasks.waits, w.first)
	if w.second != 0 {
		delete(tasks.waits, w.second)
	}
	tasks.busy++
	w.arrived <- m.own()
	return true
}

func (w *wait) message() *Message {
	if tasks.waits == nil {
		tasks.waits = map[uint64]*wait{}
	}
	w.arrived = make(chan *Message, 1)
	tasks.waits[w.first] = w
	if w.second != 0 {
		tasks.waits[w.second] = w
	}
	tasks.busy--
	return <-w.arrived
}

func sleep(d time.Duration) error {
	timer, err := Self().SendBytesAfter(max(d, 0), tagAwaited, nil)
	if err != nil {
		return err
	}
	(&wait{first: timer}).message()
	return nil
}

func await(to Pid, tag uint32, payload []byte, timeout time.Duration) (*Message, error) {
	request, err := to.RequestBytes(tag, payload)
	if err != nil {
		return nil, err
	}
	w := &wait{first: request}
	if timeout >= 0 {
		if w.second, err = Self().SendBytesAfter(timeout, tagAwaited, nil); err != nil {
			Demonitor(request)
			return nil, err
		}
	}
	m := w.message()
	if m.Reference != request {
		Demonitor(request)
		return nil, ErrTimeout
	}
	if w.second != 0 {
		// If it has fired already, the timer is dropped when it arrives: nobody waits for it.
		CancelTimer(w.second)
	}
	if m.Kind == KindDown {
		return nil, &ExitedError{m.Reason}
	}
	return m, nil
}

// isLate reports a timer of a goroutine that waits for it no more.
func isLate(m *Message) bool { return m.Kind == sys.KindTimer && m.Tag == tagAwaited }
