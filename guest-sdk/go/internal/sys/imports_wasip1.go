package sys

import "unsafe"

//go:wasmimport exuvia receive
//go:noescape
func receive(header, buffer unsafe.Pointer, capacity uint32, timeout int64, mode int32, key int64) int32

//go:wasmimport exuvia send
//go:noescape
func send(to unsafe.Pointer, tag uint32, data unsafe.Pointer, length uint32) int32

//go:wasmimport exuvia request
//go:noescape
func request(to unsafe.Pointer, tag uint32, data unsafe.Pointer, length uint32, referenceOut unsafe.Pointer) int32

//go:wasmimport exuvia call
//go:noescape
func call(to unsafe.Pointer, tag uint32, data unsafe.Pointer, length uint32, header, buffer unsafe.Pointer, capacity uint32, timeout int64) int32

//go:wasmimport exuvia reply
//go:noescape
func reply(to unsafe.Pointer, reference int64, tag uint32, data unsafe.Pointer, length uint32) int32

//go:wasmimport exuvia spawn
//go:noescape
func spawn(module unsafe.Pointer, moduleLength uint32, arguments unsafe.Pointer, argumentsLength uint32, options, pidOut, referenceOut unsafe.Pointer) int32

//go:wasmimport exuvia init_ack
//go:noescape
func initAck(status int32, data unsafe.Pointer, length uint32) int32

//go:wasmimport exuvia exit
//go:noescape
func exit(code int32, data unsafe.Pointer, length uint32)

//go:wasmimport exuvia exit_process
//go:noescape
func exitProcess(pid unsafe.Pointer, code int32, data unsafe.Pointer, length uint32) int32

//go:wasmimport exuvia kill
//go:noescape
func kill(pid unsafe.Pointer) int32

//go:wasmimport exuvia link
//go:noescape
func link(pid unsafe.Pointer) int32

//go:wasmimport exuvia unlink
//go:noescape
func unlink(pid unsafe.Pointer) int32

//go:wasmimport exuvia monitor
//go:noescape
func monitor(pid, referenceOut unsafe.Pointer) int32

//go:wasmimport exuvia demonitor
func demonitor(reference int64, flags int32) int32

//go:wasmimport exuvia trap_exit
func trapExit(on int32) int32

//go:wasmimport exuvia register
//go:noescape
func register(name unsafe.Pointer, length uint32, pid unsafe.Pointer) int32

//go:wasmimport exuvia unregister
//go:noescape
func unregister(name unsafe.Pointer, length uint32) int32

//go:wasmimport exuvia whereis
//go:noescape
func whereis(name unsafe.Pointer, length uint32, pidOut unsafe.Pointer) int32

//go:wasmimport exuvia self
//go:noescape
func self(pidOut unsafe.Pointer) int32

//go:wasmimport exuvia send_after
//go:noescape
func sendAfter(to unsafe.Pointer, tag uint32, data unsafe.Pointer, length uint32, delay int64, referenceOut unsafe.Pointer) int32

//go:wasmimport exuvia cancel_timer
func cancelTimer(reference int64) int64

//go:wasmimport exuvia sleep
func sleep(time int64) int32

//go:wasmimport exuvia log
//go:noescape
func hostLog(level int32, text unsafe.Pointer, length uint32) int32

//go:wasmimport exuvia random
//go:noescape
func random(buffer unsafe.Pointer, length uint32) int32

//go:wasmimport exuvia clock
func clock(which int32) int64

//go:wasmimport exuvia info
func info(what int32) int64

//go:wasmimport exuvia state_put
//go:noescape
func statePut(data unsafe.Pointer, length uint32) int32

//go:wasmimport exuvia state_get
//go:noescape
func stateGet(buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport exuvia supervisor_start
//go:noescape
func supervisorStart(specification unsafe.Pointer, length uint32, pidOut unsafe.Pointer) int32

//go:wasmimport exuvia monitor_name
//go:noescape
func monitorName(name unsafe.Pointer, length uint32, pidOut, referenceOut unsafe.Pointer) int32

//go:wasmimport exuvia set_priority
func setPriority(priority int32) int32

//go:wasmimport exuvia config
//go:noescape
func config(key unsafe.Pointer, length uint32, buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport exuvia group_join
//go:noescape
func groupJoin(group unsafe.Pointer, length uint32, pid unsafe.Pointer) int32

//go:wasmimport exuvia group_leave
//go:noescape
func groupLeave(group unsafe.Pointer, length uint32, pid unsafe.Pointer) int32

//go:wasmimport exuvia group_members
//go:noescape
func groupMembers(group unsafe.Pointer, length uint32, pidsOut unsafe.Pointer, howManyFit uint32) int32

//go:wasmimport exuvia publish
//go:noescape
func publish(group unsafe.Pointer, groupLength uint32, tag uint32, data unsafe.Pointer, length uint32) int32

//go:wasmimport exuvia table_new
//go:noescape
func tableNew(name unsafe.Pointer, length uint32, access int32, tableOut unsafe.Pointer) int32

//go:wasmimport exuvia table_find
//go:noescape
func tableFind(name unsafe.Pointer, length uint32, tableOut unsafe.Pointer) int32

//go:wasmimport exuvia table_put
//go:noescape
func tablePut(table int64, key unsafe.Pointer, keyLength uint32, value unsafe.Pointer, valueLength uint32, flags int32) int32

//go:wasmimport exuvia table_get
//go:noescape
func tableGet(table int64, key unsafe.Pointer, keyLength uint32, buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport exuvia table_delete
//go:noescape
func tableDelete(table int64, key unsafe.Pointer, keyLength uint32) int32

//go:wasmimport exuvia table_next
//go:noescape
func tableNext(table int64, key unsafe.Pointer, keyLength uint32, buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport exuvia table_add
//go:noescape
func tableAdd(table int64, key unsafe.Pointer, keyLength uint32, amount int64, sumOut unsafe.Pointer) int32

//go:wasmimport exuvia table_info
func tableInfo(table int64, what int32) int64

//go:wasmimport exuvia table_heir
//go:noescape
func tableHeir(table int64, pid unsafe.Pointer, tag uint32) int32

//go:wasmimport exuvia table_give
//go:noescape
func tableGive(table int64, pid unsafe.Pointer, tag uint32) int32

//go:wasmimport exuvia table_end
func tableEnd(table int64) int32

//go:wasmimport wasi_snapshot_preview1 args_sizes_get
//go:noescape
func argsSizesGet(count, bytes unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 args_get
//go:noescape
func argsGet(pointers, bytes unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 environ_sizes_get
//go:noescape
func environSizesGet(count, bytes unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 environ_get
//go:noescape
func environGet(pointers, bytes unsafe.Pointer) uint32

// MemorySize returns the pages of 64 KiB that the memory has.
func MemorySize() int32

// Trap ends the process with an unreachable instruction.
func Trap()

func data(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}

func text(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

// Receive is `receive`; the header's size is set.
func Receive(h *Header, buffer []byte, timeout int64, mode int32, key int64) int32 {
	h.Size = HeaderSize
	p, n := data(buffer)
	return receive(unsafe.Pointer(h), p, n, timeout, mode, key)
}

// Address is the key of the mode SENDER. The pid must be a variable that does not move.
func Address(pid *[16]byte) int64 { return int64(uintptr(unsafe.Pointer(pid))) }

// Among is the key of the mode REFERENCES. They must be in a variable that does not move.
func Among(references []uint64) int64 {
	return int64(len(references))<<32 | int64(uintptr(unsafe.Pointer(unsafe.SliceData(references))))
}

// Send is `send`.
func Send(to *[16]byte, tag uint32, payload []byte) int32 {
	p, n := data(payload)
	return send(unsafe.Pointer(to), tag, p, n)
}

// Request is `request`.
func Request(to *[16]byte, tag uint32, payload []byte, reference *uint64) int32 {
	p, n := data(payload)
	return request(unsafe.Pointer(to), tag, p, n, unsafe.Pointer(reference))
}

// Call is `call`; the header's size is set.
func Call(to *[16]byte, tag uint32, payload []byte, h *Header, buffer []byte, timeout int64) int32 {
	h.Size = HeaderSize
	p, n := data(payload)
	b, room := data(buffer)
	return call(unsafe.Pointer(to), tag, p, n, unsafe.Pointer(h), b, room, timeout)
}

// Reply is `reply`.
func Reply(to *[16]byte, reference uint64, tag uint32, payload []byte) int32 {
	p, n := data(payload)
	return reply(unsafe.Pointer(to), int64(reference), tag, p, n)
}

// Spawn is `spawn`. The grants are put into the options.
func Spawn(module string, arguments, grants []byte, options *Options, pid *[16]byte, reference *uint64) int32 {
	m, mn := text(module)
	a, an := data(arguments)
	options.Size = uint32(unsafe.Sizeof(*options))
	g, gn := data(grants)
	options.Grants, options.GrantsLength = uint32(uintptr(g)), gn
	return spawn(m, mn, a, an, unsafe.Pointer(options), unsafe.Pointer(pid), unsafe.Pointer(reference))
}

// InitAck is `init_ack`.
func InitAck(status int32, why string) int32 {
	p, n := text(why)
	return initAck(status, p, n)
}

// Exit is `exit`; it does not return.
func Exit(code int32, why string) {
	p, n := text(why)
	exit(code, p, n)
	Trap()
}

// ExitProcess is `exit_process`.
func ExitProcess(pid *[16]byte, code int32, why string) int32 {
	p, n := text(why)
	return exitProcess(unsafe.Pointer(pid), code, p, n)
}

// Kill is `kill`.
func Kill(pid *[16]byte) int32 { return kill(unsafe.Pointer(pid)) }

// Link is `link`.
func Link(pid *[16]byte) int32 { return link(unsafe.Pointer(pid)) }

// Unlink is `unlink`.
func Unlink(pid *[16]byte) int32 { return unlink(unsafe.Pointer(pid)) }

// Monitor is `monitor`.
func Monitor(pid *[16]byte, reference *uint64) int32 {
	return monitor(unsafe.Pointer(pid), unsafe.Pointer(reference))
}

// Demonitor is `demonitor`.
func Demonitor(reference uint64, flags int32) int32 { return demonitor(int64(reference), flags) }

// TrapExit is `trap_exit`.
func TrapExit(on int32) int32 { return trapExit(on) }

// Register is `register`.
func Register(name string, pid *[16]byte) int32 {
	p, n := text(name)
	return register(p, n, unsafe.Pointer(pid))
}

// Unregister is `unregister`.
func Unregister(name string) int32 {
	p, n := text(name)
	return unregister(p, n)
}

// Whereis is `whereis`.
func Whereis(name string, pid *[16]byte) int32 {
	p, n := text(name)
	return whereis(p, n, unsafe.Pointer(pid))
}

// Self is `self`.
func Self(pid *[16]byte) int32 { return self(unsafe.Pointer(pid)) }

// SendAfter is `send_after`.
func SendAfter(to *[16]byte, tag uint32, payload []byte, delay int64, reference *uint64) int32 {
	p, n := data(payload)
	return sendAfter(unsafe.Pointer(to), tag, p, n, delay, unsafe.Pointer(reference))
}

// CancelTimer is `cancel_timer`.
func CancelTimer(reference uint64) int64 { return cancelTimer(int64(reference)) }

// Sleep is `sleep`.
func Sleep(milliseconds int64) int32 { return sleep(milliseconds) }

// Log is `log`.
func Log(level int32, line string) int32 {
	p, n := text(line)
	return hostLog(level, p, n)
}

// Random is `random`.
func Random(buffer []byte) int32 {
	p, n := data(buffer)
	return random(p, n)
}

// Clock is `clock`.
func Clock(which int32) int64 { return clock(which) }

// Info is `info`.
func Info(what int32) int64 { return info(what) }

// StatePut is `state_put`.
func StatePut(state []byte) int32 {
	p, n := data(state)
	return statePut(p, n)
}

// StateGet is `state_get`.
func StateGet(buffer []byte) int32 {
	p, n := data(buffer)
	return stateGet(p, n)
}

// SupervisorStart is `supervisor_start`.
func SupervisorStart(specification []byte, pid *[16]byte) int32 {
	p, n := data(specification)
	return supervisorStart(p, n, unsafe.Pointer(pid))
}

// MonitorName is `monitor_name`.
func MonitorName(name string, pid *[16]byte, reference *uint64) int32 {
	p, n := text(name)
	return monitorName(p, n, unsafe.Pointer(pid), unsafe.Pointer(reference))
}

// SetPriority is `set_priority`.
func SetPriority(priority int32) int32 { return setPriority(priority) }

// Config is `config`.
func Config(key string, buffer []byte) int32 {
	p, n := text(key)
	b, room := data(buffer)
	return config(p, n, b, room)
}

// GroupJoin is `group_join`.
func GroupJoin(group string, pid *[16]byte) int32 {
	p, n := text(group)
	return groupJoin(p, n, unsafe.Pointer(pid))
}

// GroupLeave is `group_leave`.
func GroupLeave(group string, pid *[16]byte) int32 {
	p, n := text(group)
	return groupLeave(p, n, unsafe.Pointer(pid))
}

// GroupMembers is `group_members`.
func GroupMembers(group string, pids [][16]byte) int32 {
	p, n := text(group)
	return groupMembers(p, n, unsafe.Pointer(unsafe.SliceData(pids)), uint32(len(pids)))
}

// Publish is `publish`.
func Publish(group string, tag uint32, payload []byte) int32 {
	g, gn := text(group)
	p, n := data(payload)
	return publish(g, gn, tag, p, n)
}

// TableNew is `table_new`.
func TableNew(name string, access int32, table *uint64) int32 {
	p, n := text(name)
	return tableNew(p, n, access, unsafe.Pointer(table))
}

// TableFind is `table_find`.
func TableFind(name string, table *uint64) int32 {
	p, n := text(name)
	return tableFind(p, n, unsafe.Pointer(table))
}

// TablePut is `table_put`.
func TablePut(table uint64, key, value []byte, flags int32) int32 {
	k, kn := data(key)
	v, vn := data(value)
	return tablePut(int64(table), k, kn, v, vn, flags)
}

// TableGet is `table_get`.
func TableGet(table uint64, key, buffer []byte) int32 {
	k, kn := data(key)
	b, room := data(buffer)
	return tableGet(int64(table), k, kn, b, room)
}

// TableDelete is `table_delete`.
func TableDelete(table uint64, key []byte) int32 {
	k, kn := data(key)
	return tableDelete(int64(table), k, kn)
}

// TableNext is `table_next`.
func TableNext(table uint64, key, buffer []byte) int32 {
	k, kn := data(key)
	b, room := data(buffer)
	return tableNext(int64(table), k, kn, b, room)
}

// TableAdd is `table_add`.
func TableAdd(table uint64, key []byte, amount int64, sum *int64) int32 {
	k, kn := data(key)
	return tableAdd(int64(table), k, kn, amount, unsafe.Pointer(sum))
}

// TableInfo is `table_info`.
func TableInfo(table uint64, what int32) int64 { return tableInfo(int64(table), what) }

// TableHeir is `table_heir`; a nil pid is no heir.
func TableHeir(table uint64, pid *[16]byte, tag uint32) int32 {
	return tableHeir(int64(table), unsafe.Pointer(pid), tag)
}

// TableGive is `table_give`.
func TableGive(table uint64, pid *[16]byte, tag uint32) int32 {
	return tableGive(int64(table), unsafe.Pointer(pid), tag)
}

// TableEnd is `table_end`.
func TableEnd(table uint64) int32 { return tableEnd(int64(table)) }

// Arguments returns what WASI grants this process as arguments, with the name of the module in front.
func Arguments() []string { return list(argsSizesGet, argsGet) }

// Environment returns what WASI grants this process as environment: NAME=value.
func Environment() []string { return list(environSizesGet, environGet) }

func list(sizes, get func(a, b unsafe.Pointer) uint32) []string {
	var count, bytes uint32
	if sizes(unsafe.Pointer(&count), unsafe.Pointer(&bytes)) != 0 || count == 0 {
		return nil
	}
	pointers, texts := make([]uint32, count), make([]byte, bytes)
	first := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(texts))))
	if get(unsafe.Pointer(&pointers[0]), unsafe.Pointer(unsafe.SliceData(texts))) != 0 {
		return nil
	}
	found := make([]string, count)
	for i, at := range pointers {
		text := texts[at-first:]
		for end, b := range text {
			if b == 0 {
				text = text[:end]
				break
			}
		}
		found[i] = string(text)
	}
	return found
}
