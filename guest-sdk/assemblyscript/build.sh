#!/bin/sh
# build.sh FOLDER: builds the guests of the conformance suite into FOLDER.
set -e
[ -n "$1" ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
command -v node >/dev/null || { echo "node is missing: apt-get install nodejs npm" >&2; exit 69; }
[ -d node_modules/assemblyscript ] || { command -v npm >/dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 69; }; npm install --no-fund --no-audit --silent; }
build() { # name, version, reply, schema
  node bin/exuvia-as.mjs build conformance/one.ts --out "$out/$1.wasm" --use VERSION="$2" --use REPLY="$3" --use SCHEMA="$4" --state "conformance/state-$4.json"
}
build one 1 1 1
build same 1 101 1
build two 2 2 2
build bad 3 3 3
node bin/exuvia-as.mjs build conformance/ping.ts --out "$out/ping.wasm"
