#!/bin/sh
# Builds the guests of the conformance suite into a folder: build.sh FOLDER. Exit status 69: there is no Zig.
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$here"
./exuvia-zig build -Dguests --prefix "$out" --prefix-exe-dir .
