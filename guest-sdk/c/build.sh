#!/bin/sh
# Builds the guests of the conformance suite into a folder: build.sh FOLDER. Exit status 69: there is no compiler.
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
build() { "$here/exuvia-cc" -std=c11 -Wall -Wextra -Werror "$@"; }
build "$here/conformance/ping.c" -o "$1/ping.wasm"
build -DVERSION=1 "$here/conformance/guest.c" -o "$1/one.wasm"
build -DVERSION=101 "$here/conformance/guest.c" -o "$1/same.wasm"
build -DVERSION=2 "$here/conformance/guest.c" -o "$1/two.wasm"
build -DVERSION=3 "$here/conformance/guest.c" -o "$1/bad.wasm"
# Zig has what exceptions need.
if command -v zig >/dev/null 2>&1 || python3 -c 'import ziglang' >/dev/null 2>&1; then
    "$here/exuvia-cc" -fwasm-exceptions -std=c11 -Wall -Wextra -Werror "$here/tests/longjmp.c" -o "$1/longjmp.wasm"
    "$here/exuvia-cc" -fwasm-exceptions -std=c++20 -Wall -Wextra -Werror "$here/tests/exceptions.cc" -lc++ -lc++abi -o "$1/exceptions.wasm"
    "$here/tests/lua/build.sh" "$1/lua.wasm"
else
    echo "c: no exceptions and no Lua: pip install ziglang" >&2
fi
