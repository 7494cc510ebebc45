"""Processes: messages, timers, relations, names and groups. Times are in seconds, as everywhere in Python."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Mapping

from .constants import Code, Info, Options, Priority, Reason as _Reason, Spawn
from .errors import HostError, must
from .host import host
from .pid import Pid

_REASONS = {value: name for name, value in vars(_Reason).items() if not name.startswith("_")}
FOREVER = -1

To = Pid | bytes | str


def milliseconds(seconds: float | None) -> int:
    """A time as the host has it; None never ends."""
    return FOREVER if seconds is None else math.ceil(seconds * 1000)


def target(call: str, to: To) -> bytes:
    """The process that a pid or a name stands for."""
    if not isinstance(to, str):
        return to
    code, pid = host.whereis(to)
    must(f"{call} to {to}", code)
    return pid


def content(message: Any, parameters: Mapping[str, Any]) -> bytes:
    """The payload of a message: `("Add", {"by": 3})` is `{"Add": {"by": 3}}`."""
    return host.pack({message: parameters} if parameters else message)


def own_pid() -> Pid:
    """The pid of this process."""
    return Pid(host.own_pid())


def send(to: To, message: Any, /, *, tag: int = 0, **parameters: Any) -> None:
    """Sends a message: `send(pid, "Add", by=3)`, or any value."""
    must("send", host.send(target("send", to), tag, content(message, parameters)))


def send_bytes(to: To, payload: bytes, *, tag: int) -> None:
    """Sends a message whose payload is not MessagePack. Use a tag of your own."""
    must("send", host.send(target("send", to), tag, payload))


def send_after(to: To, delay: float, message: Any, /, *, tag: int = 0, **parameters: Any) -> int:
    """Sends a message when the time has passed. It outlives new code. Returns a reference for `cancel_timer`."""
    code, reference = host.send_after(target("send_after", to), tag, content(message, parameters), milliseconds(delay))
    must("send_after", code)
    return reference


def cancel_timer(reference: int) -> float | None:
    """Cancels a timer. Returns how many seconds were left; None if it has fired."""
    left = host.cancel_timer(reference)
    return None if left < 0 else left / 1000


def ask(to: To, message: Any, /, *, tag: int = 0, **parameters: Any) -> int:
    """Sends a request, whose reply comes to `on_reply`. Returns its reference; `demonitor` gives it up."""
    code, reference = host.request(target("ask", to), tag, content(message, parameters))
    must("ask", code)
    return reference


@dataclass(frozen=True)
class Reason:
    """Why a process has ended."""

    code: int
    text: str = ""
    # New code failed in its probation.
    from_release: bool = False

    @property
    def name(self) -> str:
        """The name of a code of the host; "OTHER" for one of a process's own."""
        return _REASONS.get(self.code, "OTHER")


@dataclass(frozen=True)
class Ended:
    """The end of a process, for `on_down` and `on_exit`."""

    pid: Pid
    reason: Reason
    # The monitor's; 0 of a link.
    reference: int = 0


@dataclass(frozen=True)
class Child:
    """A process that was started."""

    pid: Pid
    # Of the monitor, if one was wanted.
    reference: int = 0


def spawn(
    arguments: Any = None,
    *,
    module: str = "",
    link: bool = False,
    monitor: bool = False,
    sync: bool = False,
    start_timeout: float = 0,
    limits: Mapping[str, int] | None = None,
    grants: Mapping[str, Any] | None = None,
) -> Child:
    """Starts a process of a module, by default of this one. `sync` waits until it has started.

    `limits` may have memory, mailbox_bytes, mailbox_messages, message_bytes, children, tables, priority, files, descendants.
    """
    options = bytearray(Options.SIZE)

    def put(field: tuple[int, int], value: int) -> None:
        at, size = field
        options[at : at + size] = value.to_bytes(size, "little")

    put((0, 4), Options.SIZE)
    put(Options.FLAGS, Spawn.LINK * link | Spawn.MONITOR * monitor | Spawn.SYNC * sync)
    put(Options.START_TIMEOUT, milliseconds(start_timeout))
    for name, value in (limits or {}).items():
        field = getattr(Options, name.upper(), None)
        if not isinstance(field, tuple) or name in ("flags", "start_timeout"):
            raise TypeError(f"spawn: there is no limit `{name}`")
        put(field, value)
    code, pid, reference = host.spawn(module, host.pack(arguments), bytes(options), host.pack(grants) if grants else b"")
    must("spawn", code)
    return Child(Pid(pid), reference)


def start_supervisor(specification: Mapping[str, Any]) -> Pid:
    """Starts a supervisor of the host, with the keys of `[supervisor]` in the manifest."""
    code, pid = host.supervisor_start(host.pack(specification))
    must("start_supervisor", code)
    return Pid(pid)


def flush() -> None:
    """Writes what was printed without the end of its line, before the process ends."""
    sys.stdout.flush()
    sys.stderr.flush()


def exit(code: int = 0, text: str = "") -> None:
    """Ends this process, now. Codes from 256 on are free; 0 is normal."""
    flush()
    host.exit(code, text)


def exit_process(to: To, code: int, text: str = "") -> None:
    """Sends an exit signal."""
    must("exit_process", host.exit_process(target("exit_process", to), code, text))


def kill(to: To) -> None:
    """Ends a process, whatever it does."""
    must("kill", host.kill(target("kill", to)))


def link(to: To) -> None:
    """Links this process to another one: if one of them ends, so does the other, unless it traps exits."""
    must("link", host.link(target("link", to)))


def unlink(to: To) -> None:
    """Removes a link."""
    must("unlink", host.unlink(target("unlink", to)))


def monitor(to: To) -> int:
    """Watches a process, whose end comes to `on_down`. Returns the reference."""
    if isinstance(to, str):
        code, _, reference = host.monitor_name(to)
    else:
        code, reference = host.monitor(to)
    must("monitor", code)
    return reference


def demonitor(reference: int) -> None:
    """Removes a monitor, or gives up a request: nothing arrives of it any more."""
    must("demonitor", host.demonitor(reference))


def trap_exit(on: bool = True) -> bool:
    """Whether the ends of linked processes come to `on_exit` instead of ending this one. Returns what was before."""
    return must("trap_exit", host.trap_exit(on)) == 1


def set_priority(priority: int) -> int:
    """Sets how soon this process gets its turns: `Priority.LOW`, `NORMAL` or `HIGH`. Returns what was before."""
    return must("set_priority", host.set_priority(priority))


def register(name: str, pid: Pid | bytes | None = None) -> None:
    """Gives a name to a process, by default to this one."""
    must(f"register {name}", host.register(name, host.own_pid() if pid is None else pid))


def unregister(name: str) -> None:
    """Releases a name."""
    must(f"unregister {name}", host.unregister(name))


def whereis(name: str) -> Pid | None:
    """The process that has a name."""
    code, pid = host.whereis(name)
    if code == Code.NOPROC:
        return None
    must(f"whereis {name}", code)
    return Pid(pid)


def join(group: str, pid: Pid | bytes | None = None) -> None:
    """Adds a process to a group, by default this one."""
    must(f"join {group}", host.group_join(group, host.own_pid() if pid is None else pid))


def leave(group: str, pid: Pid | bytes | None = None) -> None:
    """Removes a process from a group, by default this one."""
    must(f"leave {group}", host.group_leave(group, host.own_pid() if pid is None else pid))


def members(group: str) -> list[Pid]:
    """The processes of a group."""
    code, pids = host.group_members(group)
    must(f"members of {group}", code)
    return [Pid(pid) for pid in pids]


def publish(group: str, message: Any, /, *, tag: int = 0, **parameters: Any) -> int:
    """Sends a message to all processes of a group. Returns how many accepted it."""
    return must(f"publish to {group}", host.publish(group, tag, content(message, parameters)))


def config(key: str = "") -> Any:
    """A value of `[config]` in the manifest; None if there is none."""
    code, value = host.config(key)
    if code == Code.EMPTY:
        return None
    must(f"config {key}", code)
    return host.unpack(value)


def info(what: int) -> int:
    """A number about this process: one of `Info`."""
    value = host.info(what)
    if value < 0:
        raise HostError("info", value)
    return value


def pack(value: Any) -> bytes:
    """A value in MessagePack."""
    return host.pack(value)


def unpack(data: bytes) -> Any:
    """The value of MessagePack. Raises ValueError if it is none."""
    return host.unpack(data)


__all__ = [name for name in list(globals()) if not name.startswith("_")]
