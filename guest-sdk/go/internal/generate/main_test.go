package main

import (
	"bytes"
	"os"
	"testing"
)

func TestTheConstantsAreThoseOfTheContract(t *testing.T) {
	read := func(name string) []byte {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	want, err := Source(read("../../../abi.json"), read("../../../io.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, read("../sys/constants.go")) {
		t.Error("internal/sys/constants.go is stale: run `go generate` in guest-sdk/go")
	}
}
