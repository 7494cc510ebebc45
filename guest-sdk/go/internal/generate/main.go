// Command generate writes constants.go from guest-sdk/abi.json and the tags of guest-sdk/io.md. It runs in the
// folder of the SDK: go generate.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/format"
	"log"
	"os"
	"regexp"
	"strings"
)

type row struct {
	Value   int
	Code    int
	Name    string
	Meaning string
	Takes   string
}

type tables struct {
	ABI, Minor                                                                        int
	Run, Kinds, Codes, Reasons, Receive, Spawn, Demonitor, Priority, Log, Clock, Info []row
	Access                                                                            []row
}

func main() {
	log.SetFlags(0)
	abi, err := os.ReadFile("../abi.json")
	if err != nil {
		log.Fatal(err)
	}
	io, err := os.ReadFile("../io.md")
	if err != nil {
		log.Fatal(err)
	}
	source, err := Source(abi, io)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("internal/sys/constants.go", source, 0o644); err != nil {
		log.Fatal(err)
	}
}

// Source returns the text of constants.go.
func Source(abi, io []byte) ([]byte, error) {
	var t tables
	if err := json.Unmarshal(abi, &t); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "// Code generated from guest-sdk/abi.json and guest-sdk/io.md by go generate; DO NOT EDIT.\n\npackage sys\n\n")
	fmt.Fprintf(&out, "// The version of the ABI.\nconst (\nABI = %d\nMinor = %d\n)\n\n", t.ABI, t.Minor)
	for _, table := range []struct {
		doc, prefix string
		rows        []row
	}{
		{"What `run` returns.", "Run", t.Run},
		{"The kinds of messages.", "Kind", t.Kinds},
		{"What host calls return.", "Code", t.Codes},
		{"Exit reasons of the host.", "Reason", t.Reasons},
		{"Modes and flags of `receive`.", "Receive", t.Receive},
		{"Flags of `spawn`.", "Spawn", t.Spawn},
		{"Flags of `demonitor`.", "Demonitor", t.Demonitor},
		{"Priorities.", "Priority", t.Priority},
		{"Levels of the log.", "Log", t.Log},
		{"Clocks.", "Clock", t.Clock},
		{"What `info` tells.", "Info", t.Info},
		{"Who may use a table.", "Access", t.Access},
	} {
		if len(table.rows) == 0 {
			return nil, fmt.Errorf("abi.json has no table for: %s", table.doc)
		}
		fmt.Fprintf(&out, "// %s\nconst (\n", table.doc)
		for _, r := range table.rows {
			value := r.Value
			if table.prefix == "Reason" {
				value = r.Code
			}
			fmt.Fprintf(&out, "%s%s = %d", table.prefix, camel(r.Name), value)
			if why := r.Meaning + r.Takes; why != "" {
				fmt.Fprintf(&out, " // %s", links.ReplaceAllString(why, "$1"))
			}
			out.WriteString("\n")
		}
		out.WriteString(")\n\n")
	}
	found := tags.FindAllSubmatch(io, -1)
	if len(found) == 0 {
		return nil, fmt.Errorf("io.md has no table of tags")
	}
	out.WriteString("// Tags of the host.\nconst (\n")
	for _, tag := range found {
		fmt.Fprintf(&out, "Tag%s uint32 = %s\n", camel(string(tag[2])), tag[1])
	}
	out.WriteString(")\n")
	return format.Source(out.Bytes())
}

var (
	links = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	tags  = regexp.MustCompile(`(?m)^\| (0x[0-9a-f]{8}) \| ([A-Z_]+) \|`)
)

// camel turns TOO_BIG into TooBig.
func camel(name string) string {
	var out strings.Builder
	for word := range strings.SplitSeq(name, "_") {
		if word == "HTTP" || word == "OK" || word == "ABI" {
			out.WriteString(word)
			continue
		}
		out.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return out.String()
}
