package msgpack

import (
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// builder makes the codecs of types that refer to each other.
type builder struct {
	of map[reflect.Type]*codec
}

var (
	rawType         = reflect.TypeFor[Raw]()
	extType         = reflect.TypeFor[Ext]()
	timeType        = reflect.TypeFor[time.Time]()
	marshalerType   = reflect.TypeFor[Marshaler]()
	unmarshalerType = reflect.TypeFor[Unmarshaler]()
)

func (b *builder) build(t reflect.Type) (*codec, error) {
	// Not those of other types being built: one of them may fail later.
	if c := b.of[t]; c != nil {
		return c, nil
	}
	c := &codec{}
	b.of[t] = c
	return c, b.fill(c, t)
}

func (b *builder) fill(c *codec, t reflect.Type) error {
	switch t {
	case rawType:
		c.decode = func(d *Decoder, v reflect.Value) error {
			raw, err := d.Skip()
			if err == nil && !d.Share {
				if err = d.spend(len(raw)); err == nil {
					raw = append(make([]byte, 0, len(raw)), raw...)
				}
			}
			if err == nil {
				v.SetBytes(raw)
			}
			return err
		}
		c.encode = func(e *encoder, v reflect.Value) error {
			if v.Len() == 0 {
				e.byte(0xc0)
			}
			e.buffer = append(e.buffer, v.Bytes()...)
			return nil
		}
		return nil
	case extType:
		c.decode = func(d *Decoder, v reflect.Value) error {
			ext, err := d.extension()
			if err == nil {
				err = d.spend(len(ext.Data))
			}
			if err == nil {
				v.Set(reflect.ValueOf(Ext{ext.Type, append([]byte(nil), ext.Data...)}))
			}
			return err
		}
		c.encode = func(e *encoder, v reflect.Value) error { return e.ext(v.Interface().(Ext)) }
		return nil
	case timeType:
		c.decode = func(d *Decoder, v reflect.Value) error {
			if d.isNil() {
				v.SetZero()
				return nil
			}
			ext, err := d.extension()
			if err != nil {
				return err
			}
			t, err := d.time(ext)
			if err == nil {
				v.Set(reflect.ValueOf(t))
			}
			return err
		}
		c.encode = func(e *encoder, v reflect.Value) error { return e.time(v.Interface().(time.Time)) }
		return nil
	}
	if err := b.byKind(c, t); err != nil {
		return err
	}
	b.byMethods(c, t)
	return nil
}

// byMethods lets a type that encodes and decodes itself do so.
func (b *builder) byMethods(c *codec, t reflect.Type) {
	if t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer {
		return
	}
	if t.Implements(marshalerType) {
		c.encode = func(e *encoder, v reflect.Value) error {
			encoded, err := v.Interface().(Marshaler).MarshalMsgpack()
			if err != nil {
				return e.fail("%v", err)
			}
			d := NewDecoder(encoded)
			if _, err := d.Skip(); err != nil || len(d.Rest()) > 0 {
				return e.fail("MarshalMsgpack of %v did not return one value", t)
			}
			e.buffer = append(e.buffer, encoded...)
			return nil
		}
	}
	if reflect.PointerTo(t).Implements(unmarshalerType) {
		c.decode = func(d *Decoder, v reflect.Value) error {
			encoded, err := d.Skip()
			if err != nil {
				return err
			}
			if err := v.Addr().Interface().(Unmarshaler).UnmarshalMsgpack(encoded); err != nil {
				return d.fail("%v", err)
			}
			return nil
		}
	}
}

func (b *builder) byKind(c *codec, t reflect.Type) error {
	switch t.Kind() {
	case reflect.Bool:
		c.decode = orZero(func(d *Decoder, v reflect.Value) error {
			value, err := d.bool()
			if err == nil {
				v.SetBool(value)
			}
			return err
		})
		c.encode = func(e *encoder, v reflect.Value) error {
			if v.Bool() {
				e.byte(0xc3)
			} else {
				e.byte(0xc2)
			}
			return nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		bits := t.Bits()
		c.decode = orZero(func(d *Decoder, v reflect.Value) error {
			n, err := d.integer(bits, true)
			if err == nil {
				v.SetInt(n)
			}
			return err
		})
		c.encode = func(e *encoder, v reflect.Value) error {
			e.int(v.Int())
			return nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		bits := t.Bits()
		c.decode = orZero(func(d *Decoder, v reflect.Value) error {
			n, err := d.integer(bits, false)
			if err == nil {
				v.SetUint(uint64(n))
			}
			return err
		})
		c.encode = func(e *encoder, v reflect.Value) error {
			e.uint(v.Uint())
			return nil
		}
	case reflect.Float32, reflect.Float64:
		narrow := t.Kind() == reflect.Float32
		c.decode = orZero(func(d *Decoder, v reflect.Value) error {
			f, err := d.float()
			if err == nil {
				v.SetFloat(f)
			}
			return err
		})
		c.encode = func(e *encoder, v reflect.Value) error {
			if narrow {
				e.sized(0xca, 4, uint64(math.Float32bits(float32(v.Float()))))
			} else {
				e.sized(0xcb, 8, math.Float64bits(v.Float()))
			}
			return nil
		}
	case reflect.String:
		c.decode = orZero(func(d *Decoder, v reflect.Value) error {
			s, err := d.string()
			if err == nil {
				v.SetString(s)
			}
			return err
		})
		c.encode = func(e *encoder, v reflect.Value) error { return e.string(v.String()) }
	case reflect.Slice:
		return b.slice(c, t)
	case reflect.Array:
		return b.array(c, t)
	case reflect.Map:
		return b.dict(c, t)
	case reflect.Struct:
		return b.structure(c, t)
	case reflect.Pointer:
		return b.pointer(c, t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return &Error{Offset: -1, Why: fmt.Sprintf("%v cannot be read: which type should it become?", t)}
		}
		c.decode = func(d *Decoder, v reflect.Value) error {
			value, err := d.Any()
			if err != nil {
				return err
			}
			if value == nil {
				v.SetZero()
			} else {
				v.Set(reflect.ValueOf(value))
			}
			return nil
		}
		c.encode = func(e *encoder, v reflect.Value) error {
			if err := e.enter(); err != nil {
				return err
			}
			err := e.any(v.Interface())
			e.depth--
			return err
		}
	default:
		return &Error{Offset: -1, Why: fmt.Sprintf("%v has no form in MessagePack", t)}
	}
	return nil
}

// orZero reads nil as the zero value.
func orZero(decode func(*Decoder, reflect.Value) error) func(*Decoder, reflect.Value) error {
	return func(d *Decoder, v reflect.Value) error {
		if d.isNil() {
			v.SetZero()
			return nil
		}
		return decode(d, v)
	}
}

func (b *builder) pointer(c *codec, t reflect.Type) error {
	inner, err := b.build(t.Elem())
	if err != nil {
		return err
	}
	size := int(t.Elem().Size())
	c.decode = orZero(func(d *Decoder, v reflect.Value) error {
		if v.IsNil() {
			if err := d.spend(size); err != nil {
				return err
			}
			v.Set(reflect.New(t.Elem()))
		}
		if err := d.enter(); err != nil {
			return err
		}
		err := inner.decode(d, v.Elem())
		d.depth--
		return err
	})
	c.encode = func(e *encoder, v reflect.Value) error {
		if v.IsNil() {
			e.byte(0xc0)
			return nil
		}
		if err := e.enter(); err != nil {
			return err
		}
		err := inner.encode(e, v.Elem())
		e.depth--
		return err
	}
	return nil
}

func (b *builder) slice(c *codec, t reflect.Type) error {
	if t.Elem().Kind() == reflect.Uint8 {
		c.decode = orZero(func(d *Decoder, v reflect.Value) error {
			bytes, err := d.bytes()
			if err == nil {
				v.SetBytes(bytes)
			}
			return err
		})
		c.encode = func(e *encoder, v reflect.Value) error {
			if v.IsNil() {
				e.byte(0xc0)
				return nil
			}
			return e.bytes(v.Bytes())
		}
		return nil
	}
	inner, err := b.build(t.Elem())
	if err != nil {
		return err
	}
	size := int(t.Elem().Size())
	c.decode = orZero(func(d *Decoder, v reflect.Value) error {
		n, err := d.ArrayLen()
		if err != nil {
			return err
		}
		if err := d.enter(); err != nil {
			return err
		}
		if size > 0 && n > math.MaxInt32/size {
			return d.fail("%d elements are too many", n)
		}
		if err := d.spend(n * size); err != nil {
			return err
		}
		// The old elements are not reused: who has a slice of them does not expect them to change.
		v.Set(reflect.MakeSlice(t, n, n))
		for i := range n {
			if err := inner.decode(d, v.Index(i)); err != nil {
				return within(err, index(i))
			}
		}
		d.depth--
		return nil
	})
	c.encode = func(e *encoder, v reflect.Value) error {
		// A nil slice is an empty list, so that other languages need not expect nil.
		return elements(e, v, inner)
	}
	return nil
}

func elements(e *encoder, v reflect.Value, inner *codec) error {
	if err := e.enter(); err != nil {
		return err
	}
	n := v.Len()
	if err := e.array(n); err != nil {
		return err
	}
	for i := range n {
		if err := inner.encode(e, v.Index(i)); err != nil {
			return within(err, index(i))
		}
	}
	e.depth--
	return nil
}

func (b *builder) array(c *codec, t reflect.Type) error {
	if t.Elem().Kind() == reflect.Uint8 {
		c.decode = orZero(func(d *Decoder, v reflect.Value) error {
			start := d.at
			var bytes []byte
			var err error
			if d.Kind() == Array {
				bytes, err = d.bytes()
			} else {
				bytes, err = d.Text()
			}
			if err != nil {
				return err
			}
			if len(bytes) != t.Len() {
				d.at = start
				return d.fail("expected %d bytes, found %d", t.Len(), len(bytes))
			}
			copy(v.Bytes(), bytes)
			return nil
		})
		c.encode = func(e *encoder, v reflect.Value) error {
			if !v.CanAddr() {
				addressable := reflect.New(t).Elem()
				addressable.Set(v)
				v = addressable
			}
			return e.bytes(v.Bytes())
		}
		return nil
	}
	inner, err := b.build(t.Elem())
	if err != nil {
		return err
	}
	c.decode = orZero(func(d *Decoder, v reflect.Value) error {
		start := d.at
		n, err := d.ArrayLen()
		if err != nil {
			return err
		}
		if n != t.Len() {
			d.at = start
			return d.fail("expected %d elements, found %d", t.Len(), n)
		}
		if err := d.enter(); err != nil {
			return err
		}
		for i := range n {
			if err := inner.decode(d, v.Index(i)); err != nil {
				return within(err, index(i))
			}
		}
		d.depth--
		return nil
	})
	c.encode = func(e *encoder, v reflect.Value) error { return elements(e, v, inner) }
	return nil
}

func (b *builder) dict(c *codec, t reflect.Type) error {
	key, err := b.build(t.Key())
	if err != nil {
		return err
	}
	value, err := b.build(t.Elem())
	if err != nil {
		return err
	}
	size := 2 * (int(t.Key().Size()+t.Elem().Size()) + 8)
	c.decode = orZero(func(d *Decoder, v reflect.Value) error {
		n, err := d.MapLen()
		if err != nil {
			return err
		}
		if err := d.enter(); err != nil {
			return err
		}
		if n > math.MaxInt32/size {
			return d.fail("%d entries are too many", n)
		}
		if err := d.spend(n * size); err != nil {
			return err
		}
		into := reflect.MakeMapWithSize(t, n)
		k, x := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		for i := range n {
			k.SetZero()
			x.SetZero()
			if err := key.decode(d, k); err != nil {
				return within(err, index(i))
			}
			if !k.Comparable() { // an interface may hold a list
				return d.fail("a key of a map is %T", k.Interface())
			}
			if err := value.decode(d, x); err != nil {
				return within(err, fmt.Sprint(k.Interface()))
			}
			into.SetMapIndex(k, x)
		}
		v.Set(into)
		d.depth--
		return nil
	})
	c.encode = func(e *encoder, v reflect.Value) error {
		if err := e.enter(); err != nil {
			return err
		}
		if err := e.dict(v.Len()); err != nil {
			return err
		}
		for each := v.MapRange(); each.Next(); {
			if err := key.encode(e, each.Key()); err != nil {
				return err
			}
			if err := value.encode(e, each.Value()); err != nil {
				return within(err, fmt.Sprint(each.Key().Interface()))
			}
		}
		e.depth--
		return nil
	}
	return nil
}

// field is a field of a struct.
type field struct {
	name      string
	index     []int
	codec     *codec
	omitEmpty bool
}

func (b *builder) fields(t reflect.Type, above []int, into []field) ([]field, bool, error) {
	hidden := false
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("msgpack"), ",")
		at := append(append([]int(nil), above...), i)
		if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			var err error
			var inner bool
			if into, inner, err = b.fields(f.Type, at, into); err != nil {
				return nil, false, err
			}
			hidden = hidden || inner
			continue
		}
		if !f.IsExported() {
			hidden = hidden || f.Name != "_"
			continue
		}
		if name == "-" {
			continue
		}
		if name == "" {
			name = Name(f.Name)
		}
		c, err := b.build(f.Type)
		if err != nil {
			return nil, false, within(err, f.Name)
		}
		for _, other := range into {
			if other.name == name {
				return nil, false, &Error{Offset: -1, Path: f.Name, Why: fmt.Sprintf("two fields of %v have the name `%s`", t, name)}
			}
		}
		into = append(into, field{name, at, c, options == "omitempty"})
	}
	return into, hidden, nil
}

func (b *builder) structure(c *codec, t reflect.Type) error {
	// Before the fields, which may refer to the type itself.
	var fields []field
	var required uint64 // a bit for each of the first 64
	missing := func(d *Decoder, seen uint64) error {
		if !d.Strict || required&^seen == 0 {
			return nil
		}
		return d.fail("the field `%s` is missing", fields[bits.TrailingZeros64(required&^seen)].name)
	}
	c.decode = func(d *Decoder, v reflect.Value) error {
		if d.isNil() {
			v.SetZero()
			return missing(d, 0)
		}
		var seen uint64
		n, err := d.MapLen()
		if err != nil {
			return err
		}
		if err := d.enter(); err != nil {
			return err
		}
		for range n {
			key, err := d.Text()
			if err != nil {
				return err
			}
			known := false
			for i := range fields {
				f := &fields[i]
				if string(key) != f.name {
					continue
				}
				known = true
				seen |= 1 << i
				if err := f.codec.decode(d, part(v, f.index)); err != nil {
					return within(err, f.name)
				}
				break
			}
			if !known {
				if _, err := d.Skip(); err != nil {
					return err
				}
			}
		}
		d.depth--
		return missing(d, seen)
	}
	c.encode = func(e *encoder, v reflect.Value) error {
		if err := e.enter(); err != nil {
			return err
		}
		n := 0
		for i := range fields {
			if !fields[i].omitEmpty || !part(v, fields[i].index).IsZero() {
				n++
			}
		}
		if err := e.dict(n); err != nil {
			return err
		}
		for i := range fields {
			f := &fields[i]
			value := part(v, f.index)
			if f.omitEmpty && value.IsZero() {
				continue
			}
			if err := e.string(f.name); err != nil {
				return err
			}
			if err := f.codec.encode(e, value); err != nil {
				return within(err, f.name)
			}
		}
		e.depth--
		return nil
	}
	var hidden bool
	var err error
	if fields, hidden, err = b.fields(t, nil, nil); err != nil {
		return err
	}
	for i, f := range fields {
		if !f.optional(t) {
			required |= 1 << i
		}
	}
	if hidden && len(fields) == 0 && !reflect.PointerTo(t).Implements(unmarshalerType) {
		return &Error{Offset: -1, Why: fmt.Sprintf("%v has no exported field: nothing of it would be kept", t)}
	}
	return nil
}

// optional reports whether the field may be missing.
func (f *field) optional(of reflect.Type) bool {
	return f.omitEmpty || of.FieldByIndex(f.index).Type.Kind() == reflect.Pointer
}

func part(v reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		v = v.Field(i)
	}
	return v
}

// Name returns the name of a field that has no tag: "TimeoutMs" is "timeout_ms", "PeerID" is "peer_id".
func Name(field string) string {
	letters := []rune(field)
	var name strings.Builder
	for i, letter := range letters {
		if unicode.IsUpper(letter) && i > 0 {
			// A word begins after a small letter, and with the last capital before one.
			small := !unicode.IsUpper(letters[i-1]) && letters[i-1] != '_'
			last := unicode.IsUpper(letters[i-1]) && i+1 < len(letters) && unicode.IsLower(letters[i+1])
			if small || last {
				name.WriteByte('_')
			}
		}
		name.WriteRune(unicode.ToLower(letter))
	}
	return name.String()
}
