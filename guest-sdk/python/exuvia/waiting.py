"""What waits: `await` keeps a coroutine in the process's memory and no stack, the functions with `_sync` keep the stack."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Coroutine, Generator

from .constants import Code, Kind, Receive, Tag
from .errors import HostError, Refused, Timeout, must
from .host import host
from .pid import Pid
from .process import FOREVER, Reason, To, content, milliseconds, target

DEFAULT_TIMEOUT = 5.0
"""The seconds that a call waits, as in Erlang."""

_MOST_REFERENCES = 64


class Wait:
    """What a coroutine yields: it is resumed by a message."""

    __slots__ = ("resume",)

    def __await__(self) -> Generator[Wait, Any, Any]:
        return (yield self)

    def begin(self, resume: Callable[[Any, BaseException | None], None]) -> None:
        """The coroutine waits now; `resume` goes on with a value or an error."""
        self.resume = resume


waits: dict[int, Callable[[int], None]] = {}
"""Who waits for the message with a reference."""
selections: list[Selection] = []
"""Who waits for the first message that a selection takes."""


def _nobody(kind: int) -> None:
    """In place of who waits."""


def _after(timeout: float | None) -> int:
    """A timer of the SDK's own; 0 if it never ends."""
    if timeout is None:
        return 0
    code, reference = host.send_after(host.own_pid(), Tag.AWAITED, b"", milliseconds(timeout))
    must("a timer", code)
    return reference


def _forbid(timer: int) -> None:
    if timer and waits.pop(timer, _nobody) is not _nobody:
        host.cancel_timer(timer)


def answer_in_hand(kind: int) -> Any:
    """What a REPLY gives to who waits for it; a DOWN and a refusal are raised."""
    if kind == Kind.DOWN:
        raise HostError("call", Code.NOPROC)
    if host.dropped():
        raise HostError("call", Code.TOO_BIG)
    tag = host.tag()
    if tag == Tag.REFUSED:
        raise Refused(host.text())
    try:
        return host.value() if tag == 0 else host.payload()
    except MemoryError:
        raise HostError("call", Code.TOO_BIG) from None
    except ValueError as error:
        raise HostError("call", "BAD_REPLY") from error


class _Call(Wait):
    __slots__ = ("reference", "timer")

    def __init__(self, reference: int, timer: int):
        self.reference, self.timer = reference, timer

    def begin(self, resume):
        Wait.begin(self, resume)
        waits[self.reference] = self.answered
        if self.timer:
            waits[self.timer] = self.over

    def answered(self, kind):
        _forbid(self.timer)
        try:
            value = answer_in_hand(kind)
        except (HostError, Refused) as error:
            host.forget()
            self.resume(None, error)
            return
        host.forget()
        self.resume(value, None)

    def over(self, kind):
        del waits[self.reference]
        host.demonitor(self.reference)
        self.resume(None, Timeout("call"))


def _request(to: To, tag: int, payload: bytes) -> int:
    code, reference = host.request(target("call", to), tag, payload)
    must("call", code)
    return reference


async def call(to: To, message: Any, /, *, timeout: float | None = DEFAULT_TIMEOUT, tag: int = 0, **parameters: Any) -> Any:
    """Sends a request and waits for the reply: `await call(pid, "Sum", of=[1, 2])`.

    Raises Refused, Timeout, or a HostError with the code "NOPROC" if the other process ends.
    """
    reference = _request(to, tag, content(message, parameters))
    return await _Call(reference, _after(timeout))


def call_sync(to: To, message: Any, /, *, timeout: float | None = DEFAULT_TIMEOUT, tag: int = 0, **parameters: Any) -> Any:
    """As `call`, but the process keeps its stack."""
    kind = must("call", host.call(target("call", to), tag, content(message, parameters), milliseconds(timeout)))
    try:
        return answer_in_hand(kind)
    finally:
        host.forget()


class _Sleep(Wait):
    __slots__ = ("timer",)

    def __init__(self, timer: int):
        self.timer = timer

    def begin(self, resume):
        Wait.begin(self, resume)
        waits[self.timer] = lambda kind: resume(None, None)


async def sleep(seconds: float) -> None:
    """Waits. Other messages wait too, unless the actor is concurrent."""
    await _Sleep(_after(seconds))


def sleep_sync(seconds: float) -> None:
    """Waits, and keeps the stack."""
    must("sleep", host.sleep(milliseconds(seconds)))


class Received:
    """A message that was received by a selection."""

    __slots__ = ("kind", "sender", "tag", "reference", "payload", "reason")

    kind: int
    sender: Pid
    tag: int
    reference: int
    payload: bytes
    # Of an EXIT or a DOWN.
    reason: Reason | None

    @property
    def value(self) -> Any:
        """The payload as MessagePack; None if it is empty. Raises ValueError if it is none."""
        return host.unpack(self.payload) if self.payload else None


def reason_in_hand() -> Reason:
    """The reason of an EXIT or a DOWN."""
    return Reason(host.reason(), host.text(), host.tag() == 1)


def _received(kind: int) -> Received:
    message = Received()
    message.kind = kind
    message.sender = Pid(host.sender())
    message.tag = host.tag()
    message.reference = host.reference()
    message.payload = host.payload()
    message.reason = reason_in_hand() if kind in (Kind.DOWN, Kind.EXIT) else None
    host.forget()
    return message


class Selection(Wait):
    """Waits for the first message that it selects."""

    __slots__ = ("mode", "key", "timer")

    def __init__(self, mode: int, key: Any, timer: int):
        self.mode, self.key, self.timer = mode, key, timer

    def begin(self, resume):
        Wait.begin(self, resume)
        selections.append(self)
        if self.timer:
            waits[self.timer] = self.over

    def take(self, kind):
        _forbid(self.timer)
        self.resume(_received(kind), None)

    def over(self, kind):
        selections.remove(self)
        self.resume(None, None)


def _selected(tag: int | None, sender: Pid | bytes | None, reference: int | None) -> tuple[int, Any]:
    if tag is not None:
        return Receive.TAG, tag
    if sender is not None:
        return Receive.SENDER, sender
    if reference is not None:
        return Receive.REFERENCE, reference
    raise TypeError("receive: say which message: tag, sender or reference")


async def receive(
    *, tag: int | None = None, sender: Pid | bytes | None = None, reference: int | None = None, timeout: float | None = None
) -> Received | None:
    """Waits for the first message with a tag, from a process, or with a reference. All others stay, in their order.

    None: the time is over.
    """
    mode, key = _selected(tag, sender, reference)
    return await Selection(mode, key, _after(timeout))


def receive_sync(
    *, tag: int | None = None, sender: Pid | bytes | None = None, reference: int | None = None, timeout: float | None = None
) -> Received | None:
    """As `receive`, but the process keeps its stack."""
    mode, key = _selected(tag, sender, reference)
    kind = host.receive(milliseconds(timeout), mode, key)
    if kind in (Code.TIMEOUT, Code.EMPTY):
        return None
    must("receive", kind)
    return _received(kind)


class Task:
    """A coroutine that runs, and what is to be done when it has ended."""

    __slots__ = ("coroutine", "done", "failed", "around")
    running = 0

    def __init__(
        self,
        coroutine: Coroutine,
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
        around: Callable[..., Any],
    ):
        self.coroutine, self.done, self.failed, self.around = coroutine, done, failed, around
        Task.running += 1
        self.resume(None, None)

    def resume(self, value: Any, error: BaseException | None) -> None:
        """Runs until the coroutine waits or has ended."""
        coroutine = self.coroutine
        try:
            if error is None:
                wait = self.around(coroutine.send, value)
            else:
                wait = self.around(coroutine.throw, error)
        except StopIteration as stop:
            Task.running -= 1
            self.done(stop.value)
            return
        except BaseException as raised:
            Task.running -= 1
            self.failed(raised)
            return
        if isinstance(wait, Wait):
            wait.begin(self.resume)
        else:
            self.resume(None, TypeError(f"cannot await {wait!r} here: await what exuvia gives"))


class _Gather(Wait):
    __slots__ = ("coroutines", "results", "missing")

    def __init__(self, coroutines: tuple[Awaitable, ...]):
        self.coroutines = coroutines

    def begin(self, resume):
        Wait.begin(self, resume)
        self.results, self.missing = [None] * len(self.coroutines), len(self.coroutines)
        if not self.coroutines:
            resume([], None)
        for i, coroutine in enumerate(self.coroutines):
            Task(_awaited(coroutine), lambda value, i=i: self.one(i, value), self.failed, lambda step, value: step(value))

    def one(self, i, value):
        self.results[i] = value
        self.missing -= 1
        if self.missing == 0:
            self.resume(self.results, None)

    def failed(self, error):
        # The first error counts, as in asyncio; the others go on.
        if self.missing > 0:
            self.missing = -1
            self.resume(None, error)


async def _awaited(one: Awaitable) -> Any:
    return await one


async def gather(*awaitables: Awaitable) -> list[Any]:
    """Waits for all at once: `await gather(call(a, "Get"), call(b, "Get"))`."""
    return await _Gather(awaitables)


def settled(kind: int) -> bool:
    """Gives the message in hand to who waits for its reference. False: nobody does."""
    if kind not in (Kind.REPLY, Kind.DOWN, Kind.TIMER):
        return False
    wait = waits.pop(host.reference(), None)
    if wait is None:
        return False
    wait(kind)
    return True


def receive_awaited() -> int:
    """Takes a message that something waits for. Returns its kind, or a negative code."""
    for selection in list(selections):
        kind = host.receive(0, selection.mode, selection.key)
        if kind >= 0:
            selections.remove(selection)
            selection.take(kind)
            return kind
    references = list(waits)
    for at in range(0, len(references), _MOST_REFERENCES):
        kind = host.receive(0, Receive.REFERENCES, references[at : at + _MOST_REFERENCES])
        if kind >= 0:
            settled(kind)
            return kind
    return Code.EMPTY
