#!/bin/sh
# build.sh FOLDER: builds the components of the conformance suite into FOLDER: those of CPython as for every language, one
# in JavaScript, and one in Rust that was built for preview 1 of WASI and adapted.
set -e
[ -n "$1" ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3" >&2; exit 69; }
command -v npm >/dev/null || { echo "npm is missing: apt-get install nodejs npm" >&2; exit 69; }
tools=$out/tools
if ! [ -x "$tools/python/bin/componentize-py" ]; then
  python3 -m venv "$tools/python" || { echo "the module venv is missing: apt-get install python3-venv" >&2; exit 69; }
  "$tools/python/bin/pip" install --quiet componentize-py==0.25.1
  "$tools/python/bin/pip" install --quiet --no-compile --target "$tools/lib" u-msgpack-python==2.8.0
fi
[ -d "$tools/node_modules/@bytecodealliance/jco" ] ||
  npm install --prefix "$tools" --no-save --no-fund --no-audit --silent \
    @bytecodealliance/componentize-js@0.23.0 @bytecodealliance/jco@1.35.0
for version in one same two bad; do
  "$tools/python/bin/componentize-py" --quiet -d wit -w actor componentize \
    -p "conformance/$version" -p conformance -p "$tools/lib" guest -o "$out/$version.wasm"
  case $version in two) schema=2 ;; bad) schema=3 ;; *) schema=1 ;; esac
  ./sections.py "$out/$version.wasm" --state "conformance/state-$schema.json"
done
for guest in ping files; do
  "$tools/python/bin/componentize-py" --quiet -d wit -w actor componentize -p conformance -p "$tools/lib" "$guest" -o "$out/$guest.wasm"
done
"$tools/node_modules/.bin/componentize-js" conformance/counter.js --wit wit --world-name actor \
  --disable http --disable fetch-event --out "$out/javascript.wasm"
cargo build --quiet --release --locked --manifest-path conformance/rust/Cargo.toml --target wasm32-wasip1 \
  --target-dir conformance/rust/target
"$tools/node_modules/.bin/jco" new --wasi-reactor \
  conformance/rust/target/wasm32-wasip1/release/component_guest.wasm -o "$out/rust.wasm" >/dev/null
