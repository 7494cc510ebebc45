"""The guest of the conformance suite as a component: see ../../conformance/README.md. `one`, `same`, `two` and `bad` are
this script, each with a module `version` of its own."""

import os
import random
from typing import Any, BinaryIO

import umsgpack
import wit_world
from componentize_py_types import Err
from version import REPLY, SCHEMA, VERSION
from wit_world.imports import host
from wit_world.imports.types import (
    CallError_Failed, CallError_Refused, Error, Kind, LogLevel, Message, Pid, Selection_Tag, SpawnFlags,
)

# The tag of a reply that is no.
REFUSED = 0xFFFF_FFFF


class Refusal(Exception):
    """A request or a state is refused."""


def pack(value: Any) -> bytes:
    return umsgpack.packb(value)


def unpack(data: bytes) -> Any:
    return umsgpack.unpackb(data)


def to_bytes(pid: Pid) -> bytes:
    return pid.node.to_bytes(8, "little") + pid.process.to_bytes(8, "little")


def to_pid(data: Any) -> Pid:
    if not isinstance(data, bytes) or len(data) != 16:
        raise Refusal("a pid is a binary of 16 bytes")
    return Pid(int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little"))


def need(fields: dict[str, Any], name: str, of: type) -> Any:
    value = fields.get(name)
    if not isinstance(value, of) or (of is int and isinstance(value, bool)):
        raise Refusal(f"`{name}` is missing, or no {of.__name__}")
    return value


def wrap(count: int) -> int:
    """The count has 64 bits, as in the other languages."""
    return (count + (1 << 63)) % (1 << 64) - (1 << 63)


def failure(error: Err) -> str:
    match error.value:
        case CallError_Refused(reason):
            return f"refused: {reason}"
        case CallError_Failed(Error.NO_PROCESS):
            return "noproc"
        case CallError_Failed(error):
            return error.name.lower()
    return str(error.value)


def outer() -> None:
    inner()


def inner() -> None:
    raise RuntimeError("the trap that was asked for")


class Guest:
    def __init__(self) -> None:
        self.count = 0
        self.notes: list[str] = []
        self.file: BinaryIO | None = None
        # The sender and the reference of requests that are answered later.
        self.kept: list[tuple[Pid, int]] = []
        # The same for those that wait for a reply, by its reference, and the timer that ends the wait.
        self.waiting: dict[int, tuple[Pid, int, int]] = {}

    def handle(self, name: str, fields: dict[str, Any], message: Message) -> Any:
        """Handles a message or a request; Ellipsis: it is answered later."""
        match name:
            case "Version":
                return REPLY
            case "Echo":
                return fields.get("value")
            case "Add":
                self.count = wrap(self.count + need(fields, "by", int))
            case "Get":
                return self.count
            case "Length":
                return len(need(fields, "bytes", bytes))
            case "Note":
                self.notes.append(need(fields, "text", str))
            case "Notes":
                notes, self.notes = self.notes, []
                return notes
            case "Keep":
                self.kept.append((message.sender, message.reference))
                return ...
            case "Release":
                kept, self.kept = self.kept, []
                for sender, reference in kept:
                    host.reply(sender, reference, 0, pack(fields.get("value")))
            case "Call" | "CallKeep":
                what = {"Echo": {"value": fields.get("value")}} if name == "Call" else "Keep"
                try:
                    return {"Ok": unpack(host.call(to_pid(fields.get("to")), 0, pack(what), need(fields, "timeout_ms", int)))}
                except Err as error:
                    return {"Err": failure(error)}
            case "Await":
                reference = host.request(to_pid(fields.get("to")), 0, pack("Keep"))
                timer = host.send_after(host.self(), 1, reference.to_bytes(8, "little"), need(fields, "timeout_ms", int))
                self.waiting[reference] = (message.sender, message.reference, timer)
                return ...
            case "Select":
                try:
                    found = host.receive(Selection_Tag(need(fields, "tag", int)), need(fields, "timeout_ms", int))
                except Err:
                    return None
                return unpack(found.payload)
            case "Timers":
                for delay in need(fields, "delays_ms", list):
                    host.send_after(host.self(), 0, pack({"Note": {"text": f"timer {delay}"}}), delay)
            case "Watch":
                host.monitor(to_pid(fields.get("pid")))
            case "Join":
                host.trap_exit(True)
                host.link(to_pid(fields.get("pid")))
            case "Register":
                try:
                    host.register(need(fields, "name", str), host.self())
                except Err as error:
                    raise Refusal(error.value.name) from None
            case "Whereis":
                pid = host.whereis(need(fields, "name", str))
                return pid and to_bytes(pid)
            case "Child":
                pid, _ = host.spawn("", pack({"start": need(fields, "start", int)}), SpawnFlags.LINK)
                return to_bytes(pid)
            case "Send":
                host.send(to_pid(fields.get("to")), 0, pack({"Note": {"text": need(fields, "text", str)}}))
            case "Stop":
                host.exit(need(fields, "code", int), need(fields, "text", str))
            case "Trap":
                outer()
            case "Fill":
                return len(bytearray(b"\x01") * need(fields, "bytes", int))
            case "ReadFile":
                try:
                    with open(need(fields, "path", str), encoding="utf-8") as file:
                        return file.read()
                except OSError as error:
                    raise Refusal(str(error)) from None
            case "OpenFile":
                try:
                    self.file = open(need(fields, "path", str), "rb", buffering=0)
                    self.file.read(1)
                except OSError as error:
                    raise Refusal(str(error)) from None
            case "ReadOn":
                try:
                    byte = self.file.read(1) if self.file else b""
                except OSError as error:
                    raise Refusal(str(error)) from None
                if not byte:
                    raise Refusal("there is no open file, or it is at its end")
                return byte.decode()
            case "Random":
                return random.randbytes(8) + os.urandom(8)
            case "Log":
                host.log(LogLevel.INFO, need(fields, "text", str))
            case _:
                raise Refusal(f"there is no `{name}`")
        return None

    def take(self, message: Message) -> Any:
        """Reads the payload and handles it."""
        try:
            value = unpack(message.payload)
        except Exception:
            raise Refusal("the payload is no MessagePack") from None
        if isinstance(value, dict) and len(value) == 1:
            [(name, fields)] = value.items()
        else:
            name, fields = value, {}
        if not isinstance(name, str) or not isinstance(fields, dict):
            raise Refusal("neither a name nor a map of one name")
        return self.handle(name, fields, message)


guest = Guest()


def seed() -> None:
    """The generator was seeded when the component was built."""
    random.seed(os.urandom(16))


class WitWorld(wit_world.WitWorld):
    def schema(self) -> int:
        return SCHEMA

    def init(self, arguments: bytes) -> None:
        seed()
        try:
            start = unpack(arguments) if arguments else None
            if start is not None:
                guest.count = need(start, "start", int)
        except Exception as error:
            raise Err(f"the arguments are neither nil nor a map with `start`: {error}") from None

    def handle_message(self, message: Message) -> None:
        if message.kind == Kind.DOWN and message.reference in guest.waiting:
            self.answer(message.reference, {"Err": "noproc"})
        elif message.kind == Kind.REPLY and message.reference in guest.waiting:
            is_refused = message.tag == REFUSED
            self.answer(
                message.reference,
                {"Err": f"refused: {message.payload.decode()}"} if is_refused else {"Ok": unpack(message.payload)},
            )
        elif message.kind == Kind.TIMER and message.tag == 1:
            reference = int.from_bytes(message.payload, "little")
            if reference in guest.waiting:
                host.demonitor(reference, True)
                self.answer(reference, {"Err": "timeout"})
        elif message.kind == Kind.DOWN:
            guest.notes.append(f"down {message.reason}")
        elif message.kind == Kind.EXIT:
            guest.notes.append(f"exit {message.reason}")
        elif message.kind in (Kind.MESSAGE, Kind.TIMER):
            try:
                guest.take(message)
            except Refusal as why:
                host.log(LogLevel.WARN, f"a message that is not understood: {why}")

    def answer(self, reference: int, value: Any) -> None:
        sender, of, timer = guest.waiting.pop(reference)
        host.cancel_timer(timer)
        host.reply(sender, of, 0, pack(value))

    def handle_request(self, message: Message) -> bytes | None:
        try:
            value = guest.take(message)
        except Refusal as why:
            raise Err(str(why)) from None
        return None if value is ... else pack(value)

    def save(self) -> bytes:
        return pack({
            "count" if SCHEMA == 1 else "total": guest.count,
            "notes": guest.notes,
            "kept": [[to_bytes(sender), reference] for sender, reference in guest.kept],
            "waiting": [[reference, to_bytes(sender), of, timer] for reference, (sender, of, timer) in guest.waiting.items()],
        })

    def load(self, schema: int, state: bytes) -> None:
        seed()
        try:
            if not 1 <= schema <= SCHEMA:
                raise Refusal(f"the schema {schema} is unknown")
            saved = unpack(state)
            count = need(saved, "count" if schema == 1 else "total", int)
            notes = need(saved, "notes", list)
            # No other language writes these in this form.
            kept = [(to_pid(sender), reference) for sender, reference in saved.get("kept") or []]
            waiting = {reference: (to_pid(sender), of, timer) for reference, sender, of, timer in saved.get("waiting") or []}
        except Refusal as why:
            raise Err(str(why)) from None
        if VERSION == 3 and count == 13:
            raise RuntimeError("the count is 13")
        if VERSION == 3 and count % 2:
            raise Err(f"the count {count} is odd")
        guest.count, guest.notes, guest.kept, guest.waiting = count, notes, kept, waiting
