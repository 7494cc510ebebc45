package files

import (
	"os"
	"syscall"
	"unsafe"
	_ "unsafe" // for go:linkname

	exuvia "github.com/exuvia/exuvia/guest-sdk/go"
)

// opendir is what package syscall keeps of a folder that is granted.
type opendir struct {
	fd   int32
	name string
}

// The folders that are granted, and the current one. Package syscall asks for them when it is initialized.
//
//go:linkname preopens syscall.preopens
var preopens []opendir

//go:linkname cwd syscall.cwd
var cwd string

//go:wasmimport wasi_snapshot_preview1 fd_prestat_get
//go:noescape
func prestatGet(fd int32, prestat unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 fd_prestat_dir_name
//go:noescape
func prestatDirName(fd int32, path unsafe.Pointer, length uint32) uint32

func init() { exuvia.Renew(open) }

func open() {
	preopens, cwd = nil, ""
	for fd := int32(3); ; fd++ {
		var prestat struct{ kind, length uint32 }
		errno := syscall.Errno(prestatGet(fd, unsafe.Pointer(&prestat)))
		if errno == syscall.EBADF {
			break
		}
		if errno != 0 || prestat.kind&0xff != 0 || prestat.length == 0 {
			continue
		}
		name := make([]byte, prestat.length)
		if prestatDirName(fd, unsafe.Pointer(&name[0]), prestat.length) == 0 {
			preopens = append(preopens, opendir{fd, string(name)})
		}
	}
	cwd = os.Getenv("PWD")
	if cwd == "" && len(preopens) > 0 {
		cwd = preopens[0].name
	}
}
