package msgpack

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"time"
)

type encoder struct {
	buffer []byte
	depth  int
}

// Encoder writes values one after the other. Unlike [Append], it allocates nothing but the buffer when it is used again.
type Encoder struct{ e encoder }

// Reset begins anew, in this buffer.
func (e *Encoder) Reset(buffer []byte) { e.e = encoder{buffer: buffer} }

// Bytes returns what was written.
func (e *Encoder) Bytes() []byte { return e.e.buffer }

// Name writes a string.
func (e *Encoder) Name(name string) error { return e.e.string(name) }

// MapLen writes the head of a map; its entries follow.
func (e *Encoder) MapLen(n int) error { return e.e.dict(n) }

// Any writes a value.
func (e *Encoder) Any(value any) error { return e.e.any(value) }

func (e *encoder) fail(format string, arguments ...any) error {
	return &Error{Offset: -1, Why: fmt.Sprintf(format, arguments...)}
}

func (e *encoder) byte(b byte) { e.buffer = append(e.buffer, b) }

// sized writes a first byte for the size of a number (1, 2, 4 or 8 bytes), and the number.
func (e *encoder) sized(first byte, size int, number uint64) {
	e.byte(first)
	switch size {
	case 1:
		e.byte(byte(number))
	case 2:
		e.buffer = binary.BigEndian.AppendUint16(e.buffer, uint16(number))
	case 4:
		e.buffer = binary.BigEndian.AppendUint32(e.buffer, uint32(number))
	default:
		e.buffer = binary.BigEndian.AppendUint64(e.buffer, number)
	}
}

func (e *encoder) uint(n uint64) {
	switch {
	case n <= 0x7f:
		e.byte(byte(n))
	case n <= math.MaxUint8:
		e.sized(0xcc, 1, n)
	case n <= math.MaxUint16:
		e.sized(0xcd, 2, n)
	case n <= math.MaxUint32:
		e.sized(0xce, 4, n)
	default:
		e.sized(0xcf, 8, n)
	}
}

func (e *encoder) int(n int64) {
	switch {
	case n >= 0:
		e.uint(uint64(n))
	case n >= -32:
		e.byte(byte(n))
	case n >= math.MinInt8:
		e.sized(0xd0, 1, uint64(n))
	case n >= math.MinInt16:
		e.sized(0xd1, 2, uint64(n))
	case n >= math.MinInt32:
		e.sized(0xd2, 4, uint64(n))
	default:
		e.sized(0xd3, 8, uint64(n))
	}
}

// head writes the length of a string or the like: fixed, if it is below limit, else after first and the bytes that
// follow it, for 1 (if there is such a form), 2 and 4 bytes.
func (e *encoder) head(n int, fixed byte, limit int, first byte, hasByte bool) error {
	two := first
	if hasByte {
		two++
	}
	switch {
	case n < limit:
		e.byte(fixed | byte(n))
	case hasByte && n <= math.MaxUint8:
		e.sized(first, 1, uint64(n))
	case n <= math.MaxUint16:
		e.sized(two, 2, uint64(n))
	case uint64(n) <= math.MaxUint32:
		e.sized(two+1, 4, uint64(n))
	default:
		return e.fail("%d elements are more than MessagePack can have", n)
	}
	return nil
}

func (e *encoder) string(s string) error {
	if err := e.head(len(s), 0xa0, 32, 0xd9, true); err != nil {
		return err
	}
	e.buffer = append(e.buffer, s...)
	return nil
}

func (e *encoder) bytes(b []byte) error {
	if err := e.head(len(b), 0, 0, 0xc4, true); err != nil {
		return err
	}
	e.buffer = append(e.buffer, b...)
	return nil
}

func (e *encoder) array(n int) error { return e.head(n, 0x90, 16, 0xdc, false) }
func (e *encoder) dict(n int) error  { return e.head(n, 0x80, 16, 0xde, false) }

func (e *encoder) ext(x Ext) error {
	n := len(x.Data)
	switch n {
	case 1, 2, 4, 8, 16:
		first := byte(0xd4)
		for size := 1; size < n; size *= 2 {
			first++
		}
		e.byte(first)
	default:
		if err := e.head(n, 0, 0, 0xc7, true); err != nil {
			return err
		}
	}
	e.byte(byte(x.Type))
	e.buffer = append(e.buffer, x.Data...)
	return nil
}

func (e *encoder) time(t time.Time) error {
	seconds, nanoseconds := t.Unix(), uint64(t.Nanosecond())
	b := make([]byte, 0, 12)
	switch {
	case seconds>>34 != 0:
		b = binary.BigEndian.AppendUint32(b, uint32(nanoseconds))
		b = binary.BigEndian.AppendUint64(b, uint64(seconds))
	case nanoseconds != 0 || seconds > math.MaxUint32:
		b = binary.BigEndian.AppendUint64(b, nanoseconds<<34|uint64(seconds))
	default:
		b = binary.BigEndian.AppendUint32(b, uint32(seconds))
	}
	return e.ext(Ext{timestamp, b})
}

func (e *encoder) enter() error {
	if e.depth++; e.depth > MaxDepth {
		return e.fail("values are nested deeper than %d", MaxDepth)
	}
	return nil
}

// any writes a value whose type is not known before.
func (e *encoder) any(value any) error {
	switch v := value.(type) {
	case nil:
		e.byte(0xc0)
		return nil
	case string:
		return e.string(v)
	case int:
		e.int(int64(v))
		return nil
	case int64:
		e.int(v)
		return nil
	case []byte:
		if v == nil {
			e.byte(0xc0)
			return nil
		}
		return e.bytes(v)
	}
	return e.value(reflect.ValueOf(value))
}

func (e *encoder) value(v reflect.Value) error {
	c, err := codecOf(v.Type())
	if err != nil {
		return err
	}
	return c.encode(e, v)
}
