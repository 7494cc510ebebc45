package exuvia

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
)

//go:wasmexport exuvia_abi
func exportABI() int32 { return sys.ABI }

//go:wasmexport exuvia_schema
func exportSchema() int32 { return me.schema }

// The runtime's start is the same for all processes, so it is in the base. [renew] draws new what must not be.
//
//go:wasmexport exuvia_shared_start
func exportSharedStart() {}

//go:wasmexport warm_up
func exportWarmUp() {
	defer guard()
	if me.start == nil && me.loop == nil {
		panic("exuvia: no init function calls Actor or Loop")
	}
	if err := findRandom(); err != "" {
		panic("exuvia: " + err)
	}
	for _, warm := range me.warm {
		warm()
	}
	me.warm = nil
	// What the first collections and looks allocate, and the stack that they need.
	findRuntimeStack()
	for range 12 {
		clearStack()
		collectDeep()
		runtime.ReadMemStats(&tidyUp.stats)
	}
	runnable()
	tidyUp.live = tidyUp.stats.HeapAlloc
	tidyUp.stats = runtime.MemStats{}
	clearStack()
}

// The first fields of the runtime's g, and the first one of its m.
type (
	g struct {
		low, high     uintptr
		guard         [2]uintptr
		panic, defer_ uintptr
		m             *m
		sp            uintptr // of sched
	}
	m struct {
		g0 *g
	}
)

// currentG returns the goroutine that runs.
func currentG() *g

// findRuntimeStack finds the stack on which the runtime allocates and collects. What such calls leave there would be in
// the image of each process. Nothing is cleared if the runtime looks different from what is known here.
func findRuntimeStack() {
	const most = 7 << 10 // of the 8 KiB that it has (m0Stack); some of it is in use above
	end := uintptr(sys.MemorySize()) << 16
	inside := func(at uintptr) bool { return at >= 1<<16 && at < end-1<<10 && at%8 == 0 }
	current := currentG()
	if !inside(uintptr(unsafe.Pointer(current.m))) {
		return
	}
	g0 := current.m.g0
	if !inside(uintptr(unsafe.Pointer(g0))) || g0 == current || g0.m != current.m || !inside(g0.sp) {
		return
	}
	deadRuntimeStack = unsafe.Slice((*byte)(unsafe.Pointer(g0.sp-most)), most-64)
}

//go:wasmexport run
func exportRun() int32 { return run() }

//go:wasmexport save
func exportSave() int32 { return save() }

//go:wasmexport load
func exportLoad(from, length int32) int32 { return load(from, length) }

// chacha8 is the runtime's generator of random numbers, as internal/chacha8rand has it.
type chacha8 struct {
	buffer  [32]uint64
	seed    [4]uint64
	i, n, c uint32
}

// random is the generator that maps, hash/maphash and math/rand draw from. The runtime seeds it when it starts, which
// would be the same seed in all processes, and has no function that does it again.
var random *chacha8

// findRandom finds the generator by the numbers that it has drawn.
func findRandom() (err string) {
	const mask = 0xa5a5_5a5a_c3c3_3c3c // so that no other place in memory has the numbers side by side
	for range 3 {
		var drawn [4]uint64
		for i := range drawn {
			drawn[i] = rand.Uint64() ^ mask*uint64(i+1)
		}
		end := uintptr(sys.MemorySize())<<16 - unsafe.Sizeof(chacha8{})
	search:
		for at := uintptr(4096); at < end; at += 8 {
			for i := range drawn {
				if *(*uint64)(unsafe.Pointer(at + uintptr(i)*8))^mask*uint64(i+1) != drawn[i] {
					continue search
				}
			}
			// The place of the first of the numbers is known only by what follows the buffer.
			for first := range uintptr(32 - len(drawn) + 1) {
				state := (*chacha8)(unsafe.Pointer(at - first*8))
				if i := state.i; i != uint32(first)+uint32(len(drawn)) || state.n > 32 || state.n < i {
					continue
				}
				if state.i < state.n {
					before := state.i
					rand.Uint64()
					if state.i != before+1 {
						continue
					}
				}
				random = state
				return ""
			}
		}
		// The numbers were not in one block of the generator.
	}
	return "the random numbers of " + runtime.Version() + " are kept in another way than this SDK knows"
}

// renew replaces what the shared start has made the same in all processes: the seed of random numbers, and what WASI
// grants this process.
func renew() {
	var seed [32]byte
	Random(seed[:])
	random.seed = *(*[4]uint64)(unsafe.Pointer(&seed))
	random.i, random.c = random.n, 0
	os.Args = sys.Arguments()
	for _, variable := range sys.Environment() {
		if name, value, ok := strings.Cut(variable, "="); ok {
			os.Setenv(name, value)
		}
	}
	for _, do := range renewals {
		do()
	}
}
