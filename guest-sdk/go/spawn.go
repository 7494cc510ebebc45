package exuvia

import (
	"time"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

// SpawnOptions are options of [Spawn]. Those that are 0 are as the parent's; a child never gets more than its parent.
type SpawnOptions struct {
	Link    bool // link the child to this process before it runs
	Monitor bool // monitor it before it runs
	Sync    bool // wait until it has started

	StartTimeout    time.Duration // of Sync; 0 is 5 s
	Memory          uint64        // bytes
	MailboxBytes    uint64
	MailboxMessages uint32
	MessageBytes    uint32 // the most bytes of one message that it sends
	Children        uint32
	Descendants     uint32
	TableBytes      uint64
	Priority        Priority // the highest that it may have
	Files           uint32   // open at once
	Grants          *Grants  // nil: all that this process has
}

// Grants are what a child may use through WASI, out of what its parent may.
type Grants struct {
	Dirs    map[string]string `msgpack:"dirs,omitempty"` // the child's path: a path of the parent's, to be read
	Env     map[string]string `msgpack:"env,omitempty"`
	Args    []string          `msgpack:"args,omitempty"`
	Stdio   string            `msgpack:"stdio,omitempty"` // "log" or "terminal"
	Connect []string          `msgpack:"connect,omitempty"`
}

// Child is a process that was spawned.
type Child struct {
	Pid Pid
	// Monitor is the reference of its monitor, 0 without one.
	Monitor uint64
}

// Spawn starts a process of a module of the current release; "" is this module. The arguments become those of its start.
func Spawn(module string, arguments any, options SpawnOptions) (Child, error) {
	var payload []byte
	if arguments != nil {
		var err error
		if payload, err = msgpack.Marshal(arguments); err != nil {
			return Child{}, err
		}
	}
	var grants []byte
	if options.Grants != nil {
		var err error
		if grants, err = msgpack.Marshal(options.Grants); err != nil {
			return Child{}, err
		}
	}
	raw := &spawnOptions
	*raw = sys.Options{
		Memory: options.Memory, MailboxBytes: options.MailboxBytes, MailboxMessages: options.MailboxMessages,
		MessageBytes: options.MessageBytes, Children: options.Children, Descendants: options.Descendants,
		TableBytes: options.TableBytes, Priority: uint32(options.Priority), Files: options.Files,
		StartTimeout: uint32(milliseconds(max(options.StartTimeout, 0))),
	}
	for _, flag := range [...]struct {
		on   bool
		flag uint32
	}{{options.Link, sys.SpawnLink}, {options.Monitor, sys.SpawnMonitor}, {options.Sync, sys.SpawnSync}} {
		if flag.on {
			raw.Flags |= flag.flag
		}
	}
	reference = 0
	err := check(sys.Spawn(module, payload, grants, raw, (*[16]byte)(&argument), &reference))
	*raw = sys.Options{}
	if err != nil && err != ErrStartFailed {
		return Child{}, err
	}
	return Child{argument, reference}, err
}

var spawnOptions sys.Options

// Supervisor is the specification of a host supervisor; the keys are those of `[supervisor]` in the app's manifest.
type Supervisor struct {
	Strategy  string            `msgpack:"strategy,omitempty"` // one_for_one, one_for_all or rest_for_one
	Intensity *int              `msgpack:"intensity,omitempty"`
	PeriodS   *int              `msgpack:"period_s,omitempty"`
	Children  []SupervisorChild `msgpack:"children"`
}

// SupervisorChild is a child of a [Supervisor].
type SupervisorChild struct {
	ID         string `msgpack:"id"`
	Module     string `msgpack:"module"`
	Args       any    `msgpack:"args,omitempty"`
	Name       string `msgpack:"name,omitempty"`
	Restart    string `msgpack:"restart,omitempty"` // permanent, transient or temporary
	ShutdownMs int    `msgpack:"shutdown_ms,omitempty"`
	Manages    bool   `msgpack:"manages,omitempty"`
}

// StartSupervisor starts a supervisor that the host runs, linked to this process, and waits until its children have
// started.
func StartSupervisor(specification Supervisor) (Pid, error) {
	payload, err := msgpack.Marshal(specification)
	if err != nil {
		return None, err
	}
	err = check(sys.SupervisorStart(payload, (*[16]byte)(&argument)))
	return argument, err
}
