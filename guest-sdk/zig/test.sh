#!/bin/sh
# Tests the codec and the heap on this machine, and that what was generated and formatted is fresh.
set -e
cd "$(dirname "$0")"
python3 generate.py --check
./exuvia-zig fmt --check build.zig src conformance
./exuvia-zig build test
echo "zig: tests passed"
