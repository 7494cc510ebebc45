//go:build !wasip1

package sys

// Host answers the host calls outside Wasm; see package exuviatest.
type Host interface {
	Receive(h *Header, buffer []byte, timeout int64, mode int32, key int64) int32
	Send(to *[16]byte, tag uint32, payload []byte) int32
	Request(to *[16]byte, tag uint32, payload []byte, reference *uint64) int32
	Call(to *[16]byte, tag uint32, payload []byte, h *Header, buffer []byte, timeout int64) int32
	Reply(to *[16]byte, reference uint64, tag uint32, payload []byte) int32
	Spawn(module string, arguments, grants []byte, options *Options, pid *[16]byte, reference *uint64) int32
	InitAck(status int32, why string) int32
	Exit(code int32, why string)
	ExitProcess(pid *[16]byte, code int32, why string) int32
	Kill(pid *[16]byte) int32
	Link(pid *[16]byte) int32
	Unlink(pid *[16]byte) int32
	Monitor(pid *[16]byte, reference *uint64) int32
	Demonitor(reference uint64, flags int32) int32
	TrapExit(on int32) int32
	Register(name string, pid *[16]byte) int32
	Unregister(name string) int32
	Whereis(name string, pid *[16]byte) int32
	Self(pid *[16]byte) int32
	SendAfter(to *[16]byte, tag uint32, payload []byte, delay int64, reference *uint64) int32
	CancelTimer(reference uint64) int64
	Sleep(milliseconds int64) int32
	Log(level int32, line string) int32
	Random(buffer []byte) int32
	Clock(which int32) int64
	Info(what int32) int64
	StatePut(state []byte) int32
	StateGet(buffer []byte) int32
	SupervisorStart(specification []byte, pid *[16]byte) int32
	MonitorName(name string, pid *[16]byte, reference *uint64) int32
	SetPriority(priority int32) int32
	Config(key string, buffer []byte) int32
	GroupJoin(group string, pid *[16]byte) int32
	GroupLeave(group string, pid *[16]byte) int32
	GroupMembers(group string, pids [][16]byte) int32
	Publish(group string, tag uint32, payload []byte) int32
	TableNew(name string, access int32, table *uint64) int32
	TableFind(name string, table *uint64) int32
	TablePut(table uint64, key, value []byte, flags int32) int32
	TableGet(table uint64, key, buffer []byte) int32
	TableDelete(table uint64, key []byte) int32
	TableNext(table uint64, key, buffer []byte) int32
	TableAdd(table uint64, key []byte, amount int64, sum *int64) int32
	TableInfo(table uint64, what int32) int64
	TableHeir(table uint64, pid *[16]byte, tag uint32) int32
	TableGive(table uint64, pid *[16]byte, tag uint32) int32
	TableEnd(table uint64) int32
}

var host Host

// Set sets the host that answers from now on.
func Set(to Host) { host = to }

// The returns the host.
func The() Host {
	if host == nil {
		panic("exuvia: a host call outside of a node: build for GOOS=wasip1 GOARCH=wasm, or test with package exuviatest")
	}
	return host
}

// Address is the key of the mode SENDER: here the host gets the pid in [Sender].
func Address(pid *[16]byte) int64 {
	Sender = *pid
	return 0
}

// Among is the key of the mode REFERENCES: here the host gets them in [References].
func Among(references []uint64) int64 {
	References = references
	return 0
}

// What Address and Among were given last.
var (
	Sender     [16]byte
	References []uint64
)

// MemorySize returns the pages of 64 KiB that the memory has: none.
func MemorySize() int32 { return 0 }

// Trapped is what a process under test that has panicked panics with in the end.
type Trapped struct{}

func (Trapped) Error() string { return "the process has trapped" }

// Trap ends the process.
func Trap() { panic(Trapped{}) }

// Arguments returns none.
func Arguments() []string { return nil }

// Environment returns none.
func Environment() []string { return nil }

// Receive asks the host.
func Receive(h *Header, buffer []byte, timeout int64, mode int32, key int64) int32 {
	return The().Receive(h, buffer, timeout, mode, key)
}

// Send asks the host.
func Send(to *[16]byte, tag uint32, payload []byte) int32 { return The().Send(to, tag, payload) }

// Request asks the host.
func Request(to *[16]byte, tag uint32, payload []byte, reference *uint64) int32 {
	return The().Request(to, tag, payload, reference)
}

// Call asks the host.
func Call(to *[16]byte, tag uint32, payload []byte, h *Header, buffer []byte, timeout int64) int32 {
	return The().Call(to, tag, payload, h, buffer, timeout)
}

// Reply asks the host.
func Reply(to *[16]byte, reference uint64, tag uint32, payload []byte) int32 {
	return The().Reply(to, reference, tag, payload)
}

// Spawn asks the host.
func Spawn(module string, arguments, grants []byte, options *Options, pid *[16]byte, reference *uint64) int32 {
	return The().Spawn(module, arguments, grants, options, pid, reference)
}

// InitAck asks the host.
func InitAck(status int32, why string) int32 { return The().InitAck(status, why) }

// Exit asks the host.
func Exit(code int32, why string) { The().Exit(code, why) }

// ExitProcess asks the host.
func ExitProcess(pid *[16]byte, code int32, why string) int32 {
	return The().ExitProcess(pid, code, why)
}

// Kill asks the host.
func Kill(pid *[16]byte) int32 { return The().Kill(pid) }

// Link asks the host.
func Link(pid *[16]byte) int32 { return The().Link(pid) }

// Unlink asks the host.
func Unlink(pid *[16]byte) int32 { return The().Unlink(pid) }

// Monitor asks the host.
func Monitor(pid *[16]byte, reference *uint64) int32 { return The().Monitor(pid, reference) }

// Demonitor asks the host.
func Demonitor(reference uint64, flags int32) int32 { return The().Demonitor(reference, flags) }

// TrapExit asks the host.
func TrapExit(on int32) int32 { return The().TrapExit(on) }

// Register asks the host.
func Register(name string, pid *[16]byte) int32 { return The().Register(name, pid) }

// Unregister asks the host.
func Unregister(name string) int32 { return The().Unregister(name) }

// Whereis asks the host.
func Whereis(name string, pid *[16]byte) int32 { return The().Whereis(name, pid) }

// Self asks the host.
func Self(pid *[16]byte) int32 { return The().Self(pid) }

// SendAfter asks the host.
func SendAfter(to *[16]byte, tag uint32, payload []byte, delay int64, reference *uint64) int32 {
	return The().SendAfter(to, tag, payload, delay, reference)
}

// CancelTimer asks the host.
func CancelTimer(reference uint64) int64 { return The().CancelTimer(reference) }

// Sleep asks the host.
func Sleep(milliseconds int64) int32 { return The().Sleep(milliseconds) }

// Log asks the host.
func Log(level int32, line string) int32 { return The().Log(level, line) }

// Random asks the host.
func Random(buffer []byte) int32 { return The().Random(buffer) }

// Clock asks the host.
func Clock(which int32) int64 { return The().Clock(which) }

// Info asks the host.
func Info(what int32) int64 { return The().Info(what) }

// StatePut asks the host.
func StatePut(state []byte) int32 { return The().StatePut(state) }

// StateGet asks the host.
func StateGet(buffer []byte) int32 { return The().StateGet(buffer) }

// SupervisorStart asks the host.
func SupervisorStart(specification []byte, pid *[16]byte) int32 {
	return The().SupervisorStart(specification, pid)
}

// MonitorName asks the host.
func MonitorName(name string, pid *[16]byte, reference *uint64) int32 {
	return The().MonitorName(name, pid, reference)
}

// SetPriority asks the host.
func SetPriority(priority int32) int32 { return The().SetPriority(priority) }

// Config asks the host.
func Config(key string, buffer []byte) int32 { return The().Config(key, buffer) }

// GroupJoin asks the host.
func GroupJoin(group string, pid *[16]byte) int32 { return The().GroupJoin(group, pid) }

// GroupLeave asks the host.
func GroupLeave(group string, pid *[16]byte) int32 { return The().GroupLeave(group, pid) }

// GroupMembers asks the host.
func GroupMembers(group string, pids [][16]byte) int32 { return The().GroupMembers(group, pids) }

// Publish asks the host.
func Publish(group string, tag uint32, payload []byte) int32 {
	return The().Publish(group, tag, payload)
}

// TableNew asks the host.
func TableNew(name string, access int32, table *uint64) int32 {
	return The().TableNew(name, access, table)
}

// TableFind asks the host.
func TableFind(name string, table *uint64) int32 { return The().TableFind(name, table) }

// TablePut asks the host.
func TablePut(table uint64, key, value []byte, flags int32) int32 {
	return The().TablePut(table, key, value, flags)
}

// TableGet asks the host.
func TableGet(table uint64, key, buffer []byte) int32 { return The().TableGet(table, key, buffer) }

// TableDelete asks the host.
func TableDelete(table uint64, key []byte) int32 { return The().TableDelete(table, key) }

// TableNext asks the host.
func TableNext(table uint64, key, buffer []byte) int32 { return The().TableNext(table, key, buffer) }

// TableAdd asks the host.
func TableAdd(table uint64, key []byte, amount int64, sum *int64) int32 {
	return The().TableAdd(table, key, amount, sum)
}

// TableInfo asks the host.
func TableInfo(table uint64, what int32) int64 { return The().TableInfo(table, what) }

// TableHeir asks the host.
func TableHeir(table uint64, pid *[16]byte, tag uint32) int32 {
	return The().TableHeir(table, pid, tag)
}

// TableGive asks the host.
func TableGive(table uint64, pid *[16]byte, tag uint32) int32 {
	return The().TableGive(table, pid, tag)
}

// TableEnd asks the host.
func TableEnd(table uint64) int32 { return The().TableEnd(table) }

// Entries are the exports of the module, for tests.
var Entries struct {
	Run   func() int32
	Save  func() int32
	Load  func(from, length int32) int32
	Reset func()
}
