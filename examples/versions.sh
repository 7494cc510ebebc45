#!/usr/bin/env bash
# Builds every version of the examples' modules into
# target/versions/<module>-<version>.wasm, and leaves version 1 where the
# manifests look for it.
set -euo pipefail
cd "$(dirname "$0")"
target=wasm32-unknown-unknown
built=target/$target/release
mkdir -p target/versions

build() { # package, module, variable, versions in the order to build them
    local package=$1 module=$2 variable=$3 version
    shift 3
    for version in "$@"; do
        env "$variable=$version" cargo build --quiet --release --target "$target" --package "$package"
        cp "$built/$module.wasm" "target/versions/$module-$version.wasm"
    done
}

build exuvia-example-counter counter EXUVIA_COUNTER_VERSION v5 v4 v3b v3 v2 v1
build exuvia-example-ponger ponger EXUVIA_PONGER_VERSION v2 v1
for version in v2 v1; do
    # What the second version has more is behind this feature.
    feature=${version/v1/default}
    cargo build --quiet --release --target "$target" --package exuvia-example-bank-account --features "$feature"
    cp "$built/bank_account.wasm" "target/versions/bank_account-$version.wasm"
done
cargo build --quiet --release --target "$target" --workspace
