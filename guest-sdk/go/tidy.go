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
	// spare is a large buffer that nobody uses and that is zero.
	spare []byte
	stats runtime.MemStats
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
	clearStack()
	t.spare = nil
	runtime.GC()
	// Memory that is allocated again is zero. The largest block first; what is left of a block is taken by
	// smaller ones, down to what is not worth it.
	for size := uint64(4 << 20); size >= 16<<10; {
		runtime.ReadMemStats(&t.stats)
		idle, held := t.stats.HeapIdle, t.stats.HeapSys
		if idle < 16<<10 {
			break
		}
		if size > idle {
			size /= 2
			continue
		}
		block := make([]byte, size)
		if t.spare == nil {
			t.spare = block
		}
		runtime.ReadMemStats(&t.stats)
		if t.stats.HeapSys > held {
			// There was no free block of this size: the heap has grown for it.
			size /= 2
		}
	}
	runtime.ReadMemStats(&t.stats)
	t.live = t.stats.HeapAlloc
}

// room returns a buffer for a message that does not fit the inbox, or nil if there is no memory for it.
func room(length int) []byte {
	t := &tidyUp
	if spare := t.spare; cap(spare) >= length {
		t.spare = nil
		return spare[:length]
	}
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

// clearStack clears what was left below on the stack of the goroutine that runs.
//
//go:noinline
func clearStack() {
	var dead [6 << 10]byte
	keep(unsafe.Pointer(&dead))
}

//go:noinline
func keep(unsafe.Pointer) {}
