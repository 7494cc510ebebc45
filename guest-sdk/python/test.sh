#!/bin/sh
# The SDK's own tests, in CPython: no host is needed.
set -e
cd "$(dirname "$0")"
command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3" >&2; exit 69; }
if cargo fmt --version >/dev/null 2>&1; then cargo fmt --check --manifest-path engine/Cargo.toml; fi
python3 -B -m unittest discover --start-directory test --top-level-directory .
