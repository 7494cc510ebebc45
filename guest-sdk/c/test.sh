#!/bin/sh
# Tests the SDK on this machine, with the sanitizers if the compiler has them, and that what was generated is fresh and that C++ compiles.
set -e
here=$(cd "$(dirname "$0")" && pwd)
python3 "$here/../generate.py" --check
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT
cc=${CC:-cc}
printf 'int main(void) { return 0; }' >"$out/try.c"
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all"
$cc $sanitize "$out/try.c" -o "$out/try" 2>/dev/null || sanitize=
$cc -std=c11 -g -O1 -Wall -Wextra -Werror $sanitize -I"$here/include" -DEXUVIA_HEAP_TEST "$here/tests/test.c" "$here/tests/unreached.c" \
    "$here/exuvia.c" -o "$out/test"
"$out/test"
"$here/exuvia-cc" -std=c++20 -fno-exceptions -Wall -Wextra -Werror "$here/tests/cplusplus.cc" -o "$out/cplusplus.wasm"
echo "c: C++ compiles"
