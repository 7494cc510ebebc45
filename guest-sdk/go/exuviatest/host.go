//go:build !wasip1

package exuviatest

import (
	"crypto/rand"
	"slices"
	"time"

	exuvia "github.com/exuvia/exuvia/guest-sdk/go"
	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
)

// messageBytes is the most bytes of one message.
const messageBytes = 1 << 20

// host is a host of one process.
type host struct {
	self    exuvia.Pid
	mailbox []exuvia.Message
	sent    []Letter
	replies []Letter
	timers  []timer
	now     time.Duration
	names   map[string]exuvia.Pid
	groups  map[string][]exuvia.Pid
	next    uint64
	memory  int64
	state   []byte
	onCall  func(Letter) (any, error)
	trap    int32

	log           []string
	lastError     string
	ack           int32
	ackText       string
	exited        bool
	exitReason    exuvia.Reason
	exitText      string
	reductions    int64
	tables        map[uint64]map[string][]byte
	tableNames    map[string]uint64
	configuration map[string][]byte
}

type timer struct {
	at      time.Duration
	message exuvia.Message
	to      exuvia.Pid
}

// due moves the first timer that is due into the mailbox.
func (h *host) due() bool {
	first := -1
	for i, t := range h.timers {
		if t.at <= h.now && (first < 0 || t.at < h.timers[first].at) {
			first = i
		}
	}
	if first < 0 {
		return false
	}
	t := h.timers[first]
	h.timers = slices.Delete(h.timers, first, first+1)
	if t.to == h.self {
		h.mailbox = append(h.mailbox, t.message)
	} else {
		h.sent = append(h.sent, Letter{To: t.to, Tag: t.message.Tag, Payload: t.message.Payload})
	}
	return true
}

func (h *host) write(header *sys.Header, m exuvia.Message) {
	*header = sys.Header{Size: sys.HeaderSize, Kind: uint32(m.Kind), Sender: m.Sender, Reference: m.Reference,
		Tag: m.Tag, Length: uint32(len(m.Payload)), Reason: int32(m.Reason)}
}

func (h *host) Receive(header *sys.Header, buffer []byte, timeout int64, mode int32, key int64) int32 {
	for {
		at := slices.IndexFunc(h.mailbox, func(m exuvia.Message) bool {
			byReference := m.Kind == exuvia.KindReply || m.Kind == exuvia.KindDown || m.Kind == exuvia.KindTimer
			switch mode & 0xff {
			case sys.ReceiveTag:
				return m.Tag == uint32(key) && m.Kind != exuvia.KindExit && m.Kind != exuvia.KindDown
			case sys.ReceiveReference:
				return byReference && m.Reference == uint64(key)
			case sys.ReceiveReferences:
				return byReference && slices.Contains(sys.References, m.Reference)
			case sys.ReceiveSender:
				return m.Sender == sys.Sender
			}
			return true
		})
		if at >= 0 {
			m := h.mailbox[at]
			h.write(header, m)
			if len(m.Payload) > len(buffer) && mode&sys.ReceiveTruncate == 0 {
				return sys.CodeTooBig
			}
			copy(buffer, m.Payload)
			h.mailbox = slices.Delete(h.mailbox, at, at+1)
			return 0
		}
		if timeout == 0 {
			return sys.CodeEmpty
		}
		// Time passes until a timer is due, or until nothing more can happen.
		end := h.now + time.Duration(timeout)*time.Millisecond
		next := time.Duration(-1)
		for _, t := range h.timers {
			if next < 0 || t.at < next {
				next = t.at
			}
		}
		if next < 0 || timeout > 0 && next > end {
			if timeout < 0 {
				panic("exuviatest: the process waits for ever")
			}
			h.now = end
			return sys.CodeTimeout
		}
		h.now = max(h.now, next)
		if timeout > 0 {
			timeout = int64((end - h.now) / time.Millisecond)
		}
		h.due()
	}
}

func (h *host) Send(to *[16]byte, tag uint32, payload []byte) int32 {
	if len(payload) > messageBytes {
		return sys.CodeMessageTooLarge
	}
	payload = slices.Clone(payload)
	if *to == h.self {
		h.mailbox = append(h.mailbox, exuvia.Message{Kind: exuvia.KindMessage, Sender: h.self, Tag: tag, Payload: payload})
	} else {
		h.sent = append(h.sent, Letter{To: *to, Tag: tag, Payload: payload})
	}
	return 0
}

func (h *host) Request(to *[16]byte, tag uint32, payload []byte, reference *uint64) int32 {
	if len(payload) > messageBytes {
		return sys.CodeMessageTooLarge
	}
	h.next++
	*reference = h.next
	h.sent = append(h.sent, Letter{To: *to, Tag: tag, Reference: h.next, Payload: slices.Clone(payload)})
	return 0
}

func (h *host) Call(to *[16]byte, tag uint32, payload []byte, header *sys.Header, buffer []byte, timeout int64) int32 {
	if len(payload) > messageBytes {
		return sys.CodeMessageTooLarge
	}
	if h.onCall == nil {
		h.now += time.Duration(max(timeout, 0)) * time.Millisecond
		return sys.CodeTimeout
	}
	h.next++
	reply := exuvia.Message{Kind: exuvia.KindReply, Sender: *to, Reference: h.next}
	value, err := h.onCall(Letter{To: *to, Tag: tag, Payload: slices.Clone(payload)})
	switch err {
	case nil:
		if reply.Payload, err = exuvia.Encode(value); err != nil {
			panic(err)
		}
	case exuvia.ErrTimeout:
		return sys.CodeTimeout
	case exuvia.ErrNoProc:
		h.write(header, exuvia.Message{Kind: exuvia.KindDown, Sender: *to, Reason: exuvia.NoProc})
		return sys.CodeNoproc
	default:
		reply.Tag, reply.Payload = exuvia.TagRefused, []byte(err.Error())
	}
	h.write(header, reply)
	if len(reply.Payload) > len(buffer) {
		h.mailbox = append(h.mailbox, reply)
		return sys.CodeTooBig
	}
	copy(buffer, reply.Payload)
	return 0
}

func (h *host) Reply(to *[16]byte, reference uint64, tag uint32, payload []byte) int32 {
	if len(payload) > messageBytes {
		return sys.CodeMessageTooLarge
	}
	h.replies = append(h.replies, Letter{To: *to, Tag: tag, Reference: reference, Payload: slices.Clone(payload)})
	return 0
}

func (h *host) Spawn(module string, arguments, grants []byte, options *sys.Options, pid *[16]byte, reference *uint64) int32 {
	h.next++
	*pid = [16]byte{14: byte(h.next >> 8), 15: byte(h.next)}
	if options.Flags&sys.SpawnMonitor != 0 {
		h.next++
		*reference = h.next
	}
	return 0
}

func (h *host) InitAck(status int32, why string) int32 {
	h.ack, h.ackText = status, why
	return 0
}

func (h *host) Exit(code int32, why string) {
	h.exited, h.exitReason, h.exitText = true, exuvia.Reason(code), why
}

func (h *host) ExitProcess(*[16]byte, int32, string) int32 { return 0 }
func (h *host) Kill(*[16]byte) int32                       { return 0 }
func (h *host) Link(*[16]byte) int32                       { return 0 }
func (h *host) Unlink(*[16]byte) int32                     { return 0 }

func (h *host) Monitor(_ *[16]byte, reference *uint64) int32 {
	h.next++
	*reference = h.next
	return 0
}

func (h *host) Demonitor(reference uint64, _ int32) int32 {
	h.mailbox = slices.DeleteFunc(h.mailbox, func(m exuvia.Message) bool { return m.Reference == reference })
	return 0
}

func (h *host) TrapExit(on int32) int32 {
	before := h.trap
	h.trap = on
	return before
}

func (h *host) Register(name string, pid *[16]byte) int32 {
	if other, ok := h.names[name]; ok && other != *pid {
		return sys.CodeNameTaken
	}
	h.names[name] = *pid
	return 0
}

func (h *host) Unregister(name string) int32 {
	if _, ok := h.names[name]; !ok {
		return sys.CodeNoproc
	}
	delete(h.names, name)
	return 0
}

func (h *host) Whereis(name string, pid *[16]byte) int32 {
	found, ok := h.names[name]
	if !ok {
		return sys.CodeNoproc
	}
	*pid = found
	return 0
}

func (h *host) Self(pid *[16]byte) int32 {
	*pid = h.self
	return 0
}

func (h *host) SendAfter(to *[16]byte, tag uint32, payload []byte, delay int64, reference *uint64) int32 {
	if delay < 0 {
		return sys.CodeBadArgument
	}
	if len(payload) > messageBytes {
		return sys.CodeMessageTooLarge
	}
	h.next++
	*reference = h.next
	h.timers = append(h.timers, timer{h.now + time.Duration(delay)*time.Millisecond, exuvia.Message{
		Kind: exuvia.KindTimer, Sender: h.self, Reference: h.next, Tag: tag, Payload: slices.Clone(payload)}, *to})
	return 0
}

func (h *host) CancelTimer(reference uint64) int64 {
	for i, t := range h.timers {
		if t.message.Reference == reference {
			h.timers = slices.Delete(h.timers, i, i+1)
			return int64((t.at - h.now) / time.Millisecond)
		}
	}
	return -1
}

func (h *host) Sleep(milliseconds int64) int32 {
	h.now += time.Duration(milliseconds) * time.Millisecond
	return 0
}

func (h *host) Log(level int32, line string) int32 {
	h.log = append(h.log, line)
	if level == sys.LogError {
		h.lastError = line
	}
	return 0
}

func (h *host) Random(buffer []byte) int32 {
	rand.Read(buffer)
	return 0
}

func (h *host) Clock(int32) int64 { return int64(h.now) }

func (h *host) Info(what int32) int64 {
	switch what {
	case sys.InfoReductions:
		h.reductions += 100
		return h.reductions
	case sys.InfoMailbox:
		return int64(len(h.mailbox))
	case sys.InfoABIMinor:
		return sys.Minor
	case sys.InfoMemoryBytes:
		return h.memory
	case sys.InfoMessageBytes:
		return messageBytes
	}
	return 1 << 20
}

func (h *host) StatePut(state []byte) int32 {
	h.state = slices.Clone(state)
	return 0
}

func (h *host) StateGet(buffer []byte) int32 {
	if len(buffer) < len(h.state) {
		return sys.CodeTooBig
	}
	copy(buffer, h.state)
	return int32(len(h.state))
}

func (h *host) SupervisorStart([]byte, *[16]byte) int32 { return sys.CodeDenied }

func (h *host) MonitorName(name string, pid *[16]byte, reference *uint64) int32 {
	*pid = h.names[name]
	return h.Monitor(pid, reference)
}

func (h *host) SetPriority(int32) int32 { return sys.PriorityNormal }

func (h *host) Config(key string, buffer []byte) int32 {
	value, ok := h.configuration[key]
	if !ok {
		return sys.CodeEmpty
	}
	return fit(buffer, value)
}

// fit writes the bytes if they fit, and returns their number.
func fit(buffer, value []byte) int32 {
	if len(value) <= len(buffer) {
		copy(buffer, value)
	}
	return int32(len(value))
}

func (h *host) GroupJoin(group string, pid *[16]byte) int32 {
	if !slices.Contains(h.groups[group], exuvia.Pid(*pid)) {
		h.groups[group] = append(h.groups[group], *pid)
	}
	return 0
}

func (h *host) GroupLeave(group string, pid *[16]byte) int32 {
	at := slices.Index(h.groups[group], exuvia.Pid(*pid))
	if at < 0 {
		return sys.CodeNoproc
	}
	h.groups[group] = slices.Delete(h.groups[group], at, at+1)
	return 0
}

func (h *host) GroupMembers(group string, pids [][16]byte) int32 {
	members := h.groups[group]
	for i := range min(len(members), len(pids)) {
		pids[i] = members[i]
	}
	return int32(len(members))
}

func (h *host) Publish(group string, tag uint32, payload []byte) int32 {
	for _, member := range h.groups[group] {
		h.Send((*[16]byte)(&member), tag, payload)
	}
	return int32(len(h.groups[group]))
}

func (h *host) TableNew(name string, _ int32, table *uint64) int32 {
	if h.tables == nil {
		h.tables, h.tableNames = map[uint64]map[string][]byte{}, map[string]uint64{}
	}
	if _, taken := h.tableNames[name]; taken && name != "" {
		return sys.CodeNameTaken
	}
	h.next++
	*table = h.next
	h.tables[h.next], h.tableNames[name] = map[string][]byte{}, h.next
	return 0
}

func (h *host) TableFind(name string, table *uint64) int32 {
	found, ok := h.tableNames[name]
	if !ok {
		return sys.CodeNoproc
	}
	*table = found
	return 0
}

func (h *host) TablePut(table uint64, key, value []byte, flags int32) int32 {
	rows, ok := h.tables[table]
	if !ok {
		return sys.CodeNoproc
	}
	_, exists := rows[string(key)]
	if !exists || flags == 0 {
		rows[string(key)] = slices.Clone(value)
	}
	if exists {
		return 1
	}
	return 0
}

func (h *host) TableGet(table uint64, key, buffer []byte) int32 {
	value, ok := h.tables[table][string(key)]
	if !ok {
		return sys.CodeEmpty
	}
	return fit(buffer, value)
}

func (h *host) TableDelete(table uint64, key []byte) int32 {
	if _, ok := h.tables[table][string(key)]; !ok {
		return 0
	}
	delete(h.tables[table], string(key))
	return 1
}

func (h *host) TableNext(table uint64, key, buffer []byte) int32 {
	next, found := "", false
	for other := range h.tables[table] {
		if other > string(key) && (!found || other < next) {
			next, found = other, true
		}
	}
	if !found {
		return sys.CodeEmpty
	}
	return fit(buffer, []byte(next))
}

func (h *host) TableAdd(table uint64, key []byte, amount int64, sum *int64) int32 {
	rows, ok := h.tables[table]
	if !ok {
		return sys.CodeNoproc
	}
	value := rows[string(key)]
	if value == nil {
		value = make([]byte, 8)
	}
	if len(value) != 8 {
		return sys.CodeBadArgument
	}
	for i := 7; i >= 0; i-- {
		*sum = *sum<<8 | int64(value[i])
	}
	*sum += amount
	value = make([]byte, 8)
	for i := range value {
		value[i] = byte(*sum >> (8 * i))
	}
	rows[string(key)] = value
	return 0
}

func (h *host) TableInfo(table uint64, what int32) int64 {
	return int64(len(h.tables[table]))
}

func (h *host) TableHeir(uint64, *[16]byte, uint32) int32 { return 0 }
func (h *host) TableGive(uint64, *[16]byte, uint32) int32 { return 0 }

func (h *host) TableEnd(table uint64) int32 {
	delete(h.tables, table)
	return 0
}
