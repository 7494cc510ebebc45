#!/bin/sh
# Tests the codec and the heap on this machine, that all of the SDK compiles, and that what was generated and formatted is fresh.
set -e
cd "$(dirname "$0")"
python3 ../generate.py --check
./exuvia-zig fmt --check build.zig src conformance tests
./exuvia-zig build test
# Every function, for Wasm: what is not used is not looked at otherwise.
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT
./exuvia-zig build --prefix "$out"
echo "zig: tests passed"
