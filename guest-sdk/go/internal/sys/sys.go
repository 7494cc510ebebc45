// Package sys has the host calls as they are: codes instead of errors, and no allocation. In Wasm they are
// imports; elsewhere they go to a [Host] that a test has set.
package sys

// HeaderSize is how many bytes of a header this SDK knows.
const HeaderSize = 48

// Header is what `receive` and `call` write, in the layout of the ABI.
type Header struct {
	Size      uint32
	Kind      uint32
	Sender    [16]byte
	Reference uint64
	Tag       uint32
	Length    uint32
	Reason    int32
	Offset    uint32
}

// Options are those of a spawn, in the layout of the ABI.
type Options struct {
	Size            uint32
	Flags           uint32
	Memory          uint64
	MailboxBytes    uint64
	MailboxMessages uint32
	MessageBytes    uint32
	Children        uint32
	StartTimeout    uint32
	TableBytes      uint64
	Priority        uint32
	Files           uint32
	Grants          uint32
	GrantsLength    uint32
	Descendants     uint32
	Reserved        uint32
}
