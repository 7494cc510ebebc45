package exuvia

import (
	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

// Group is a group of processes by its name, of 1 to 255 bytes. It exists while it has members.
type Group string

// Join adds a process, [Self] or another one.
func (g Group) Join(pid Pid) error { return check(sys.GroupJoin(string(g), pid.raw())) }

// Leave removes a process; [ErrNoProc] if it is no member.
func (g Group) Leave(pid Pid) error { return check(sys.GroupLeave(string(g), pid.raw())) }

// Members returns the members, in no particular order.
func (g Group) Members() ([]Pid, error) {
	pids := make([][16]byte, 16)
	for {
		n := sys.GroupMembers(string(g), pids)
		if err := check(n); err != nil {
			return nil, err
		}
		if int(n) <= len(pids) {
			members := make([]Pid, n)
			for i := range members {
				members[i] = Pid(pids[i])
			}
			return members, nil
		}
		pids = make([][16]byte, n+n/4)
	}
}

// Publish sends a message to all members, and returns how many accepted it.
func (g Group) Publish(name string, parameters any) (int, error) {
	payload, err := encodeMessage(name, parameters)
	if err != nil {
		return 0, err
	}
	defer wipe(payload)
	return g.PublishBytes(TagTyped, payload)
}

// PublishBytes is [Group.Publish] with any bytes under a tag of your own.
func (g Group) PublishBytes(tag uint32, payload []byte) (int, error) {
	n := sys.Publish(string(g), tag, payload)
	return max(int(n), 0), check(n)
}

// Table is a table of rows outside of all memories. It belongs to the process that created it, and stays over swaps.
// The zero value is no table.
type Table uint64

// Access says who may use a table besides its owner.
type Access int32

// The accesses.
const (
	Protected Access = sys.AccessProtected // all processes may read
	Private   Access = sys.AccessPrivate   // nobody else
	Public    Access = sys.AccessPublic    // all processes may read and write
)

// NewTable creates a table. Its name may be empty.
func NewTable(name string, access Access) (Table, error) {
	err := check(sys.TableNew(name, int32(access), &reference))
	return Table(reference), err
}

// FindTable returns the table of that name, or [ErrNoProc].
func FindTable(name string) (Table, error) {
	err := check(sys.TableFind(name, &reference))
	return Table(reference), err
}

// Put stores a row, and returns whether there was one. A key has 1 to 1,024 bytes.
func (t Table) Put(key, value []byte) (replaced bool, err error) {
	n := sys.TablePut(uint64(t), key, value, 0)
	return n == 1, check(n)
}

// PutNew stores a row unless there is one, and returns whether there was one.
func (t Table) PutNew(key, value []byte) (exists bool, err error) {
	n := sys.TablePut(uint64(t), key, value, 1)
	return n == 1, check(n)
}

// Get returns the value of a row, or [ErrEmpty].
func (t Table) Get(key []byte) ([]byte, error) {
	return fetch(func(buffer []byte) int32 { return sys.TableGet(uint64(t), key, buffer) })
}

// Next returns the first key after this one, or [ErrEmpty]. No key is before the first one.
func (t Table) Next(key []byte) ([]byte, error) {
	return fetch(func(buffer []byte) int32 { return sys.TableNext(uint64(t), key, buffer) })
}

// Delete removes a row, and returns whether there was one.
func (t Table) Delete(key []byte) (bool, error) {
	n := sys.TableDelete(uint64(t), key)
	return n == 1, check(n)
}

// Add adds to a value of 8 bytes, a little-endian number, and returns the sum. A missing row counts as 0.
func (t Table) Add(key []byte, amount int64) (int64, error) {
	err := check(sys.TableAdd(uint64(t), key, amount, &sum))
	return sum, err
}

var sum int64

// Len returns the number of rows.
func (t Table) Len() (int, error) {
	n := sys.TableInfo(uint64(t), 0)
	return int(n), check(int32(min(n, 0)))
}

// Heir names the process that gets the table when this one ends, with this tag ([HandleTable]); [None] is nobody.
func (t Table) Heir(pid Pid, tag uint32) error {
	if pid == None {
		return check(sys.TableHeir(uint64(t), nil, tag))
	}
	return check(sys.TableHeir(uint64(t), pid.raw(), tag))
}

// Give gives the table to another process, with this tag.
func (t Table) Give(pid Pid, tag uint32) error {
	return check(sys.TableGive(uint64(t), pid.raw(), tag))
}

// End ends the table.
func (t Table) End() error { return check(sys.TableEnd(uint64(t))) }

// Config reads a value of the app's configuration: the names on the path to it, joined by dots. "" is the whole
// configuration. [ErrEmpty] if there is no such value.
func Config(key string, into any) error {
	value, err := fetch(func(buffer []byte) int32 { return sys.Config(key, buffer) })
	if err != nil {
		return err
	}
	return msgpack.Unmarshal(value, into)
}

// fetch returns what a host call writes that returns the length in any case.
func fetch(call func([]byte) int32) ([]byte, error) {
	buffer := make([]byte, 256)
	for {
		n := call(buffer)
		if err := check(n); err != nil {
			return nil, err
		}
		if int(n) <= len(buffer) {
			return buffer[:n], nil
		}
		buffer = make([]byte, n)
	}
}
