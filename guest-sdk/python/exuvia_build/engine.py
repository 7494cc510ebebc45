"""The engine: built from its sources by cargo, once, and again when they have changed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

from .errors import MISSING, BuildError
from .modules import SDK

_FOLDER = SDK / "engine"
_TARGET = _FOLDER / "target"
_WASM = "wasm32-wasip1"
_RUST = "install Rust by https://rustup.rs, then `rustup target add wasm32-wasip1`"


def _inputs() -> list[pathlib.Path]:
    abi = SDK.parent.parent / "host/abi"
    folders = [_FOLDER / "src", abi / "src"]
    files = [_FOLDER / name for name in ("Cargo.toml", "Cargo.lock", "build.rs", "modules.txt")]
    return files + [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]


def _key() -> str:
    key = hashlib.sha256()
    for file in _inputs():
        data = file.read_bytes()
        key.update(f"{file.name} {len(data)}\n".encode() + data)
    return key.hexdigest()


def _need_rust() -> None:
    for tool in ("cargo", "rustc"):
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing, which builds the engine once: {_RUST}", MISSING)
    found = subprocess.run(["rustc", "--print", "target-libdir", "--target", _WASM], capture_output=True, text=True)
    if found.returncode or not pathlib.Path(found.stdout.strip()).is_dir():
        raise BuildError(f"Rust's target {_WASM} is missing: rustup target add {_WASM}", MISSING)


def _cargo() -> None:
    # The parser that RustPython shares with Ruff asks for a newer Rust than it needs.
    command = ["cargo", "build", "--release", "--locked", "--ignore-rust-version", "--target", _WASM, "--target-dir", str(_TARGET)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CARGO_UNSTABLE", "CARGO_PROFILE", "CARGO_RESOLVER"))}
    done = subprocess.run(command, cwd=_FOLDER, env=environment, stdout=sys.stderr)
    if done.returncode:
        raise BuildError("cargo could not build the engine: see above", done.returncode)


def engine() -> bytes:
    """The engine's bytes."""
    if not (_FOLDER / "Cargo.toml").is_file():
        raise BuildError(f"the engine's sources are not at {_FOLDER}: use the SDK in a checkout, or `pip install -e` of it")
    _TARGET.mkdir(exist_ok=True)
    built, stamp, key = _TARGET / "engine.wasm", _TARGET / "engine.key", _key()

    def is_fresh() -> bool:
        return built.is_file() and stamp.is_file() and stamp.read_text() == key

    if not is_fresh():
        _need_rust()
        # Several builds may find at once that there is no engine. The lock ends with who has it.
        with open(_TARGET / "engine.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_fresh():
                why = "the engine's sources have changed: building it anew" if built.is_file() else "building the engine, once: some minutes"
                print(why, file=sys.stderr)
                _cargo()
                shutil.copyfile(_TARGET / _WASM / "release/engine.wasm", built)
                stamp.write_text(key)
    return built.read_bytes()
