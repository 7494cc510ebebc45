// Package files lets package os open files in the folders that a process is granted. Import it for that:
//
//	import _ "github.com/exuvia/exuvia/guest-sdk/go/files"
//
// and link with -ldflags=-checklinkname=0, since package syscall finds the folders once, when it is initialized, which
// all processes share, and has no function that does it again.
package files
