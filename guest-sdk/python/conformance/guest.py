"""The guest of the conformance suite: see ../../conformance/README.md. `one`, `same`, `two` and `bad` are this script,
each with a module `version` of its own."""

import os
import random
from dataclasses import field
from typing import Any, BinaryIO

from version import REPLY, SCHEMA, VERSION

from exuvia import (
    Ended, HostError, Pid, Refusal, Refused, Request, actor, call, call_sync, check, exit, keep, link, log, message, monitor,
    own_pid, receive_sync, register, request, send, send_after, spawn, stop, transient, trap_exit, whereis,
)


def wrap(count: int) -> int:
    """The count has 64 bits, as in the other languages."""
    return (count + (1 << 63)) % (1 << 64) - (1 << 63)


def failure(error: HostError | Refused) -> dict[str, str]:
    """How `Call`, `CallKeep` and `Await` reply."""
    return {"Err": f"refused: {error}" if isinstance(error, Refused) else error.code.lower()}


def outer() -> None:
    inner()


def inner() -> None:
    raise RuntimeError("the trap that was asked for")


@actor(schema=SCHEMA, loads=range(1, SCHEMA))
class Guest:
    count: int = 0
    notes: list[str] = field(default_factory=list)
    kept: list[Request] = field(default_factory=list)
    file: BinaryIO | None = transient()

    @classmethod
    def init(cls, start: int = 0) -> "Guest":
        return cls(count=start)

    def save(self) -> dict[str, Any]:
        return {"count" if SCHEMA == 1 else "total": self.count, "notes": self.notes, "requests": self.kept}

    @classmethod
    def load(cls, saved: Any, schema: int) -> "Guest":
        if not 1 <= schema <= SCHEMA:
            raise Refusal(f"the schema {schema} is unknown")
        saved = check(dict[str, Any], saved, "the state")
        name = "count" if schema == 1 else "total"
        count = check(int, saved.get(name), name)
        if VERSION == 3 and count == 13:
            raise RuntimeError("the count is 13")
        if VERSION == 3 and count % 2:
            raise Refusal(f"the count {count} is odd")
        notes = check(list[str], saved.get("notes"), "notes")
        # No other language writes these.
        return cls(count=count, notes=notes, kept=check(list[Request] | None, saved.get("requests"), "requests") or [])

    @request
    def version(self) -> int:
        return REPLY

    @request
    def echo(self, value: Any) -> Any:
        return value

    @message
    def add(self, by: int) -> None:
        self.count = wrap(self.count + by)

    @request
    def get(self) -> int:
        return self.count

    @request
    def length(self, bytes: bytes) -> int:
        return len(bytes)

    @message
    def note(self, text: str) -> None:
        self.notes.append(text)

    @request("Notes")
    def take_notes(self) -> list[str]:
        notes, self.notes = self.notes, []
        return notes

    @request("Keep")
    def keep_it(self) -> None:
        self.kept.append(keep())

    @request
    def release(self, value: Any) -> None:
        kept, self.kept = self.kept, []
        for one in kept:
            one.reply(value)

    @request
    def call(self, to: Pid, value: Any, timeout_ms: int) -> dict[str, Any]:
        try:
            return {"Ok": call_sync(to, "Echo", value=value, timeout=timeout_ms / 1000)}
        except (HostError, Refused) as error:
            return failure(error)

    @request
    def call_keep(self, to: Pid, timeout_ms: int) -> dict[str, Any]:
        try:
            return {"Ok": call_sync(to, "Keep", timeout=timeout_ms / 1000)}
        except (HostError, Refused) as error:
            return failure(error)

    @request("Await")
    async def wait(self, to: Pid, timeout_ms: int) -> dict[str, Any]:
        try:
            return {"Ok": await call(to, "Keep", timeout=timeout_ms / 1000)}
        except (HostError, Refused) as error:
            return failure(error)

    @request
    def select(self, tag: int, timeout_ms: int) -> str | None:
        received = receive_sync(tag=tag, timeout=timeout_ms / 1000)
        return None if received is None else received.value

    @request
    def timers(self, delays_ms: list[int]) -> None:
        for delay in delays_ms:
            send_after(own_pid(), delay / 1000, "Note", text=f"timer {delay}")

    @request
    def watch(self, pid: Pid) -> None:
        monitor(pid)

    @request
    def join(self, pid: Pid) -> None:
        trap_exit()
        link(pid)

    @request
    def register(self, name: str) -> None:
        try:
            register(name)
        except HostError as error:
            raise Refusal(str(error)) from None

    @request
    def whereis(self, name: str) -> Pid | None:
        return whereis(name)

    @request
    def child(self, start: int) -> Pid:
        return spawn({"start": start}, link=True).pid

    @request
    def send(self, to: Pid, text: str) -> None:
        send(to, "Note", text=text)

    @message
    def stop(self, code: int, text: str) -> None:
        if code:
            exit(code, text)
        stop()

    @message
    def trap(self) -> None:
        outer()

    @request
    def fill(self, bytes: int) -> int:
        return len(bytearray(b"\x01") * bytes)

    @request
    def read_file(self, path: str) -> str:
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except OSError as error:
            raise Refusal(str(error)) from None

    @request
    def open_file(self, path: str) -> None:
        try:
            self.file = open(path, "rb", buffering=0)
            self.file.read(1)
        except OSError as error:
            raise Refusal(str(error)) from None

    @request
    def read_on(self) -> str:
        try:
            byte = self.file.read(1) if self.file else b""
        except OSError as error:
            raise Refusal(str(error)) from None
        if not byte:
            raise Refusal("there is no open file, or it is at its end")
        return byte.decode()

    @request
    def random(self) -> bytes:
        # Both sources: that of `random`, and that of the system.
        return random.randbytes(8) + os.urandom(8)

    @request
    def log(self, text: str) -> None:
        log.info(text)

    def on_down(self, ended: Ended) -> None:
        self.notes.append(f"down {ended.reason.code}")

    def on_exit(self, ended: Ended) -> None:
        self.notes.append(f"exit {ended.reason.code}")
