// Package exuvia writes Exuvia processes in Go. See [Actor] for a start, and README.md for a tour.
//go:generate go run ./internal/generate

package exuvia

import (
	"fmt"
	"reflect"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

// handler handles a message with a name, or a request.
type handler struct {
	request bool
	do      func(ctx *Context, parameters *msgpack.Decoder, from *Message) error
	// What `exuvia describe` shows.
	parameters, reply reflect.Type
}

// actor is what a module's init functions have said about its processes.
type actor struct {
	schema   int32
	state    reflect.Type
	start    func(ctx *Context, arguments *msgpack.Decoder) error
	save     func() ([]byte, error)
	load     func(from int32, state []byte) error
	migrates bool    // load is of Migrate
	loads    []int32 // the schemas that it says it takes
	loop     func(ctx *Context) Result
	handlers map[string]handler
	names    []string

	down  func(ctx *Context, down Down)
	exit  func(ctx *Context, exit Exit)
	reply func(ctx *Context, reply *Message)
	table func(ctx *Context, table Table, from Pid, tag uint32)
	raw   func(ctx *Context, message *Message)
	warm  []func()
}

var me actor

// current is the state of the process: a *S, nil before its start.
var current any

// Actor is called in a module's init function, and says what its processes are: their state is an S, start makes the
// first one from the arguments (a type that MessagePack has; no arguments are nil, which is the zero value). An error
// of start fails the start of the process, and its text tells whoever waits for it.
//
// The schema is the number of the state's form: raise it when a field gets another meaning. In new code the state is
// read by the names of its fields: one that is missing keeps its zero value, and one that is not known is dropped.
// For more than that there is [Migrate].
//
//	func init() {
//		exuvia.Actor(1, start)
//		exuvia.Handle("Add", (*Counter).Add)
//		exuvia.HandleRequest("Get", (*Counter).Get)
//	}
func Actor[S, A any](schema int32, start func(ctx *Context, arguments A) (*S, error)) {
	once()
	prepare[S]("the state")
	prepare[A]("the arguments")
	same[S]()
	me.schema = schema
	me.start = func(ctx *Context, d *msgpack.Decoder) error {
		var arguments A
		if err := d.Decode(&arguments); err != nil {
			return fmt.Errorf("the arguments: %w", err)
		}
		state, err := start(ctx, arguments)
		if err == nil && state == nil {
			err = fmt.Errorf("the start made no state")
		}
		if err == nil {
			current = state
		}
		return err
	}
	me.save = func() ([]byte, error) { return msgpack.Marshal(current) }
	if me.load != nil {
		return // Migrate came first
	}
	me.load = func(_ int32, encoded []byte) error {
		state := new(S)
		if err := msgpack.Unmarshal(encoded, state); err != nil {
			return err
		}
		current = state
		return nil
	}
}

// Migrate sets what makes the state from one that other code has saved, with another schema or the same. [Read] reads it
// by the names of the fields. An error refuses the state, and its text is what the operator reads. The schemas of other
// versions that it takes may be listed: `exuvia check OLD NEW` then knows.
func Migrate[S any](migrate func(from int32, saved []byte) (*S, error), loads ...int32) {
	same[S]()
	me.migrates, me.loads = true, loads
	me.load = func(from int32, encoded []byte) error {
		state, err := migrate(from, encoded)
		if err == nil && state == nil {
			err = fmt.Errorf("there is no state of schema %d", from)
		}
		if err == nil {
			current = state
		}
		return err
	}
}

// Read decodes MessagePack into a new T.
func Read[T any](encoded []byte) (*T, error) {
	value := new(T)
	return value, msgpack.Unmarshal(encoded, value)
}

// Result is what a loop says when it returns.
type Result int32

// The results.
const (
	Rest    Result = sys.RunRest    // all state is in memory
	Waiting Result = sys.RunWaiting // as Rest, but new code must wait
	Done    Result = sys.RunDone    // the process ends
)

// Loop is called in a module's init function instead of [Actor], by those who take messages themselves ([Context.Receive],
// from the first one, of [KindInit], on). The loop is called whenever there is something to do. save and load may be nil.
func Loop(schema int32, loop func(ctx *Context) Result, save func() ([]byte, error), load func(from int32, saved []byte) error) {
	once()
	me.schema, me.loop, me.save, me.load = schema, loop, save, load
}

// Handle sets what is done with messages of a name, and with timers. The parameters are decoded into an M, a struct;
// struct{} if there are none. A message that cannot be decoded is dropped, with a line in the log.
func Handle[S, M any](name string, do func(state *S, ctx *Context, message M)) {
	same[S]()
	take := parameters[M](name)
	add(name, handler{parameters: reflect.TypeFor[M](), do: func(ctx *Context, d *msgpack.Decoder, _ *Message) error {
		message, err := take(d)
		if err == nil {
			do(current.(*S), ctx, message)
		}
		return err
	}})
}

// HandleRequest sets how requests of a name are answered: with the value, or refused with the error. A request that
// cannot be decoded is refused.
func HandleRequest[S, M, R any](name string, do func(state *S, ctx *Context, request M) (R, error)) {
	same[S]()
	codec := prepare[R]("the reply of " + name)
	take := parameters[M](name)
	var slot R
	reply := reflect.ValueOf(&slot).Elem()
	add(name, handler{request: true, parameters: reflect.TypeFor[M](), reply: reflect.TypeFor[R](), do: func(ctx *Context, d *msgpack.Decoder, from *Message) error {
		request, err := take(d)
		if err != nil {
			return err
		}
		// The payload is gone when the handler has waited.
		caller := Caller[R]{from.Sender, from.Reference}
		answer, err := do(current.(*S), ctx, request)
		if err != nil {
			caller.Refuse("%s", err.Error())
			return nil
		}
		slot = answer
		encoding.Reset(scratch[:0])
		payload, err := encoded(codec.Encode(&encoding, reply))
		reply.SetZero()
		_ = caller.answer(TagTyped, payload, err)
		wipe(payload)
		return nil
	}})
}

// HandleLater is [HandleRequest] for requests that are answered later: by [Caller.Reply], in this handler, in a goroutine,
// in the handler of another message, or by another process.
func HandleLater[S, M, R any](name string, do func(state *S, ctx *Context, request M, from Caller[R])) {
	same[S]()
	prepare[R]("the reply of " + name)
	take := parameters[M](name)
	add(name, handler{request: true, parameters: reflect.TypeFor[M](), reply: reflect.TypeFor[R](), do: func(ctx *Context, d *msgpack.Decoder, from *Message) error {
		request, err := take(d)
		if err == nil {
			do(current.(*S), ctx, request, Caller[R]{from.Sender, from.Reference})
		}
		return err
	}})
}

// HandleDown sets what is done when a monitored process has ended ([Pid.Monitor]).
func HandleDown[S any](do func(state *S, ctx *Context, down Down)) {
	same[S]()
	me.down = func(ctx *Context, down Down) { do(current.(*S), ctx, down) }
}

// HandleExit sets what is done when a linked process has ended while this one traps exits ([TrapExits]).
func HandleExit[S any](do func(state *S, ctx *Context, exit Exit)) {
	same[S]()
	me.exit = func(ctx *Context, exit Exit) { do(current.(*S), ctx, exit) }
}

// HandleReply sets what is done with the replies to [Pid.Request].
func HandleReply[S any](do func(state *S, ctx *Context, reply *Message)) {
	same[S]()
	me.reply = func(ctx *Context, reply *Message) { do(current.(*S), ctx, reply) }
}

// HandleTable sets what is done with tables that this process becomes the owner of.
func HandleTable[S any](do func(state *S, ctx *Context, table Table, from Pid, tag uint32)) {
	same[S]()
	me.table = func(ctx *Context, table Table, from Pid, tag uint32) { do(current.(*S), ctx, table, from, tag) }
}

// HandleRaw sets what is done with messages, requests and timers that have a tag of your own, or of the host (sockets and
// HTTP). The handler must reply to requests, or refuse them.
func HandleRaw[S any](do func(state *S, ctx *Context, message *Message)) {
	same[S]()
	me.raw = func(ctx *Context, message *Message) { do(current.(*S), ctx, message) }
}

// WarmUp adds a function that is called once for each version, before there are processes: what it leaves in memory is
// shared by all of them. It may compute and log, and do nothing else.
func WarmUp(do func()) { me.warm = append(me.warm, do) }

func once() {
	if me.start != nil || me.loop != nil {
		panic("exuvia: a module has one Actor or Loop")
	}
}

// same checks that all handlers are for the same state. They are set in any order, since init functions run in that of
// their files.
func same[S any]() {
	t := reflect.TypeFor[S]()
	if me.state != nil && t != me.state {
		panic(fmt.Sprintf("exuvia: a handler is for the state %v, and another one for %v", t, me.state))
	}
	me.state = t
}

func prepare[T any](what string) *msgpack.Codec {
	codec, err := msgpack.CodecOf(reflect.TypeFor[T]())
	if err != nil {
		panic(fmt.Sprintf("exuvia: %s: %v", what, err))
	}
	return codec
}

// parameters returns what decodes the parameters of a message without an allocation of its own.
func parameters[M any](name string) func(*msgpack.Decoder) (M, error) {
	codec := prepare[M]("the parameters of " + name)
	slot := new(M)
	into := reflect.ValueOf(slot).Elem()
	return func(d *msgpack.Decoder) (M, error) {
		err := codec.Decode(d, into)
		if err == nil && len(d.Rest()) > 0 {
			err = fmt.Errorf("%d bytes are left behind the parameters", len(d.Rest()))
		}
		message := *slot
		into.SetZero()
		return message, err
	}
}

func add(name string, h handler) {
	if _, ok := me.handlers[name]; ok {
		panic(fmt.Sprintf("exuvia: %q has two handlers", name))
	}
	if me.handlers == nil {
		me.handlers = map[string]handler{}
	}
	me.handlers[name] = h
	me.names = append(me.names, name)
}
