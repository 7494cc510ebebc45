// The guest of the conformance suite (guest-sdk/conformance/README.md), as a user of the SDK would write it. The build
// tags two and bad choose a version, and `-ldflags "-X main.version=101"` what Version replies.
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	exuvia "github.com/exuvia/exuvia/guest-sdk/go"
	_ "github.com/exuvia/exuvia/guest-sdk/go/files"
	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

type arguments struct {
	Start int64
}

type nothing struct{}

type actor struct {
	state
	// Requests can be answered by other code, too.
	Kept []exuvia.Caller[msgpack.Raw] `msgpack:"kept,omitempty"`
	file *os.File
}

func start(ctx *exuvia.Context, a arguments) (*actor, error) {
	made := &actor{}
	*made.number() = a.Start
	return made, nil
}

func init() {
	exuvia.Actor(schema, start)
	exuvia.HandleRequest("Version", func(*actor, *exuvia.Context, nothing) (int, error) { return strconv.Atoi(version) })
	exuvia.HandleRequest("Echo", (*actor).echo)
	exuvia.Handle("Add", (*actor).add)
	exuvia.HandleRequest("Get", func(a *actor, _ *exuvia.Context, _ nothing) (int64, error) { return *a.number(), nil })
	exuvia.HandleRequest("Length", (*actor).length)
	exuvia.Handle("Note", (*actor).note)
	exuvia.HandleRequest("Notes", (*actor).takeNotes)
	exuvia.HandleLater("Keep", (*actor).keep)
	exuvia.HandleRequest("Release", (*actor).release)
	exuvia.HandleRequest("Call", (*actor).call)
	exuvia.HandleRequest("CallKeep", (*actor).callKeep)
	exuvia.HandleLater("Await", (*actor).await)
	exuvia.HandleRequest("Select", (*actor).choose)
	exuvia.HandleRequest("Timers", (*actor).timers)
	exuvia.HandleRequest("Watch", (*actor).watch)
	exuvia.HandleRequest("Join", (*actor).join)
	exuvia.HandleRequest("Register", (*actor).register)
	exuvia.HandleRequest("Whereis", (*actor).whereis)
	exuvia.HandleRequest("Child", (*actor).child)
	exuvia.HandleRequest("Send", (*actor).send)
	exuvia.Handle("Stop", (*actor).stop)
	exuvia.Handle("Trap", func(*actor, *exuvia.Context, nothing) { outer() })
	exuvia.HandleRequest("Fill", (*actor).fill)
	exuvia.HandleRequest("ReadFile", (*actor).readFile)
	exuvia.HandleRequest("OpenFile", (*actor).openFile)
	exuvia.HandleRequest("ReadOn", (*actor).readOn)
	exuvia.HandleRequest("Random", func(*actor, *exuvia.Context, nothing) ([]byte, error) {
		drawn := make([]byte, 16)
		_, err := rand.Read(drawn)
		return drawn, err
	})
	exuvia.HandleRequest("Log", (*actor).log)
	exuvia.HandleDown((*actor).down)
	exuvia.HandleExit((*actor).exit)
}

func main() { exuvia.Main() }

// A reply of nil.
type null = *struct{}

type value struct {
	Value msgpack.Raw
}

func (a *actor) echo(_ *exuvia.Context, m value) (msgpack.Raw, error) { return m.Value, nil }

type add struct {
	By int64
}

func (a *actor) add(_ *exuvia.Context, m add) { *a.number() += m.By }

type length struct {
	Bytes []byte
}

func (a *actor) length(_ *exuvia.Context, m length) (int, error) { return len(m.Bytes), nil }

type note struct {
	Text string
}

func (a *actor) note(_ *exuvia.Context, m note) { a.Notes = append(a.Notes, m.Text) }

func (a *actor) takeNotes(*exuvia.Context, nothing) ([]string, error) {
	taken := a.Notes
	a.Notes = nil
	return taken, nil
}

func (a *actor) keep(_ *exuvia.Context, _ nothing, from exuvia.Caller[msgpack.Raw]) {
	a.Kept = append(a.Kept, from)
}

func (a *actor) release(_ *exuvia.Context, m value) (null, error) {
	for _, from := range a.Kept {
		if err := from.Reply(m.Value); err != nil {
			return nil, err
		}
	}
	a.Kept = nil
	return nil, nil
}

type call struct {
	To        exuvia.Pid
	Value     msgpack.Raw `msgpack:"value,omitempty"` // not of CallKeep and Await
	TimeoutMs int64
}

type answer struct {
	Ok  *msgpack.Raw `msgpack:"Ok,omitempty"`
	Err *string      `msgpack:"Err,omitempty"`
}

func ask(ctx *exuvia.Context, m call, name string, parameters any) answer {
	var got msgpack.Raw
	err := ctx.Call(m.To, name, parameters, &got, time.Duration(m.TimeoutMs)*time.Millisecond)
	if err != nil {
		why := err.Error()
		return answer{Err: &why}
	}
	return answer{Ok: &got}
}

func (a *actor) call(ctx *exuvia.Context, m call) (answer, error) {
	return ask(ctx, m, "Echo", value{m.Value}), nil
}

func (a *actor) callKeep(ctx *exuvia.Context, m call) (answer, error) {
	return ask(ctx, m, "Keep", nil), nil
}

func (a *actor) await(ctx *exuvia.Context, m call, from exuvia.Caller[answer]) {
	ctx.Go(func(ctx *exuvia.Context) { from.Reply(ask(ctx, m, "Keep", nil)) })
}

type choice struct {
	Tag       uint32
	TimeoutMs int64
}

func (a *actor) choose(ctx *exuvia.Context, m choice) (*string, error) {
	message, err := ctx.Receive(exuvia.WithTag(m.Tag), time.Duration(m.TimeoutMs)*time.Millisecond)
	if errors.Is(err, exuvia.ErrTimeout) || errors.Is(err, exuvia.ErrEmpty) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return exuvia.Read[string](message.Payload)
}

type delays struct {
	DelaysMs []int64
}

func (a *actor) timers(_ *exuvia.Context, m delays) (null, error) {
	for _, delay := range m.DelaysMs {
		if _, err := exuvia.Self().SendAfter(time.Duration(delay)*time.Millisecond, "Note", note{fmt.Sprintf("timer %d", delay)}); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

type process struct {
	Pid exuvia.Pid
}

func (a *actor) watch(_ *exuvia.Context, m process) (null, error) {
	_, err := m.Pid.Monitor()
	return nil, err
}

func (a *actor) down(_ *exuvia.Context, down exuvia.Down) {
	a.Notes = append(a.Notes, fmt.Sprintf("down %d", down.Reason))
}

func (a *actor) join(_ *exuvia.Context, m process) (null, error) {
	exuvia.TrapExits(true)
	return nil, m.Pid.Link()
}

func (a *actor) exit(_ *exuvia.Context, exit exuvia.Exit) {
	a.Notes = append(a.Notes, fmt.Sprintf("exit %d", exit.Reason))
}

type name struct {
	Name string
}

func (a *actor) register(_ *exuvia.Context, m name) (null, error) {
	return nil, exuvia.Self().Register(m.Name)
}

func (a *actor) whereis(_ *exuvia.Context, m name) (*exuvia.Pid, error) {
	pid, err := exuvia.Whereis(m.Name)
	if errors.Is(err, exuvia.ErrNoProc) {
		return nil, nil
	}
	return &pid, err
}

func (a *actor) child(_ *exuvia.Context, m arguments) (exuvia.Pid, error) {
	child, err := exuvia.Spawn("", m, exuvia.SpawnOptions{Link: true})
	return child.Pid, err
}

type letter struct {
	To   exuvia.Pid
	Text string
}

func (a *actor) send(_ *exuvia.Context, m letter) (null, error) {
	return nil, m.To.Send("Note", note{m.Text})
}

type stop struct {
	Code int32
	Text string
}

func (a *actor) stop(ctx *exuvia.Context, m stop) { ctx.Stop(exuvia.Reason(m.Code), m.Text) }

//go:noinline
func outer() { inner() }

//go:noinline
func inner() { panic("as it was asked to") }

type fill struct {
	Bytes int
}

func (a *actor) fill(_ *exuvia.Context, m fill) (int, error) {
	block := make([]byte, m.Bytes)
	for i := range block {
		block[i] = byte(i) | 1
	}
	return len(block), nil
}

type path struct {
	Path string
}

func (a *actor) readFile(_ *exuvia.Context, m path) (string, error) {
	text, err := os.ReadFile(m.Path)
	return string(text), err
}

func (a *actor) openFile(_ *exuvia.Context, m path) (null, error) {
	if a.file != nil {
		a.file.Close()
	}
	var err error
	if a.file, err = os.Open(m.Path); err != nil {
		return nil, err
	}
	_, err = a.next()
	return nil, err
}

func (a *actor) readOn(*exuvia.Context, nothing) (string, error) { return a.next() }

func (a *actor) next() (string, error) {
	if a.file == nil {
		return "", errors.New("no file is open")
	}
	letter := make([]byte, 1)
	_, err := io.ReadFull(a.file, letter)
	return string(letter), err
}

func (a *actor) log(_ *exuvia.Context, m note) (null, error) {
	exuvia.Infof("%s", m.Text)
	return nil, nil
}
