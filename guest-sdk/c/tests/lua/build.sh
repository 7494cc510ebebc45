#!/bin/sh
# Builds PUC Lua as a guest: build.sh MODULE. The sources come from crates.io, which has them in a crate, pinned in source/Cargo.lock.
set -e
out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")"
mkdir -p target
made_of=$(cat source/Cargo.toml source/Cargo.lock | cksum)
if [ "$(cat target/made-of 2>/dev/null)" != "$made_of" ]; then
    rm -rf target/crates
    (cd source && cargo vendor --quiet --locked ../target/crates >/dev/null)
    echo "$made_of" >target/made-of
fi
lua=target/crates/lua-src/lua-5.4.8
parts=
for part in lapi lcode lctype ldebug ldo ldump lfunc lgc llex lmem lobject lopcodes lparser lstate lstring ltable ltm lundump lvm lzio \
    lauxlib lbaselib lcorolib lmathlib lstrlib ltablib; do
    parts="$parts $lua/$part.c"
done
# There are no signals, and strings are hashed alike in all processes: the start asks for no time.
../../exuvia-cc -fwasm-exceptions -w -O2 -Dl_signalT=int '-Dluai_makeseed(L)=0x5eed' -I$lua actor.c $parts -o "$out"
