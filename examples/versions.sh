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

# Versions that are features of the package; version 1 has none.
features() { # package, module, versions in the order to build them
    local package=$1 module=$2 version
    shift 2
    for version in "$@"; do
        cargo build --quiet --release --target "$target" --package "$package" --features "${version/v1/default}"
        cp "$built/$module.wasm" "target/versions/$module-$version.wasm"
    done
}

features exuvia-example-bank-account bank_account v2 v1
features exuvia-example-cart-cart cart_cart v3 v2 v1
cargo build --quiet --release --target "$target" --workspace
# Those that use files do so through WASI.
cargo build --quiet --release --target wasm32-wasip1 \
    --package exuvia-example-pipeline-source --package exuvia-example-pipeline-sink
