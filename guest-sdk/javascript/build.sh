#!/bin/sh
# build.sh FOLDER: builds the guests of the conformance suite into FOLDER.
set -e
[ -n "$1" ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
command -v node >/dev/null || { echo "node is missing: apt-get install nodejs npm" >&2; exit 69; }
[ -d node_modules/esbuild ] || { command -v npm >/dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 69; }; npm install --no-fund --no-audit --silent; }
build() { # name, version, reply, schema
  node bin/exuvia-js.mjs build conformance/one.js --out "$out/$1.wasm" \
    --define VERSION="$2" --define REPLY="$3" --define SCHEMA="$4"
}
build one 1 1 1
build same 1 101 1
build two 2 2 2
build bad 3 3 3
node bin/exuvia-js.mjs build conformance/ping.js --out "$out/ping.wasm"
