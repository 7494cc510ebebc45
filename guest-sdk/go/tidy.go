package exuvia

import (
	"runtime"
	"unsafe"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
)

// What an idle process costs is what in its memory differs from the base and is not zero. So garbage is collected before
// the process rests if there is enough of it, and what the collection has freed is cleared, since Go does not.

const (
	// garbageMost is how many bytes of garbage lead to a collection at any time, and garbageIdle if the last one
	// was collectEvery ago or more. A collection costs some 0.2 ms.
	garbageMost  = 64 << 10
	garbageIdle  = 16 << 10
	collectEvery = 50_000_000 // ns

	// lookEvery is how many reductions there are between two looks at the heap, which cost some 5 us.
	lookEvery = 2_000

	// blockLeast and blockMost are the sizes of the blocks in which free memory is cleared, and blocksMost how many
	// there are; if they are not enough, the blocks are larger.
	blockLeast = 16 << 10
	blockMost  = 1 << 20
	blocksMost = 64

	// stackUsed is how much of the stack is used during a collection, a quarter of it at least, and stackCleared how
	// much is cleared. With both, the stack has 16 KiB, which is grown to before there are processes.
	stackUsed    = 5 << 10
	stackCleared = 10 << 10

	// margin is memory that is left when there is not enough for a message: Go ends the process when it gets none.
	margin = 1 << 20
)

var tidyUp struct {
	// large says that there was a large message or state.
	large bool
	// looked and collected are the reductions and the clock at that time, live the heap after the last collection.
	looked    int64
	collected int64
	live      uint64
	stats     runtime.MemStats
}

// tidy is called before the process rests.
func tidy() {
	t := &tidyUp
	reductions := sys.Info(sys.InfoReductions)
	if !t.large && reductions-t.looked < lookEvery {
		clearStack()
		return
	}
	t.looked = reductions
	runtime.ReadMemStats(&t.stats)
	garbage := t.stats.HeapAlloc - min(t.live, t.stats.HeapAlloc)
	if garbage > max(garbageIdle, t.live/4) {
		now := sys.Clock(sys.ClockMonotonic)
		if garbage > max(garbageMost, t.live/4) || now-t.collected >= collectEvery {
			t.collected = now
			collect()
		}
	}
	t.large = false
	t.stats = runtime.MemStats{}
	clearStack()
}

// collect collects the garbage and clears it.
func collect() {
	t := &tidyUp
	before := t.stats.HeapIdle
	collectDeep()
	runtime.ReadMemStats(&t.stats)
	if t.stats.HeapIdle > before+blockLeast && clearFree() {
		// The blocks are garbage now. They are zero, but the memory is to be used again.
		collectDeep()
		runtime.ReadMemStats(&t.stats)
	}
	t.live = t.stats.HeapAlloc
}

// collectDeep collects the garbage from a frame that is so large that the runtime does not halve the stack meanwhile:
// to copy it to and fro would leave more behind than it saves.
//
//go:noinline
func collectDeep() {
	var deep [stackUsed]byte
	keep(unsafe.Pointer(&deep))
	runtime.GC()
	keep(unsafe.Pointer(&deep))
}

// clearFree clears free memory by allocating it: what is allocated is zero. The largest blocks first; what is left is
// taken by smaller ones, down to what is not worth it. They are kept until the end, so that no collection takes them away
// before. It reports whether there were any.
//
//go:noinline
func clearFree() bool {
	t := &tidyUp
	var blocks [blocksMost][]byte
	taken := 0
	for size := max(blockMost, t.stats.HeapIdle/(blocksMost/2)); size >= blockLeast && taken < len(blocks); {
		idle, held := t.stats.HeapIdle, t.stats.HeapSys
		if idle < blockLeast {
			break
		}
		if size > idle {
			size /= 2
			continue
		}
		blocks[taken] = make([]byte, size)
		taken++
		runtime.ReadMemStats(&t.stats)
		if t.stats.HeapSys > held {
			// There was no free block of this size: the heap has grown for it.
			size /= 2
		}
	}
	return taken > 0
}

// room returns a buffer for a message that does not fit the inbox, or nil if there is no memory for it.
func room(length int) []byte {
	if budget(length) >= length {
		return make([]byte, length)
	}
	return nil
}

// budget returns how many bytes may be allocated for a payload of this length.
func budget(length int) int {
	if length <= small {
		return 256 << 10
	}
	most := sys.Info(sys.InfoMemoryBytes)
	if most <= 0 {
		return 1 << 30
	}
	return int(max(most-int64(sys.MemorySize())<<16-margin, 0))
}

// deadRuntimeStack is the part of the runtime's own stack below what it uses while a goroutine runs; empty if it was
// not found.
var deadRuntimeStack []byte

// clearStack clears what was left below on the stack of the goroutine that runs.
//
//go:noinline
func clearStack() {
	var dead [stackCleared]byte
	keep(unsafe.Pointer(&dead))
	clear(deadRuntimeStack)
}

//go:noinline
func keep(unsafe.Pointer) {}
