package msgpack

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
	"unsafe"
)

// Kind is what a value is.
type Kind uint8

// The kinds of values.
const (
	Invalid Kind = iota // no value: the bytes end here, or begin with one that MessagePack never uses
	Nil
	Bool
	Int
	Float
	String
	Binary
	Array
	Map
	Extension
)

func (k Kind) String() string {
	return [...]string{"nothing", "nil", "a boolean", "an integer", "a float", "a string", "binary", "an array", "a map", "an extension"}[k]
}

// Decoder reads values one after the other.
type Decoder struct {
	data  []byte
	at    int
	depth int
	// Budget is how many bytes may still be allocated for what is decoded; [NewDecoder] sets no limit.
	Budget int
	// Strict makes a missing field of a struct an error, unless it is a pointer or has the option omitempty.
	Strict bool
	// Share lets strings and byte slices refer to the data instead of copies of it. The data must not change then.
	Share bool
}

// NewDecoder returns a decoder for these bytes.
func NewDecoder(data []byte) Decoder { return Decoder{data: data, Budget: math.MaxInt} }

// Rest returns the bytes that have not been read.
func (d *Decoder) Rest() []byte { return d.data[d.at:] }

// Decode reads a value into what the pointer points to.
func (d *Decoder) Decode(pointer any) error {
	v := reflect.ValueOf(pointer)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return &Error{Offset: d.at, Why: fmt.Sprintf("a value can be decoded into a pointer only, not into %T", pointer)}
	}
	return d.Value(v.Elem())
}

// Value reads a value into one that can be set.
func (d *Decoder) Value(into reflect.Value) error {
	c, err := codecOf(into.Type())
	if err != nil {
		return err
	}
	return c.decode(d, into)
}

// Kind returns the kind of the next value, without reading it.
func (d *Decoder) Kind() Kind {
	if d.at >= len(d.data) {
		return Invalid
	}
	switch c := d.data[d.at]; {
	case c <= 0x7f, c >= 0xe0, c >= 0xcc && c <= 0xd3:
		return Int
	case c <= 0x8f, c == 0xde, c == 0xdf:
		return Map
	case c <= 0x9f, c == 0xdc, c == 0xdd:
		return Array
	case c <= 0xbf, c >= 0xd9 && c <= 0xdb:
		return String
	case c == 0xc0:
		return Nil
	case c == 0xc2, c == 0xc3:
		return Bool
	case c >= 0xc4 && c <= 0xc6:
		return Binary
	case c == 0xca, c == 0xcb:
		return Float
	case c >= 0xc7 && c <= 0xc9, c >= 0xd4 && c <= 0xd8:
		return Extension
	}
	return Invalid
}

func (d *Decoder) fail(format string, arguments ...any) error {
	return &Error{Offset: d.at, Why: fmt.Sprintf(format, arguments...)}
}

func (d *Decoder) unexpected(wanted string) error {
	found := d.Kind()
	if found == Invalid && d.at < len(d.data) {
		return d.fail("the byte 0x%02x begins no value", d.data[d.at])
	}
	if found == Invalid {
		return d.fail("the bytes end where %s should be", wanted)
	}
	return d.fail("expected %s, found %s", wanted, found)
}

// take returns the next n bytes.
func (d *Decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.data)-d.at {
		return nil, d.fail("the bytes end early: %d more are needed, %d are there", n, len(d.data)-d.at)
	}
	b := d.data[d.at : d.at+n : d.at+n]
	d.at += n
	return b, nil
}

// spend takes from the budget.
func (d *Decoder) spend(bytes int) error {
	if bytes < 0 || bytes > d.Budget {
		return d.fail("it would take more memory than there is")
	}
	d.Budget -= bytes
	return nil
}

// number reads a big-endian number of 1, 2, 4 or 8 bytes.
func (d *Decoder) number(size int) (uint64, error) {
	b, err := d.take(size)
	if err != nil {
		return 0, err
	}
	switch size {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), nil
	}
	return binary.BigEndian.Uint64(b), nil
}

// length reads the head of a string, binary, array, map or extension whose first byte is c, and returns its length;
// -1 if c begins none of the kind.
func (d *Decoder) length(kind Kind) (int, error) {
	c := d.data[d.at]
	var size int
	switch kind {
	case String:
		if c >= 0xa0 && c <= 0xbf {
			d.at++
			return int(c & 0x1f), nil
		}
		size = 1 << (c - 0xd9)
	case Binary:
		size = 1 << (c - 0xc4)
	case Array:
		if c >= 0x90 && c <= 0x9f {
			d.at++
			return int(c & 0x0f), nil
		}
		size = 2 << (c - 0xdc)
	case Map:
		if c >= 0x80 && c <= 0x8f {
			d.at++
			return int(c & 0x0f), nil
		}
		size = 2 << (c - 0xde)
	case Extension:
		if c >= 0xd4 {
			d.at++
			return 1 << (c - 0xd4), nil
		}
		size = 1 << (c - 0xc7)
	}
	d.at++
	n, err := d.number(size)
	return int(n), err
}

// ArrayLen reads the head of an array and returns the number of its elements, which follow.
func (d *Decoder) ArrayLen() (int, error) { return d.elements(Array, 1) }

// MapLen reads the head of a map and returns the number of its entries, which follow: key, value, key...
func (d *Decoder) MapLen() (int, error) { return d.elements(Map, 2) }

// elements never returns more than there can be: each takes a byte at least.
func (d *Decoder) elements(kind Kind, each int) (int, error) {
	if d.Kind() != kind {
		return 0, d.unexpected(kind.String())
	}
	n, err := d.length(kind)
	if err != nil {
		return 0, err
	}
	if n > (len(d.data)-d.at)/each {
		return 0, d.fail("the bytes end early: %d elements are announced", n)
	}
	return n, nil
}

// Text reads a string or binary and returns its bytes, which are a part of the data.
func (d *Decoder) Text() ([]byte, error) {
	kind := d.Kind()
	if kind != String && kind != Binary {
		return nil, d.unexpected("a string")
	}
	n, err := d.length(kind)
	if err != nil {
		return nil, err
	}
	return d.take(n)
}

func (d *Decoder) string() (string, error) {
	b, err := d.Text()
	if err != nil || len(b) == 0 {
		return "", err
	}
	if d.Share {
		return unsafe.String(&b[0], len(b)), nil
	}
	if err := d.spend(len(b)); err != nil {
		return "", err
	}
	return string(b), nil
}

func (d *Decoder) bytes() ([]byte, error) {
	if d.Kind() == Array {
		n, err := d.ArrayLen()
		if err != nil {
			return nil, err
		}
		if err := d.spend(n); err != nil {
			return nil, err
		}
		b := make([]byte, n)
		for i := range b {
			number, err := d.integer(8, false)
			if err != nil {
				return nil, within(err, index(i))
			}
			b[i] = byte(number)
		}
		return b, nil
	}
	b, err := d.Text()
	if err != nil || d.Share {
		return b, err
	}
	if err := d.spend(len(b)); err != nil {
		return nil, err
	}
	return append(make([]byte, 0, len(b)), b...), nil
}

// integer reads an integer of so many bits; an unsigned one is returned as its bits.
func (d *Decoder) integer(bits int, signed bool) (int64, error) {
	start := d.at
	var value uint64
	negative := false
	switch kind := d.Kind(); kind {
	case Int:
		c := d.data[d.at]
		d.at++
		var err error
		switch {
		case c <= 0x7f:
			value = uint64(c)
		case c >= 0xe0:
			value, negative = uint64(int64(int8(c))), true
		case c <= 0xcf:
			value, err = d.number(1 << (c - 0xcc))
		default:
			size := 1 << (c - 0xd0)
			value, err = d.number(size)
			shift := 64 - 8*size
			value = uint64(int64(value<<shift) >> shift)
			negative = int64(value) < 0
		}
		if err != nil {
			return 0, err
		}
	case Float:
		f, err := d.float()
		if err != nil {
			return 0, err
		}
		if f != math.Trunc(f) || f < math.MinInt64 || f >= math.MaxInt64 {
			d.at = start
			return 0, d.fail("%v is not an integer", f)
		}
		value, negative = uint64(int64(f)), f < 0
	default:
		return 0, d.unexpected("an integer")
	}
	fits := false
	switch {
	case signed && negative:
		fits = int64(value) >= -1<<(bits-1)
	case signed:
		fits = value <= 1<<(bits-1)-1
	case !negative:
		fits = bits == 64 || value < 1<<bits
	}
	if !fits {
		d.at = start
		if negative {
			return 0, d.fail("%d does not fit the type", int64(value))
		}
		return 0, d.fail("%d does not fit the type", value)
	}
	return int64(value), nil
}

func (d *Decoder) float() (float64, error) {
	switch d.Kind() {
	case Float:
		c := d.data[d.at]
		d.at++
		n, err := d.number(4 << (c - 0xca))
		if c == 0xca {
			return float64(math.Float32frombits(uint32(n))), err
		}
		return math.Float64frombits(n), err
	case Int:
		if c := d.data[d.at]; c == 0xcf {
			n, err := d.integer(64, false)
			return float64(uint64(n)), err
		}
		n, err := d.integer(64, true)
		return float64(n), err
	}
	return 0, d.unexpected("a number")
}

func (d *Decoder) bool() (bool, error) {
	if d.Kind() != Bool {
		return false, d.unexpected("a boolean")
	}
	d.at++
	return d.data[d.at-1] == 0xc3, nil
}

// isNil reads a nil and returns true, or reads nothing.
func (d *Decoder) isNil() bool {
	if d.at < len(d.data) && d.data[d.at] == 0xc0 {
		d.at++
		return true
	}
	return false
}

func (d *Decoder) enter() error {
	if d.depth++; d.depth > MaxDepth {
		return d.fail("values are nested deeper than %d", MaxDepth)
	}
	return nil
}

func (d *Decoder) extension() (Ext, error) {
	if d.Kind() != Extension {
		return Ext{}, d.unexpected("an extension")
	}
	n, err := d.length(Extension)
	if err != nil {
		return Ext{}, err
	}
	of, err := d.take(1)
	if err != nil {
		return Ext{}, err
	}
	data, err := d.take(n)
	return Ext{int8(of[0]), data}, err
}

// Skip reads the next value and drops it, and returns its bytes, which are a part of the data.
func (d *Decoder) Skip() ([]byte, error) {
	start := d.at
	// How many values are to be skipped: without recursion, so depth needs no limit here.
	for left := 1; left > 0; left-- {
		var err error
		switch kind := d.Kind(); kind {
		case Nil, Bool:
			d.at++
		case Int:
			c := d.data[d.at]
			d.at++
			if c >= 0xcc && c <= 0xd3 {
				_, err = d.take(1 << (c & 3))
			}
		case Float:
			_, err = d.float()
		case String, Binary:
			_, err = d.Text()
		case Extension:
			_, err = d.extension()
		case Array, Map:
			each := 1
			if kind == Map {
				each = 2
			}
			var n int
			n, err = d.elements(kind, each)
			left += n * each
		default:
			err = d.unexpected("a value")
		}
		if err != nil {
			return nil, err
		}
	}
	return d.data[start:d.at:d.at], nil
}

// Any reads any value: nil, bool, int64, uint64 (if it is too large for int64), float64, string, []byte, []any,
// map[string]any, map[any]any (if a key is no string), time.Time or [Ext].
func (d *Decoder) Any() (any, error) {
	switch d.Kind() {
	case Nil:
		d.at++
		return nil, nil
	case Bool:
		return d.bool()
	case Int:
		if d.data[d.at] == 0xcf {
			n, err := d.integer(64, false)
			if n < 0 {
				return uint64(n), err
			}
			return n, err
		}
		n, err := d.integer(64, true)
		return n, err
	case Float:
		return d.float()
	case String:
		return d.string()
	case Binary:
		return d.bytes()
	case Array:
		return d.list()
	case Map:
		return d.dictionary()
	case Extension:
		ext, err := d.extension()
		if err != nil {
			return nil, err
		}
		if ext.Type == timestamp {
			return d.time(ext)
		}
		ext.Data = append([]byte(nil), ext.Data...)
		return ext, d.spend(len(ext.Data))
	}
	return nil, d.unexpected("a value")
}

func (d *Decoder) list() (any, error) {
	n, err := d.ArrayLen()
	if err != nil {
		return nil, err
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	if err := d.spend(n * 16); err != nil {
		return nil, err
	}
	list := make([]any, n)
	for i := range list {
		if list[i], err = d.Any(); err != nil {
			return nil, within(err, index(i))
		}
		if err := d.spend(8); err != nil { // of an interface's own box
			return nil, err
		}
	}
	d.depth--
	return list, nil
}

func (d *Decoder) dictionary() (any, error) {
	n, err := d.MapLen()
	if err != nil {
		return nil, err
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	if err := d.spend(n * 2 * (16 + 16 + 8)); err != nil {
		return nil, err
	}
	named := make(map[string]any, n)
	var other map[any]any
	for i := range n {
		var key any
		if d.Kind() == String {
			key, err = d.string()
		} else {
			key, err = d.Any()
		}
		if err != nil {
			return nil, within(err, index(i))
		}
		switch key.(type) {
		case nil, bool, int64, uint64, float64, string, time.Time:
		default:
			return nil, d.fail("a key of a map is %T", key)
		}
		value, err := d.Any()
		if err != nil {
			return nil, within(err, fmt.Sprint(key))
		}
		name, ok := key.(string)
		if ok && other == nil {
			named[name] = value
			continue
		}
		if other == nil {
			if err := d.spend(n * 2 * (16 + 16 + 8)); err != nil {
				return nil, err
			}
			other = make(map[any]any, n)
			for k, v := range named {
				other[k] = v
			}
		}
		other[key] = value
	}
	d.depth--
	if other != nil {
		return other, nil
	}
	return named, nil
}

func (d *Decoder) time(ext Ext) (time.Time, error) {
	b := ext.Data
	switch {
	case ext.Type != timestamp:
	case len(b) == 4:
		return time.Unix(int64(binary.BigEndian.Uint32(b)), 0), nil
	case len(b) == 8:
		n := binary.BigEndian.Uint64(b)
		return time.Unix(int64(n&(1<<34-1)), int64(n>>34)), nil
	case len(b) == 12:
		return time.Unix(int64(binary.BigEndian.Uint64(b[4:])), int64(binary.BigEndian.Uint32(b))), nil
	}
	return time.Time{}, d.fail("extension %d with %d bytes is no time", ext.Type, len(b))
}

// timestamp is the extension type of a time.
const timestamp = -1

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }
