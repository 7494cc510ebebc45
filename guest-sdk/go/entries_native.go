//go:build !wasip1

package exuvia

import "github.com/exuvia/exuvia/guest-sdk/go/internal/sys"

// The entries for package exuviatest.
func init() {
	sys.Entries.Run, sys.Entries.Save, sys.Entries.Load = run, save, load
	sys.Entries.Reset = func() {
		current = nil
		handled = Message{}
		stopping.now = false
		tasks.waits, tasks.all, tasks.busy = nil, 0, 0
	}
}
