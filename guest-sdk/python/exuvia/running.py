"""Takes messages: what the engine calls. `run` is entered whenever there is something to do."""

from __future__ import annotations

import gc
import json
from types import CoroutineType
from typing import Any, Callable

from . import actors, fresh, http, log
from .actors import Actor, Context, Handler
from .constants import Code, Kind, LogLevel, Receive, RunResult, Tag
from .errors import HostError, Refusal
from .host import host
from .pid import Pid
from .process import Ended, flush
from .traces import describe
from .waiting import Task, reason_in_hand, receive_awaited, selections, settled, waits

# Garbage in cycles is collected at rest when there may be this much, in bytes, or as much as is alive.
_GARBAGE_AT_REST = 4096

_instance: Any = None
_stopping = False
# The bytes of the heap that are shared, and those that were alive after the last collection.
_shared = 0
_alive = 0


def stop() -> None:
    """Ends this process normally, after this handler."""
    global _stopping
    _stopping = True


# The handlers of the actor.
_messages: dict[str | None, Handler] = {}
_requests: dict[str | None, Handler] = {}


def _use(actor: Actor | None) -> None:
    """Makes an actor that of this process."""
    global _messages, _requests
    actors.actor_of_script = actor
    _messages, _requests = (actor.messages, actor.requests) if actor is not None else ({}, {})


def _actor() -> Actor:
    if actors.actor_of_script is None:
        raise RuntimeError("the script has no actor: a class with @actor")
    return actors.actor_of_script


def schema() -> int:
    """The schema number of the state."""
    return _actor().schema


# ---- handlers ----


def _refuse(context: Context, why: str) -> None:
    host.reply(context.origin, context.reference, Tag.REFUSED, why.encode("utf-8", "replace"))


def _failed(context: Context, error: BaseException) -> None:
    """A refusal is told to who has asked. Everything else ends the process."""
    if not isinstance(error, Refusal):
        raise error
    if context.kind == Kind.REQUEST:
        _refuse(context, str(error))
    else:
        log.warning(f"a message was refused: {error}")


def _within(context: Context, function: Callable, argument: Any) -> Any:
    before, actors.current = actors.current, context
    try:
        return function(argument)
    finally:
        actors.current = before


def _perform(context: Context, done: Callable[[Context, Any], None], function: Callable, *arguments: Any) -> None:
    """Runs a handler, and `done` with what it returned when it has ended, also if it is async."""
    actors.current = context
    try:
        result = function(*arguments)
    except Refusal as error:
        _failed(context, error)
        return
    finally:
        actors.current = None
    if type(result) is CoroutineType:
        Task(
            result,
            lambda value: done(context, value),
            lambda error: _failed(context, error),
            lambda step, value: _within(context, step, value),
        )
    else:
        done(context, result)


def _nothing(context: Context, result: Any) -> None:
    pass


def _answer(context: Context, value: Any) -> None:
    if context.is_kept:
        return
    try:
        code = host.reply(context.origin, context.reference, 0, host.pack(value))
    except MemoryError:
        _refuse(context, "the process has no memory for the reply")
        return
    if code == Code.MESSAGE_TOO_LARGE:
        _refuse(context, "the reply is larger than the process may send")
    elif code < 0:
        raise HostError("reply", code)


# ---- messages ----


# What reading a payload may raise: it may have been sent by anybody.
_UNREADABLE = (MemoryError, ValueError, TypeError, RecursionError)


def _unreadable(error: BaseException) -> str:
    """Why a payload could not be read, for its sender."""
    if not isinstance(error, MemoryError):
        return str(error)
    log.error("dropped a message: the process has no memory for it")
    return "the receiver has no memory for a message of this size"


def _in_hand(read: Callable[[], Any]) -> Any:
    """What `read` makes of the payload, which is forgotten. A Refusal if it is not what it should be."""
    try:
        return read()
    except _UNREADABLE as error:
        raise Refusal(_unreadable(error)) from None
    finally:
        host.forget()


def _shown(name: str | None, value: Any) -> str:
    return type(value).__name__ if name is None else name


def _whole(name: str | None, content: Any) -> Any:
    """What was sent, before it was taken apart."""
    return content if name is None else name if content is None else {name: content}


def _message(kind: int) -> None:
    context = Context(kind)
    if context.tag != 0:
        _tagged(context, _nothing)
        return
    try:
        name, content = host.called()
    except _UNREADABLE as error:
        log.warning(f"dropped a message: {_unreadable(error)}")
        return
    handler = _messages.get(name)
    if handler is not None:
        _perform(context, _nothing, handler.take, _instance, content)
    elif hasattr(_instance, "on_message"):
        _perform(context, _nothing, _instance.on_message, _whole(name, content))
    else:
        log.warning(f"dropped an unknown message: {_shown(name, content)}")


def _request() -> None:
    context = Context(Kind.REQUEST)
    if context.tag != 0:
        _tagged(context, _answer)
        return
    try:
        name, content = host.called()
    except _UNREADABLE as error:
        _refuse(context, _unreadable(error))
        return
    handler = _requests.get(name)
    if handler is not None:
        _perform(context, _answer, handler.take, _instance, content)
    elif hasattr(_instance, "on_request"):
        _perform(context, _answer, _instance.on_request, _whole(name, content))
    else:
        _refuse(context, f"unknown request: {_shown(name, content)}")


def _tagged(context: Context, done: Callable[[Context, Any], None]) -> None:
    """A message or a request with a tag: HTTP, or bytes that the SDK does not know."""
    is_request = context.kind == Kind.REQUEST
    is_http = is_request and context.tag == Tag.HTTP_REQUEST and hasattr(_instance, "on_http")
    name = "on_http" if is_http else "on_request" if is_request else "on_message"
    try:
        handler = getattr(_instance, name, None)
        if handler is None:
            host.forget()
            raise Refusal(f"the actor has no {name} for the tag {context.tag}")
        value = _in_hand(http.request_in_hand if is_http else host.payload)
    except Refusal as error:
        if is_request:
            _refuse(context, str(error))
        else:
            log.warning(f"dropped a message: {error}")
        return
    _perform(context, http.respond if is_http else done, handler, value)


def _event(name: str, make: Callable[[Context], Any]) -> None:
    handler = getattr(_instance, name, None)
    context = Context(host.kind())
    event = make(context) if handler is not None else None
    host.forget()
    if handler is not None:
        _perform(context, _nothing, handler, event)


def _reply() -> None:
    handler = getattr(_instance, "on_reply", None)
    context = Context(Kind.REPLY)
    if handler is None or host.dropped():
        host.forget()
        return
    read = host.value if context.tag == 0 else host.text if context.tag == Tag.REFUSED else host.payload
    try:
        value = _in_hand(read)
    except Refusal as error:
        log.warning(f"dropped a reply: {error}")
        return
    _perform(context, _nothing, handler, Reply(context, value))


class Reply:
    """The reply to an `ask`, for `on_reply`."""

    __slots__ = ("sender", "reference", "tag", "value", "is_refused")

    def __init__(self, context: Context, value: Any):
        self.sender, self.reference, self.tag, self.value = context.sender, context.reference, context.tag, value
        self.is_refused = context.tag == Tag.REFUSED


class TableGiven:
    """A table that now belongs to this process, for `on_table`."""

    __slots__ = ("sender", "number", "tag")

    def __init__(self, context: Context):
        self.sender, self.number, self.tag = context.sender, context.reference, context.tag


def _ended(context: Context) -> Ended:
    return Ended(context.sender, reason_in_hand(), context.reference)


def _begin() -> None:
    """The start: an error is a failed start, with its text as the reason."""
    global _instance, _stopping
    actor = _actor()
    try:
        arguments = _in_hand(lambda: host.value() if host.length() else None)
        fresh.begin()
        if actor.init is not None:
            _instance = actor.init.take(actor.of, arguments)
            if not isinstance(_instance, actor.of):
                raise TypeError(f"{actor.of.__name__}.init returns the state, a {actor.of.__name__}")
        else:
            _instance = actor.state({} if arguments is None else arguments, "")
        on_start = getattr(_instance, "on_start", None)
        if on_start is not None:
            on_start()
    except Exception as error:
        # A refusal needs no traceback.
        host.init_ack(256, str(error) if isinstance(error, Refusal) else describe(error))
        _stopping = True
        return
    host.init_ack(0, "")


def _handle(kind: int) -> None:
    if kind == Kind.TIMER:
        if host.tag() == Tag.AWAITED:
            host.forget()  # of something that was over before
        else:
            _message(kind)
    elif kind == Kind.INIT:
        _begin()
    elif kind == Kind.DOWN:
        _event("on_down", _ended)
    elif kind == Kind.EXIT:
        _event("on_exit", _ended)
    elif kind == Kind.REPLY:
        _reply()
    elif kind == Kind.TABLE:
        _event("on_table", TableGiven)
    else:
        host.forget()


def _loop() -> int:
    concurrent = _actor().concurrent
    while True:
        if _stopping and not Task.running:
            return RunResult.DONE
        serial = Task.running > 0 and not concurrent
        if serial and not waits and not selections:
            raise RuntimeError("a handler awaits what no message can complete: await calls, sleeps and receives")
        if serial or selections:
            if receive_awaited() >= 0:
                continue
            if serial:
                return RunResult.WAITING
        kind = host.receive(0, Receive.ANY, 0)
        if kind < 0:
            return RunResult.WAITING if waits or selections or Task.running else RunResult.REST
        if kind == Kind.MESSAGE:
            _message(kind)
        elif kind == Kind.REQUEST:
            _request()
        elif not settled(kind):
            _handle(kind)


def run() -> int:
    """Handles what is in the mailbox. Returns what the process does next."""
    global _alive
    try:
        result = _loop()
    except SystemExit as end:
        # sys.exit(): a text or a number is the reason.
        flush()
        if end.code in (None, 0):
            host.exit(0, "")
        if isinstance(end.code, int):
            host.exit(256 + (end.code & 255), "")
        host.exit(256, str(end.code))
        raise
    except BaseException:
        flush()
        raise
    if result == RunResult.DONE:
        flush()
    if host.allocated() > _alive + max(_GARBAGE_AT_REST, _alive - _shared):
        gc.collect()
        _alive = host.allocated()
    return result


# ---- state ----


def save() -> int:
    """Passes the state to the host."""
    actor = _actor()
    own = getattr(_instance, "save", None)
    state = {name: getattr(_instance, name) for name in actor.saved} if own is None else own()
    return host.state_put(host.pack(state))


def load(schema: int, data: bytes) -> int:
    """Makes the state of what was saved, maybe by other code. 1: it is refused, and the log says why."""
    global _instance
    actor = _actor()
    fresh.begin()
    saved = host.unpack(data)
    try:
        own = getattr(actor.of, "load", None)
        if own is not None:
            state = own(saved, schema)
            if not isinstance(state, actor.of):
                raise TypeError(f"{actor.of.__name__}.load returns the state, a {actor.of.__name__}")
        elif schema == actor.schema:
            state = actor.state(saved, "")
        else:
            raise Refusal(f"the state has schema {schema}, and {actor.of.__name__} has no `load` for it")
    except Refusal as error:
        host.log(LogLevel.ERROR, str(error))
        return 1
    _instance = state
    return 0


# ---- the shared start ----


def prepare() -> None:
    """Before the script."""
    fresh.share_nothing_random()
    fresh.bound_json()


def protocol() -> str:
    """The text of the custom section `exuvia.protocol`."""
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in _actor().lines())


def warm_up() -> None:
    """After the script: does once what every process does, so that what is made at the first use is shared."""
    global _shared, _alive
    _use(_actor())
    log.install()
    _pretend()
    gc.collect()
    gc.freeze()
    _shared = _alive = host.allocated()


# So often that the interpreter has specialized all of the SDK's code: what it writes into code then is shared.
_ROUNDS = 100


def _pretend() -> None:
    """Handles messages that nobody has sent, with an actor that nobody sees. Nothing is sent: the host would not allow it."""
    global _instance, _stopping
    real = actors.actor_of_script
    quiet = {name: getattr(host, name) for name in ("receive", "reply", "init_ack", "log", "born")}
    host.reply = host.init_ack = host.log = lambda *_: 0
    host.born = lambda: ([], [])
    full = {"by": 1, "text": "a", "data": b"b", "some": [1, None], "flag": True, "number": 1.5, "pid": bytes(16)}
    messages = [
        (kind, host.pack(message))
        for kind, message in (
            (Kind.INIT, {"count": 1}),
            (Kind.MESSAGE, {"Take": full}),
            (Kind.MESSAGE, "Wait"),
            (Kind.TIMER, {"Take": full}),
            (Kind.REQUEST, "Get"),
            (Kind.REQUEST, {"Give": full}),
            (Kind.REQUEST, "No"),
            (Kind.REQUEST, "Nothing"),
            (Kind.DOWN, None),
        )
    ]
    waiting: list[tuple[int, bytes]] = []

    def receive(timeout: int, mode: int, key: Any) -> int:
        if not waiting:
            return Code.EMPTY
        kind, payload = waiting.pop(0)
        host.pretend(kind, payload)
        return kind

    host.receive = receive
    actors.actor_of_script = None
    try:
        actors.actor(schema=1)(_WarmUp)
        _use(actors.actor_of_script)
        for _ in range(_ROUNDS):
            for one in messages:
                waiting.append(one)
                run()
            host.pack({name: getattr(_instance, name) for name in _actor().saved})
    finally:
        for name, function in quiet.items():
            setattr(host, name, function)
        _use(real)
        _instance, _stopping = None, False
        host.forget()


class _WarmUp:
    count: int = 0
    notes: list[str] = actors.dataclasses.field(default_factory=list)

    @actors.message
    def take(self, by: int, text: str, data: bytes, some: list[int | None], flag: bool, number: float, pid: Pid) -> None:
        self.count += by

    @actors.message
    async def wait(self) -> None:
        pass

    @actors.request
    def get(self) -> int:
        return self.count

    @actors.request
    def give(self, some: list[int | None]) -> list[int | None]:
        return some

    @actors.request
    def no(self) -> None:
        raise Refusal("no")

    def on_down(self, ended: Ended) -> None:
        self.notes.append(str(ended.reason.code))
