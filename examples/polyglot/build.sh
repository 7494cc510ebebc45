#!/bin/sh
# build.sh LANGUAGE [VERSION]: builds the station in a language into build/LANGUAGE.wasm. VERSION 2 is the same source with another
# number in it, and goes into build/LANGUAGE-2.wasm.
set -e
cd "$(dirname "$0")"
language=$1
here=$language
out=$language
if [ "${2:-1}" != 1 ]; then
    out=$language-$2
    here=build-$out
    rm -rf "$here"
    cp -R "$language" "$here"
    find "$here" -name 'main.*' -exec sed -i.before "s/VERSION = 1/VERSION = $2/" {} +
fi
sdk=../../guest-sdk
mkdir -p build
packages() { # The two that come by npm.
    [ -d node_modules/esbuild ] || { command -v npm >/dev/null || { echo "npm is missing: apt-get install nodejs npm" >&2; exit 69; }; npm install --no-fund --no-audit --silent; }
}
case $language in
c) $sdk/c/exuvia-cc -Wall -Wextra "$here/main.c" -o "build/$out.wasm" ;;
zig)
    # Its cache is the same for all versions.
    (cd "$here" && ../$sdk/zig/exuvia-zig build --cache-dir ../build/zig-cache --prefix ../build/zig)
    cp build/zig/bin/zig.wasm "build/$out.wasm"
    ;;
assemblyscript)
    packages
    node node_modules/exuvia-assemblyscript/bin/exuvia-as.mjs build "$here/main.ts" --out "build/$out.wasm" --state "$here/state.json"
    ;;
go) # The second command writes what the code says of its state into the module.
    (cd "$here" && GOOS=wasip1 GOARCH=wasm go build -trimpath -buildmode=c-shared -o "../build/$out.wasm" . && go run . "../build/$out.wasm")
    ;;
javascript)
    packages
    node node_modules/exuvia-actor/bin/exuvia-js.mjs build "$here/main.ts" --out "build/$out.wasm"
    ;;
python) $sdk/python/exuvia-py build "$here/main.py" -o "build/$out.wasm" ;;
rust)
    if [ "$out" = rust ]; then unset STATION_VERSION_2; else export STATION_VERSION_2=1; fi
    cargo build --quiet --release --target wasm32-unknown-unknown --target-dir ../target --package exuvia-example-polyglot-rust
    cp ../target/wasm32-unknown-unknown/release/polyglot_rust.wasm "build/$out.wasm"
    ;;
*)
    echo "there is no station in $language" >&2
    exit 64
    ;;
esac
if [ "$here" != "$language" ]; then rm -rf "$here"; fi
