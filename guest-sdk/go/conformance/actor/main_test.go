//go:build !two && !bad

package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	exuvia "github.com/exuvia/exuvia/guest-sdk/go"
	"github.com/exuvia/exuvia/guest-sdk/go/exuviatest"
	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

func encode(t *testing.T, value any) msgpack.Raw {
	t.Helper()
	encoded, err := msgpack.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestCounting(t *testing.T) {
	p := exuviatest.Start(t, arguments{Start: 40})
	p.Send("Add", add{By: 2})
	if got := exuviatest.Ask[int64](p, "Get", nil); got != 42 {
		t.Error(got)
	}
	if got := exuviatest.Ask[[]any](p, "Echo", value{encode(t, []any{1, nil, "x"})}); len(got) != 3 || got[2] != "x" {
		t.Error(got)
	}
}

func TestArgumentsThatAreWrongFailTheStart(t *testing.T) {
	if _, err := exuviatest.TryStart(t, 5); err == nil || !strings.Contains(err.Error(), "expected a map, found an integer") {
		t.Error(err)
	}
	if _, err := exuviatest.TryStart(t, map[string]any{"start": "x"}); err == nil || !strings.Contains(err.Error(), "`start`") {
		t.Error(err)
	}
}

func TestArgumentsThatDoNotFitIntoMemoryFailTheStart(t *testing.T) {
	_, err := exuviatest.TryStart(t, map[string]any{"start": 1, "more": make([]byte, 64<<20)})
	if err == nil || !strings.Contains(err.Error(), "no memory for the 671") {
		t.Error(err)
	}
	if got := sys.Entries.Run(); got != sys.RunDone {
		t.Error("it goes on", got)
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	p := exuviatest.Start(t, nil)
	for name, parameters := range map[string]any{"Nope": nil, "Note": nil, "Send": map[string]any{"to": exuvia.None}, "Length": map[string]any{"bytes": 5}, "Add": add{1}} {
		var refused *exuvia.RefusedError
		if err := p.Reply(p.Request(name, parameters), nil); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.Log()
	p.Send("Nope", nil)
	p.Deliver(exuvia.Message{Kind: exuvia.KindMessage, Payload: []byte{0xc1}})
	p.Deliver(exuvia.Message{Kind: exuvia.KindMessage, Tag: 9})
	p.Deliver(exuvia.Message{Kind: exuvia.Kind(77), Payload: []byte{1}})
	if log := p.Log(); len(log) != 3 {
		t.Error(log)
	}
}

func TestAReplyThatIsTooLargeIsRefused(t *testing.T) {
	p := exuviatest.Start(t, nil)
	large := value{encode(t, make([]byte, 1<<20))}
	kept := p.Request("Keep", nil)
	for _, reference := range []uint64{p.Request("Echo", large), p.Request("Release", large), kept} {
		var refused *exuvia.RefusedError
		if err := p.Reply(reference, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "message") {
			t.Error(err)
		}
	}
	// A reason that is too large is replaced.
	if err := p.Reply(p.Request("ReadFile", map[string]any{"path": strings.Repeat("x", 2<<20)}), nil); err == nil || !strings.Contains(err.Error(), "the reason is larger") {
		t.Error(err)
	}
}

func TestTheStateCrosses(t *testing.T) {
	p := exuviatest.Start(t, arguments{Start: 7})
	p.Send("Note", note{"kept"})
	kept := p.Request("Keep", nil)
	saved, err := p.Save()
	if err != nil {
		t.Fatal(err)
	}
	q, err := exuviatest.Load(t, schema, saved)
	if err != nil {
		t.Fatal(err)
	}
	if got := exuviatest.Ask[int64](q, "Get", nil); got != 7 {
		t.Error(got)
	}
	if notes := exuviatest.Ask[[]string](q, "Notes", nil); len(notes) != 1 || notes[0] != "kept" {
		t.Error(notes)
	}
	exuviatest.Ask[any](q, "Release", value{encode(t, "late")})
	var late string
	if err := q.Reply(kept, &late); err != nil || late != "late" {
		t.Error("a request that was kept is not answered by new code", err)
	}
	if _, err := exuviatest.Load(t, schema, encode(t, map[string]any{"count": "many"})); err == nil || !strings.Contains(err.Error(), "field `count`") {
		t.Error(err)
	}
}

func TestRequestsAreAnsweredLater(t *testing.T) {
	p := exuviatest.Start(t, nil)
	first, second := p.Request("Keep", nil), p.Request("Keep", nil)
	if err := p.Reply(first, nil); !errors.Is(err, exuvia.ErrEmpty) {
		t.Error(err)
	}
	exuviatest.Ask[any](p, "Release", value{encode(t, "now")})
	for _, reference := range []uint64{first, second} {
		var got string
		if err := p.Reply(reference, &got); err != nil || got != "now" {
			t.Error(got, err)
		}
	}
}

func TestCallsOnTheStack(t *testing.T) {
	p := exuviatest.Start(t, nil)
	other := exuvia.Pid{1}
	ask := func() string {
		got := exuviatest.Ask[map[string]any](p, "Call", call{To: other, Value: encode(t, 5), TimeoutMs: 10})
		if why, ok := got["Err"]; ok {
			return why.(string)
		}
		if got["Ok"] != int64(5) {
			t.Error(got)
		}
		return "ok"
	}
	if got := ask(); got != "timeout" {
		t.Error(got)
	}
	for want, err := range map[string]error{"ok": nil, "noproc": exuvia.ErrNoProc, "refused: no": errors.New("no")} {
		p.OnCall(func(request exuviatest.Letter) (any, error) { return 5, err })
		if got := ask(); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

func TestGoroutinesWaitWithoutAStack(t *testing.T) {
	p := exuviatest.Start(t, nil)
	other := exuvia.Pid{1}
	first := p.Request("Await", call{To: other, TimeoutMs: 1000})
	second := p.Request("Await", call{To: other, TimeoutMs: 1000})
	third := p.Request("Await", call{To: other, TimeoutMs: 50})
	fourth := p.Request("Await", call{To: other, TimeoutMs: 1000})
	sent := p.Sent()
	if len(sent) != 4 || p.Run() != sys.RunWaiting {
		t.Fatal(sent)
	}
	if got := exuviatest.Ask[int64](p, "Get", nil); got != 0 {
		t.Error("it handles other messages meanwhile")
	}
	result := func(reference uint64) string {
		var got map[string]any
		if err := p.Reply(reference, &got); err != nil {
			return err.Error()
		}
		if why, ok := got["Err"]; ok {
			return why.(string)
		}
		return got["Ok"].(string)
	}
	p.Answer(sent[1], "two")
	if result(first) != exuvia.ErrEmpty.Error() || result(second) != "two" {
		t.Error(result(first), result(second))
	}
	p.Advance(60 * time.Millisecond)
	if result(third) != "timeout" {
		t.Error(result(third))
	}
	p.Deliver(exuvia.Message{Kind: exuvia.KindDown, Sender: other, Reference: sent[3].Reference, Reason: 300})
	if result(fourth) != "noproc" {
		t.Error(result(fourth))
	}
	if got := p.Answer(sent[0], "one"); got != sys.RunRest || result(first) != "one" {
		t.Error(got, result(first))
	}
	// The timers of those that were answered are cancelled or dropped.
	p.Advance(2 * time.Second)
	if log := p.Log(); len(log) != 0 {
		t.Error(log)
	}
}

func TestSelectiveReceive(t *testing.T) {
	p := exuviatest.Start(t, nil)
	p.Deliver(exuvia.Message{Kind: exuvia.KindRequest, Reference: 5, Payload: encode(t, map[string]any{"Select": choice{Tag: 3, TimeoutMs: 10}})})
	var got *string
	if err := p.Reply(5, &got); err != nil || got != nil {
		t.Error(got, err)
	}
}

func TestTimersDownsAndExits(t *testing.T) {
	p := exuviatest.Start(t, nil)
	exuviatest.Ask[any](p, "Timers", delays{[]int64{30, 10, 20}})
	p.Advance(time.Second)
	p.Deliver(exuvia.Message{Kind: exuvia.KindDown, Reason: 300})
	p.Deliver(exuvia.Message{Kind: exuvia.KindExit, Reason: 301})
	want := "timer 10,timer 20,timer 30,down 300,exit 301"
	if got := strings.Join(exuviatest.Ask[[]string](p, "Notes", nil), ","); got != want {
		t.Error(got)
	}
	if got := p.Send("Stop", stop{302, "enough"}); got != sys.RunDone {
		t.Error(got)
	}
	if reason, text, ended := p.Ended(); reason != 302 || text != "enough" || !ended {
		t.Error(reason, text, ended)
	}
}

func TestAPanicIsATrap(t *testing.T) {
	p := exuviatest.Start(t, nil)
	defer func() {
		if _, ok := recover().(sys.Trapped); !ok {
			t.Error("it went on")
		}
	}()
	p.Send("Trap", nil)
}

// FuzzMessages: no message of another process may do more than be refused.
func FuzzMessages(f *testing.F) {
	f.Add([]byte{0x81, 0xa3, 'A', 'd', 'd', 0x81, 0xa2, 'b', 'y', 5}, true)
	f.Add([]byte{0xa3, 'G', 'e', 't'}, false)
	f.Fuzz(func(t *testing.T, payload []byte, request bool) {
		for _, name := range []string{"Trap", "Fill", "Stop"} { // these do what they are asked to
			if strings.Contains(string(payload), name) {
				return
			}
		}
		p := exuviatest.Start(t, nil)
		kind := exuvia.KindMessage
		if request {
			kind = exuvia.KindRequest
		}
		p.Deliver(exuvia.Message{Kind: kind, Reference: 1, Payload: payload})
	})
}
