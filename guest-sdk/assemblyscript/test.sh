#!/bin/sh
# The SDK's own tests, in Node: no host is needed.
set -e
cd "$(dirname "$0")"
command -v npm >/dev/null || { echo "node and npm are missing: apt-get install nodejs npm" >&2; exit 69; }
[ -d node_modules/@msgpack ] || npm install --no-fund --no-audit --silent
node generate.mjs --check
node --test test/sdk.test.mjs
