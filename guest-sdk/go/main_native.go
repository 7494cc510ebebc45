//go:build !wasip1

package exuvia

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

// Main is what a module's main function calls. In Wasm it does nothing. Run outside Wasm, with the paths of modules, it
// writes into them what their processes can be sent, so that `exuvia describe` and `exuvia call` know it:
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

// section is the name of the custom section.
const section = "exuvia.protocol"

func describe(path string) error {
	module, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(module, []byte("\x00asm\x01\x00\x00\x00")) {
		return fmt.Errorf("%s is no Wasm module", path)
	}
	content := append([]byte{byte(len(section))}, section...)
	content = append(content, Protocol()...)
	module = append(module, 0)
	module = binary.AppendUvarint(module, uint64(len(content)))
	module = append(module, content...)
	return os.WriteFile(path, module, 0o644)
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
