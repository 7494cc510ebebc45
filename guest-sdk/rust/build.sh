#!/usr/bin/env bash
# Builds the modules of guest-sdk/conformance into the folder that is named.
set -euo pipefail
to=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")"
build() { # file, feature
    # With lines of source for backtraces.
    cargo build --quiet --release --target wasm32-wasip1 --package exuvia-conformance-guest --features "$2" \
        --config 'profile.release.debug="line-tables-only"' --config 'profile.release.strip="none"'
    cp target/wasm32-wasip1/release/exuvia_conformance_guest.wasm "$to/$1.wasm"
}
build ping ping
build bad bad
build two two
build one default
# Code that was edited is the same crate: a feature would make it another one, whose data lies elsewhere.
EXUVIA_CONFORMANCE_SAME=1 build same default
