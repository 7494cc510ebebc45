# Thin names for `cargo xtask`, which also works without just.

# List the recipes.
default:
    @just --list

# Install the Wasm target and the test runner, if they are missing.
setup:
    cargo xtask setup

# Run the demo; arguments go to it.
demo *args:
    cargo xtask demo {{ args }}

# Run the benchmarks: `just bench --quick ping-pong`; `just bench --help` shows all options.
bench *args:
    cargo xtask bench {{ args }}

# Build every guest package to Wasm.
guests:
    cargo xtask guests

# Run all tests; `just test --long` runs the long forms too.
test *args:
    cargo xtask test {{ args }}

# Model-check the concurrent data structures.
loom *args:
    cargo xtask loom {{ args }}

# Check the house rules: crate table, headers, sizes, unsafe.
tidy:
    cargo xtask tidy

# Check the formatting.
fmt:
    cargo xtask fmt

# Run clippy; warnings are errors.
lint:
    cargo xtask lint

# Build the documentation; warnings are errors.
docs:
    cargo xtask docs

# What CI runs.
ci:
    .ci/run
