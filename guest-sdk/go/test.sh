#!/bin/sh
# test.sh: the tests of the SDK, outside Wasm. GO is the go command, else the one on the path.
set -eu
cd "$(dirname "$0")"
go=${GO:-go}
export GOTOOLCHAIN=local GOFLAGS=
"$go" vet ./...
"$go" test ./...
# Each for a moment only: longer by hand.
"$go" test ./msgpack -run '^$' -fuzz FuzzDecode -fuzztime "${FUZZ:-3s}"
"$go" test ./conformance/actor -run '^$' -fuzz FuzzMessages -fuzztime "${FUZZ:-3s}"
# In Wasm an address is a number, and the SDK looks for some.
GOOS=wasip1 GOARCH=wasm "$go" vet -unsafeptr=false . ./internal/sys ./files ./conformance/ping
