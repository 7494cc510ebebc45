// Package msgpack encodes and decodes MessagePack, as all SDKs of Exuvia use it.
//
// A struct is a map with field names. The name of a field is its Go name in small letters and with
// underscores (By is "by", TimeoutMs is "timeout_ms", PeerID is "peer_id"), or what the tag `msgpack:"name"`
// says. The tag "-" leaves a field out, and the option omitempty leaves it out while it has its zero value. The
// fields of an embedded struct without a tag belong to the outer map. Unknown keys are skipped, and a missing
// key leaves the field as it is.
//
// Integers of any width are read into any integer type that holds the number, and into floats. Strings and
// binary are read into each other. nil is read as the zero value. A [Raw] holds any value as it is.
//
// The decoder takes whatever bytes: it returns an [Error] and never panics, allocates nothing for elements that
// are not there, and stops at a budget and at 128 levels. There is no module for this outside the standard
// library: a guest is built without a network.
package msgpack

import (
	"fmt"
	"reflect"
	"sync"
)

// MaxDepth is how deep values may be nested.
const MaxDepth = 128

// Raw is one encoded value, which is neither decoded nor encoded. An empty Raw is encoded as nil.
type Raw []byte

// Ext is a value of an extension type.
type Ext struct {
	Type int8
	Data []byte
}

// Marshaler is implemented by types that encode themselves, as exactly one value.
type Marshaler interface {
	MarshalMsgpack() ([]byte, error)
}

// Unmarshaler is implemented by types that decode themselves. They must copy the bytes to keep them.
type Unmarshaler interface {
	UnmarshalMsgpack([]byte) error
}

// Error says why bytes could not be decoded, or a value not be encoded.
type Error struct {
	// Path leads to the value: "items[3].count". It is empty for the outermost value.
	Path string
	// Offset is the byte at which decoding failed; -1 when encoding.
	Offset int
	// Why is the cause.
	Why string
}

func (e *Error) Error() string {
	switch {
	case e.Path == "" && e.Offset < 0:
		return e.Why
	case e.Path == "":
		return fmt.Sprintf("%s (byte %d)", e.Why, e.Offset)
	case e.Offset < 0:
		return fmt.Sprintf("field `%s`: %s", e.Path, e.Why)
	}
	return fmt.Sprintf("field `%s`: %s (byte %d)", e.Path, e.Why, e.Offset)
}

// within puts a step before the path of an error.
func within(err error, step string) error {
	if e, ok := err.(*Error); ok {
		switch {
		case e.Path == "":
			e.Path = step
		case e.Path[0] == '[':
			e.Path = step + e.Path
		default:
			e.Path = step + "." + e.Path
		}
	}
	return err
}

// Marshal returns the encoded value.
func Marshal(value any) ([]byte, error) { return Append(nil, value) }

// Append appends the encoded value to a buffer and returns the extended buffer; after an error, the buffer as
// it was.
func Append(buffer []byte, value any) ([]byte, error) {
	e := encoder{buffer: buffer}
	if err := e.any(value); err != nil {
		return buffer, err
	}
	return e.buffer, nil
}

// AppendValue is [Append] for a reflected value.
func AppendValue(buffer []byte, value reflect.Value) ([]byte, error) {
	e := encoder{buffer: buffer}
	if err := e.value(value); err != nil {
		return buffer, err
	}
	return e.buffer, nil
}

// Unmarshal decodes exactly one value into what the pointer points to. Strings and byte slices are copied.
func Unmarshal(data []byte, pointer any) error {
	rest, err := UnmarshalFirst(data, pointer)
	if err == nil && len(rest) > 0 {
		return &Error{Offset: len(data) - len(rest), Why: fmt.Sprintf("%d bytes are left behind the value", len(rest))}
	}
	return err
}

// UnmarshalFirst decodes the first value and returns the bytes behind it.
func UnmarshalFirst(data []byte, pointer any) (rest []byte, err error) {
	d := NewDecoder(data)
	if err := d.Decode(pointer); err != nil {
		return data, err
	}
	return d.Rest(), nil
}

// Codec reads and writes one type, without looking for how that is done.
type Codec struct{ codec }

// CodecOf returns the codec of a type.
func CodecOf(of reflect.Type) (*Codec, error) {
	c, err := codecOf(of)
	if err != nil {
		return nil, err
	}
	return &Codec{*c}, nil
}

// Decode reads a value into one that can be set.
func (c *Codec) Decode(d *Decoder, into reflect.Value) error { return c.codec.decode(d, into) }

// Encode writes a value.
func (c *Codec) Encode(e *Encoder, value reflect.Value) error { return c.codec.encode(&e.e, value) }

// codec reads and writes one type.
type codec struct {
	decode func(*Decoder, reflect.Value) error
	encode func(*encoder, reflect.Value) error
}

var codecs = struct {
	sync.Mutex
	of map[reflect.Type]*codec
}{of: map[reflect.Type]*codec{}}

// Prepare builds what is needed to read and write a type, so that it is not built later. It reports a type that
// cannot be read or written.
func Prepare(of reflect.Type) error {
	_, err := codecOf(of)
	return err
}

func codecOf(of reflect.Type) (*codec, error) {
	codecs.Lock()
	defer codecs.Unlock()
	if c := codecs.of[of]; c != nil {
		return c, nil
	}
	// Built apart, so that what fails leaves nothing half built behind.
	b := builder{of: map[reflect.Type]*codec{}}
	c, err := b.build(of)
	if err != nil {
		return nil, err
	}
	for t, built := range b.of {
		codecs.of[t] = built
	}
	return c, nil
}

// Field is a field of a struct as MessagePack has it.
type Field struct {
	Name     string
	Type     reflect.Type
	Optional bool // it may be missing, also if the decoder is strict
}

// Fields returns the fields of a struct; none for other types.
func Fields(of reflect.Type) []Field {
	if of.Kind() != reflect.Struct || of == timeType || of == extType {
		return nil
	}
	b := builder{of: map[reflect.Type]*codec{}}
	found, _, err := b.fields(of, nil, nil)
	if err != nil {
		return nil
	}
	fields := make([]Field, len(found))
	for i, f := range found {
		fields[i] = Field{f.name, of.FieldByIndex(f.index).Type, f.optional(of)}
	}
	return fields
}
