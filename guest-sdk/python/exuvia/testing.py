"""For tests under CPython: an actor with a host that is a few lists. A process is one object, a message one call.

    import main                              # the script
    from exuvia.testing import TestProcess

    process = TestProcess(main.Counter)
    process.send("Add", by=3)
    assert process.request("Get") == 3
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Iterator

from . import codec
from .constants import Code, Kind, Receive, RunResult, Tag
from .errors import Refused
from .pid import Pid

OWN_PID = bytes([1]) * 16
OTHER_PID = bytes([9]) * 16


@dataclass
class Delivery:
    """A message on its way to the process, or in its mailbox."""

    kind: int = Kind.MESSAGE
    sender: bytes = OTHER_PID
    reference: int = 0
    tag: int = 0
    payload: bytes = b""
    reason: int = 0


@dataclass
class Sent:
    """What the process has sent: by which call, to whom, and what."""

    call: str
    to: bytes
    tag: int
    payload: bytes
    reference: int = 0
    delay: int = 0

    @property
    def value(self) -> Any:
        """The payload as a value."""
        return codec.unpack(self.payload)


class Ended(BaseException):
    """The process has called `exit`."""

    def __init__(self, code: int, text: str):
        super().__init__(f"exit({code}, {text!r})")
        self.code, self.text = code, text


@dataclass
class FakeHost:
    """The module `_exuvia` of the engine, as far as tests need it."""

    mailbox: list[Delivery] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    replies: list[Sent] = field(default_factory=list)
    logged: list[tuple[int, str]] = field(default_factory=list)
    names: dict[str, bytes] = field(default_factory=dict)
    groups: dict[str, list[bytes]] = field(default_factory=dict)
    tables: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    # What the next `call_sync`s return.
    answers: list[Any] = field(default_factory=list)
    acknowledged: tuple[int, str] | None = None
    state: bytes | None = None
    hand: Delivery = field(default_factory=Delivery)
    references: Iterator[int] = field(default_factory=lambda: iter(range(1, 1 << 62)))

    pack = staticmethod(codec.pack)
    unpack = staticmethod(codec.unpack)
    unpack_front = staticmethod(codec.unpack_front)

    # ---- the message in hand ----

    def receive(self, timeout: int, mode: int, key: Any) -> int:
        for message in self.mailbox:
            if (
                mode == Receive.ANY
                or mode == Receive.TAG and message.kind not in (Kind.EXIT, Kind.DOWN) and message.tag == key
                or mode == Receive.REFERENCE and message.reference == key
                or mode == Receive.REFERENCES and message.reference in key
                or mode == Receive.SENDER and message.sender == key
            ):
                self.mailbox.remove(message)
                self.hand = message
                return message.kind
        return Code.EMPTY if timeout == 0 else Code.TIMEOUT

    def head(self) -> tuple[bytes, int, int]: return self.hand.sender, self.hand.tag, self.hand.reference
    def kind(self) -> int: return self.hand.kind
    def length(self) -> int: return len(self.hand.payload)
    def sender(self) -> bytes: return self.hand.sender
    def reference(self) -> int: return self.hand.reference
    def tag(self) -> int: return self.hand.tag
    def reason(self) -> int: return self.hand.reason
    def dropped(self) -> bool: return False
    def payload(self) -> bytes: return self.hand.payload
    def text(self) -> str: return self.hand.payload.decode("utf-8", "replace")
    def value(self) -> Any: return codec.unpack(self.hand.payload)
    def called(self) -> tuple[str | None, Any]:
        value = self.value()
        if isinstance(value, str):
            return value, None
        if isinstance(value, dict) and len(value) == 1 and isinstance(*value.keys(), str):
            return next(iter(value.items()))
        return None, value

    def forget(self) -> None: self.hand = Delivery(kind=0)
    def pretend(self, kind: int, payload: bytes) -> None: self.hand = Delivery(kind=kind, payload=payload)

    # ---- messages ----

    def _keep(self, call: str, to: bytes, tag: int, payload: bytes, delay: int = 0) -> tuple[int, int]:
        reference = 0 if call == "send" else next(self.references)
        self.sent.append(Sent(call, to, tag, payload, reference, delay))
        return 0, reference

    def send(self, to, tag, payload): return self._keep("send", to, tag, payload)[0]
    def request(self, to, tag, payload): return self._keep("request", to, tag, payload)
    def call(self, to, tag, payload, timeout):
        self._keep("call", to, tag, payload)
        if not self.answers:
            return Code.TIMEOUT
        self.hand = Delivery(Kind.REPLY, sender=to, payload=codec.pack(self.answers.pop(0)))
        return Kind.REPLY

    def send_after(self, to, tag, payload, delay): return self._keep("send_after", to, tag, payload, delay)
    def cancel_timer(self, reference): return -1
    def sleep(self, time): return 0

    def reply(self, to, reference, tag, payload):
        self.replies.append(Sent("reply", to, tag, payload, reference))
        return 0

    def publish(self, group, tag, payload):
        members = self.groups.get(group, [])
        for member in members:
            self._keep("send", member, tag, payload)
        return len(members)

    # ---- processes, names, groups ----

    def spawn(self, module, arguments, options, grants):
        pid = next(self.references).to_bytes(16, "little")
        self.sent.append(Sent("spawn", pid, 0, arguments))
        return 0, pid, next(self.references)

    def supervisor_start(self, specification): return 0, next(self.references).to_bytes(16, "little")

    def init_ack(self, status, why):
        if self.acknowledged is None:
            self.acknowledged = (status, why)
        return 0

    def exit(self, code, why): raise Ended(code, why)
    def exit_process(self, pid, code, why): return 0
    def kill(self, pid): return 0
    def link(self, pid): return 0
    def unlink(self, pid): return 0
    def monitor(self, pid): return 0, next(self.references)
    def monitor_name(self, name): return 0, self.names.get(name, bytes(16)), next(self.references)
    def demonitor(self, reference): return 0
    def trap_exit(self, on): return 0
    def set_priority(self, priority): return 2
    def own_pid(self): return OWN_PID

    def register(self, name, pid):
        if self.names.setdefault(name, pid) != pid:
            return Code.NAME_TAKEN
        return 0

    def unregister(self, name): return 0 if self.names.pop(name, None) else Code.NOPROC

    def whereis(self, name):
        pid = self.names.get(name)
        return (Code.NOPROC, bytes(16)) if pid is None else (0, pid)

    def group_join(self, group, pid):
        members = self.groups.setdefault(group, [])
        if pid not in members:
            members.append(pid)
        return 0

    def group_leave(self, group, pid):
        if pid not in self.groups.get(group, []):
            return Code.NOPROC
        self.groups[group].remove(pid)
        return 0

    def group_members(self, group): return len(self.groups.get(group, [])), list(self.groups.get(group, []))

    # ---- the rest ----

    def log(self, level, text):
        self.logged.append((level, text))
        return 0

    def random(self, count): return os.urandom(count)
    def info(self, what): return 0

    def config(self, key):
        if key not in self.configuration:
            return Code.EMPTY, b""
        data = codec.pack(self.configuration[key])
        return len(data), data

    def state_put(self, data):
        self.state = data
        return 0

    def table_new(self, name, access):
        number = next(self.references)
        self.tables[number] = {}
        if name:
            self.names[f"table {name}"] = number
        return 0, number

    def table_find(self, name):
        number = self.names.get(f"table {name}")
        return (Code.NOPROC, 0) if number is None else (0, number)

    def table_put(self, table, key, value, flags):
        had = key in self.tables[table]
        if not (had and flags):
            self.tables[table][key] = value
        return int(had)

    def table_get(self, table, key):
        value = self.tables[table].get(key)
        return (Code.EMPTY, b"") if value is None else (len(value), value)

    def table_next(self, table, key):
        later = sorted(other for other in self.tables[table] if other > key)
        return (len(later[0]), later[0]) if later else (Code.EMPTY, b"")

    def table_delete(self, table, key): return int(self.tables[table].pop(key, None) is not None)

    def table_add(self, table, key, amount):
        total = int.from_bytes(self.tables[table].get(key, bytes(8)), "little", signed=True) + amount
        self.tables[table][key] = total.to_bytes(8, "little", signed=True)
        return 0, total

    def table_info(self, table, what): return len(self.tables[table])
    def table_heir(self, table, pid, tag): return 0
    def table_give(self, table, pid, tag): return 0

    def table_end(self, table):
        del self.tables[table]
        return 0

    def nests_deeper(self, text, limit): return False
    def born(self): return [], []
    def allocated(self): return 0


host: Any = FakeHost()
"""The host of all processes that are tested: what a test leaves there goes with the next `TestProcess`."""


class TestProcess:
    """A process of an actor, alone: what it sends is kept, and what it is sent is handled at once."""

    __test__ = False

    def __init__(self, actor: type | None = None, arguments: Any = None):
        from . import actors, running, waiting

        if actor is not None and (actors.actor_of_script is None or actors.actor_of_script.of is not actor):
            raise TypeError(f"{actor.__name__} is not the actor of this script")
        vars(host).update(vars(FakeHost()))
        waiting.waits.clear()
        waiting.selections.clear()
        waiting.Task.running = 0
        running._stopping = False
        running._use(actors.actor_of_script)
        self.host: FakeHost = host
        self._running = running
        self.deliver(Delivery(Kind.INIT, payload=codec.pack(arguments)))

    @property
    def state(self) -> Any:
        """The instance of the actor."""
        return self._running._instance

    def deliver(self, message: Delivery) -> int:
        """Delivers a message, and runs until there is nothing to do. Returns what `run` returned."""
        host.mailbox.append(message)
        result = self._running.run()
        while result == RunResult.REST and host.mailbox:
            result = self._running.run()
        return result

    def send(self, message: Any, /, *, tag: int = 0, **parameters: Any) -> int:
        """Sends it a message: `process.send("Add", by=3)`."""
        return self.deliver(Delivery(tag=tag, payload=codec.pack({message: parameters} if parameters else message)))

    def request(self, message: Any, /, *, tag: int = 0, **parameters: Any) -> Any:
        """Sends it a request. Returns the reply; raises Refused, and TimeoutError if there is none yet."""
        reference = next(host.references)
        payload = codec.pack({message: parameters} if parameters else message)
        self.deliver(Delivery(Kind.REQUEST, reference=reference, tag=tag, payload=payload))
        for reply in host.replies:
            if reply.reference == reference:
                return _value(reply)
        raise TimeoutError("there is no reply yet")

    def answer(self, value: Any = None) -> int:
        """Replies to the last call that the process has made."""
        call = [sent for sent in host.sent if sent.call == "request"][-1]
        return self.deliver(Delivery(Kind.REPLY, sender=call.to, reference=call.reference, payload=codec.pack(value)))

    def fire(self) -> int:
        """Fires the last timer that the process has set."""
        timer = [sent for sent in host.sent if sent.call == "send_after"][-1]
        return self.deliver(Delivery(Kind.TIMER, sender=OWN_PID, reference=timer.reference, tag=timer.tag, payload=timer.payload))

    def save(self) -> Any:
        """The state that it saves."""
        self._running.save()
        return codec.unpack(host.state)

    def load(self, schema: int, saved: Any) -> str | None:
        """Loads a state. Returns why it is refused, or None."""
        return host.logged[-1][1] if self._running.load(schema, codec.pack(saved)) else None


def _value(reply: Sent) -> Any:
    if reply.tag == Tag.REFUSED:
        raise Refused(reply.payload.decode())
    return reply.value if reply.tag == 0 else reply.payload


__all__ = ["Delivery", "Ended", "OTHER_PID", "OWN_PID", "Pid", "Sent", "TestProcess", "host"]
