#!/bin/sh
# build.sh FOLDER: builds the guests of the conformance suite into FOLDER.
set -e
[ -n "$1" ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3" >&2; exit 69; }
for version in one same two bad; do
  ./exuvia-py build conformance/guest.py --path "conformance/$version" --out "$out/$version.wasm"
done
./exuvia-py build conformance/ping.py --out "$out/ping.wasm"
