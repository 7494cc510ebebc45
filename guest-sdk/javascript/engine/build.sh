#!/bin/sh
# Builds engine.wasm, once: QuickJS-ng and engine.c, by the C compiler of Zig. Half a minute.
# Needs python3 with pip; the sources and the compiler come from the Python package index, pinned
# in quickjs.txt and zig.txt, and checked by their hashes.
set -e
cd "$(dirname "$0")"
export PIP_ROOT_USER_ACTION=ignore
build=${EXUVIA_ENGINE_BUILD:-target}
out=${1:-engine.wasm}
if ! python3 -m pip --version >/dev/null 2>&1; then
  echo "python3 with pip is missing, which brings the compiler: apt-get install python3-pip" >&2
  exit 69
fi
mkdir -p "$build"
# What is kept was made of these files; if they were others then, it goes.
made_of() { # where their checksum is, the files, what was made
  now=$(cat $2 | cksum)
  [ "$(cat "$build/$1" 2>/dev/null)" = "$now" ] || (cd "$build" && rm -rf $3 && echo "$now" >"$1")
}
made_of zig.sum zig.txt zig
made_of download.sum quickjs.txt "quickjs_ng-*"
made_of objects.sum "quickjs.txt zig.txt frame.h build.sh" "quickjs *.o"
if [ ! -f "$build/quickjs/quickjs.c" ]; then
  [ -f "$build"/quickjs_ng-*.tar.gz ] || python3 -m pip download --quiet --disable-pip-version-check --no-deps \
    --no-binary :all: --require-hashes --dest "$build" --requirement quickjs.txt
  mkdir -p "$build/quickjs"
  tar xzf "$build"/quickjs_ng-*.tar.gz -C "$build/quickjs" --strip-components=2 --wildcards '*/upstream-quickjs/*'
  tar xzf "$build"/quickjs_ng-*.tar.gz -C "$build/quickjs" --strip-components=1 --wildcards '*/LICENSE'
fi
if [ -z "$ZIG" ]; then
  [ -d "$build/zig/ziglang" ] || python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    --target "$build/zig" --requirement zig.txt
  PYTHONPATH=$build/zig
  export PYTHONPATH
  ZIG="python3 -m ziglang"
fi
flags="--target=wasm32-wasi -O2 -std=gnu17 -D_GNU_SOURCE -DQUICKJS_NG_BUILD -DNDEBUG -fno-sanitize=all
  -D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_PROCESS_CLOCKS -I$build/quickjs -I. -include frame.h"
# A wasm module cannot see how much of the host's stack it uses, only the part of its frames that lies
# in memory. So each function that asks whether it is too deep gets a frame that is as large here as
# there: then a recursion without an end is a RangeError, and not the end of the process.
if [ ! -f "$build/quickjs/padded" ]; then
  sed -i -e 's/^\( *\)if (js_check_stack_overflow(rt,/\1FRAME_OF_CALL if (js_check_stack_overflow(rt,/' \
    -e 's/^\( *\)if (js_check_stack_overflow(\([^r]\)/\1FRAME_HERE if (js_check_stack_overflow(\2/' "$build/quickjs/quickjs.c"
  [ "$(grep -c "FRAME_.* if" "$build/quickjs/quickjs.c")" -ge 20 ] || { echo "quickjs.c has changed: see build.sh" >&2; exit 1; }
  touch "$build/quickjs/padded"
fi
for part in quickjs libregexp libunicode dtoa; do
  [ -f "$build/$part.o" ] || $ZIG cc $flags -w -c "$build/quickjs/$part.c" -o "$build/$part.o"
done
for part in engine calls codec heap; do
  $ZIG cc $flags -Wall -Wextra -Wno-unused-parameter -Werror -c $part.c -o "$build/$part.o"
done
# The stack comes first, and its pointer is exported: so the host knows what of it is dead.
$ZIG cc $flags -mexec-model=reactor "$build"/engine.o "$build"/calls.o "$build"/codec.o "$build"/heap.o \
  "$build"/quickjs.o "$build"/libregexp.o "$build"/libunicode.o "$build"/dtoa.o -o "$out" \
  -Wl,-z,stack-size=262144 -Wl,--export=__stack_pointer -Wl,--export=exuvia_script \
  -Wl,--export=__heap_base -Wl,--export-memory -Wl,--strip-all -lwasi-emulated-signal -lwasi-emulated-process-clocks
