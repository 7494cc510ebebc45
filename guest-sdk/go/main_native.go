//go:build !wasip1

package exuvia

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

// Main is what a module's main function calls. In Wasm it does nothing. Run outside Wasm, with the paths of modules, it
// writes into them what their processes can be sent, so that `exuvia describe` and `exuvia call` know it, and what their
// state is, for `exuvia check OLD NEW`:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o counter.wasm . && go run . counter.wasm
func Main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "This is the code of Exuvia processes. Build it with GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o NAME.wasm, and describe it with: go run . NAME.wasm")
		os.Exit(2)
	}
	for _, path := range os.Args[1:] {
		if err := describe(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func describe(path string) error {
	module, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(module, []byte("\x00asm\x01\x00\x00\x00")) {
		return fmt.Errorf("%s is no Wasm module", path)
	}
	module = withSection(module, "exuvia.protocol", Protocol())
	if state := State(); state != nil {
		module = withSection(module, "exuvia.state", state)
	}
	return os.WriteFile(path, module, 0o644)
}

func withSection(module []byte, name string, data []byte) []byte {
	content := append([]byte{byte(len(name))}, name...)
	content = append(content, data...)
	module = append(module, 0)
	module = binary.AppendUvarint(module, uint64(len(content)))
	return append(module, content...)
}

// Protocol returns what the processes can be sent, one line of JSON for each handler, as the custom section
// exuvia.protocol has it.
func Protocol() []byte {
	type parameter struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	type function struct {
		Name       string      `json:"name"`
		Message    string      `json:"message"`
		Parameters []parameter `json:"parameters"`
		Reply      string      `json:"reply,omitempty"`
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for _, name := range me.names {
		h := me.handlers[name]
		f := function{Name: msgpack.Name(name), Message: name, Parameters: []parameter{}}
		for _, field := range msgpack.Fields(h.parameters) {
			f.Parameters = append(f.Parameters, parameter{field.Name, typeOf(field)})
		}
		if h.reply != nil {
			f.Reply = typeName(h.reply)
		}
		if err := encoder.Encode(f); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

func typeOf(field msgpack.Field) string {
	name := typeName(field.Type)
	if field.Optional && field.Type.Kind() != reflect.Pointer {
		return "Option<" + name + ">"
	}
	return name
}

// typeName writes a type for people. What begins with "Option<" may be left out.
func typeName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		return "Option<" + typeName(t.Elem()) + ">"
	}
	return t.String()
}

// State returns what the state is and which schemas are taken, as the custom section exuvia.state has it; nil if there is
// none to describe.
func State() []byte {
	if me.state == nil {
		return nil
	}
	var loads any = "fields"
	if me.migrates {
		loads = "any"
		if len(me.loads) > 0 {
			loads = me.loads
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(struct {
		Schema int32  `json:"schema"`
		Loads  any    `json:"loads"`
		Type   string `json:"type"`
	}{me.schema, loads, saved(me.state, nil)}); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// saved writes a type in the words of the section: what it is in MessagePack. Of a type that contains itself, or that is
// encoded in a way of its own, it is the name.
func saved(t reflect.Type, outer []reflect.Type) string {
	named := "'" + strings.ReplaceAll(t.String(), "'", "") + "'"
	if slices.Contains(outer, t) {
		return named
	}
	outer = append(slices.Clip(outer), t)
	switch {
	case t == reflect.TypeFor[Pid]():
		return "pid"
	case t == reflect.TypeFor[msgpack.Raw]():
		return "any"
	case t == reflect.TypeFor[msgpack.Ext](), t == reflect.TypeFor[time.Time](),
		t.Implements(reflect.TypeFor[msgpack.Marshaler]()),
		reflect.PointerTo(t).Implements(reflect.TypeFor[msgpack.Unmarshaler]()):
		return named
	}
	switch t.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return "int"
	case reflect.Float32, reflect.Float64:
		return "float"
	case reflect.String:
		return "text"
	case reflect.Pointer:
		return "Option<" + saved(t.Elem(), outer) + ">"
	case reflect.Interface:
		return "any"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "List<" + saved(t.Elem(), outer) + ">"
	case reflect.Map:
		return "Map<" + saved(t.Key(), outer) + ", " + saved(t.Elem(), outer) + ">"
	case reflect.Struct:
		var fields []string
		for _, field := range msgpack.Fields(t) {
			// What is missing keeps its zero value, and what is optional may not be saved.
			kind := saved(field.Type, outer)
			if field.Optional && field.Type.Kind() != reflect.Pointer {
				kind = "Option<" + kind + ">"
			}
			fields = append(fields, field.Name+"?: "+kind)
		}
		return "{" + strings.Join(fields, ", ") + "}"
	}
	return named
}
