"""What an actor is: a class whose fields are the state, and whose methods take messages."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, Callable, Iterable, TypeVar, overload

from .constants import Kind, Tag
from .errors import Refusal, must
from .host import host
from .pid import Pid
from .shape import TRANSIENT, Check, check_of, describe, fields, hints

try:
    from typing import dataclass_transform
except ImportError:  # before Python 3.11

    def dataclass_transform(**_):
        return lambda of: of


C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable)

@dataclasses.dataclass(frozen=True)
class Mark:
    """What a decorator leaves at a method."""

    name: str | None
    is_request: bool


class Handler:
    """A method that takes a message: its name, and its parameters by name with their checks and defaults."""

    __slots__ = ("name", "method", "is_request", "parameters", "single", "reply", "docs", "types")

    def __init__(self, owner: type, attribute: str, method: Callable, mark: Mark):
        self.name = mark.name or "".join(part[:1].upper() + part[1:] for part in attribute.split("_"))
        self.method, self.is_request = method, mark.is_request
        known = hints(method, owner)
        parameters = list(inspect.signature(method).parameters.values())[1:]
        for one in parameters:
            if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY, one.POSITIONAL_ONLY):
                raise TypeError(f"{owner.__name__}.{attribute}: a handler takes its parameters by name, not `{one}`")
        self.types = {one.name: known.get(one.name, Any) for one in parameters}
        # The one parameter that is the content itself: `def add(self, by, /)` takes {"Add": 5}.
        self.single = len(parameters) == 1 and parameters[0].kind is parameters[0].POSITIONAL_ONLY
        self.parameters: dict[str, tuple[Check, bool]] = {
            one.name: (check_of(self.types[one.name]), one.default is one.empty) for one in parameters
        }
        self.reply = known.get("return", Any)
        self.docs = (inspect.getdoc(method) or "").split("\n\n")[0].replace("\n", " ")

    def take(self, instance: Any, content: Any) -> Any:
        """Checks the content of a message, and calls the method with it."""
        if self.single:
            (name, (check, _)), = self.parameters.items()
            return self.method(instance, check(content, name))
        if not self.parameters:
            return self.method(instance)
        if content is None:
            content = {}
        if type(content) is not dict:
            raise Refusal(f"{self.name}: expected a map of the parameters, got {type(content).__name__}")
        known = {}
        for name, (check, is_needed) in self.parameters.items():
            if name in content:
                known[name] = check(content[name], name)
            elif is_needed:
                if not describe(self.types[name]).startswith("Option<"):
                    raise Refusal(f"`{name}` is missing")
                known[name] = None
        return self.method(instance, **known)

    def line(self) -> dict[str, Any]:
        """Its line in the custom section `exuvia.protocol`."""
        name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", self.name).lower()
        types = []
        for parameter, (_, is_needed) in self.parameters.items():
            text = describe(self.types[parameter])
            types.append({"name": parameter, "type": text if is_needed or text.startswith("Option<") else f"Option<{text}>"})
        line: dict[str, Any] = {"name": name, "message": self.name, "parameters": types}
        if self.is_request:
            line["reply"] = describe(self.reply)
        if self.docs:
            line["docs"] = self.docs
        return line


@overload
def message(name: F, /) -> F: ...
@overload
def message(name: str, /) -> Callable[[F], F]: ...
def message(name, /):
    """A method that takes a message, to which nothing is replied. `def add(self, by: int)` takes `{"Add": {"by": 3}}`."""
    return _mark(name, False)


@overload
def request(name: F, /) -> F: ...
@overload
def request(name: str, /) -> Callable[[F], F]: ...
def request(name, /):
    """A method that takes a request: what it returns is the reply."""
    return _mark(name, True)


def _mark(name: Any, is_request: bool) -> Any:
    def mark(method: F) -> F:
        setattr(method, "__exuvia__", Mark(name if isinstance(name, str) else None, is_request))
        return method

    return mark if isinstance(name, str) else mark(name)


def transient(default: Any = None) -> Any:
    """A field that is no part of the saved state: new code begins with its default."""
    return dataclasses.field(default=default, metadata={TRANSIENT: True})


class Actor:
    """The actor of the script: its class and what was said of it."""

    def __init__(self, of: type, schema: int, loads: list[int] | None, concurrent: bool):
        self.of, self.schema, self.loads, self.concurrent = of, schema, loads, concurrent
        self.messages: dict[str | None, Handler] = {}
        self.requests: dict[str | None, Handler] = {}
        for attribute in dir(of):
            method: Any = getattr(of, attribute, None)
            mark = getattr(method, "__exuvia__", None)
            if isinstance(mark, Mark):
                handler = Handler(of, attribute, method, mark)
                (self.requests if mark.is_request else self.messages)[handler.name] = handler
        self.state = fields(of)
        self.saved = [field.name for field in dataclasses.fields(of) if TRANSIENT not in field.metadata]
        # What takes the arguments of the start: the class method `init`, or the fields themselves.
        self.init: Handler | None = None
        init = getattr(of, "init", None)
        if init is not None:
            if not inspect.ismethod(init):
                raise TypeError(f"{of.__name__}.init is a class method: @classmethod, def init(cls, ...)")
            self.init = Handler(of, "init", init.__func__, Mark("init", True))

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the custom section `exuvia.protocol`."""
        return [handler.line() for handler in (*self.messages.values(), *self.requests.values())]


actor_of_script: Actor | None = None


@overload
def actor(of: C, /) -> C: ...
@overload
def actor(*, schema: int = 0, loads: Iterable[int] | None = None, concurrent: bool = False) -> Callable[[C], C]: ...
@dataclass_transform(field_specifiers=(dataclasses.field, transient))
def actor(of=None, /, *, schema=0, loads=None, concurrent=False):
    """Makes a class the actor of the script. Its annotated fields are the state, as of a dataclass.

    `schema` is the number of the state's form: raise it when fields get another meaning, and write a class method
    `load(cls, saved, schema)`. `loads` are the other schemas that it takes: then `exuvia check OLD NEW` knows before anything runs. `concurrent`: other messages are handled while a handler awaits.
    """

    def make(of):
        global actor_of_script
        if actor_of_script is not None:
            raise TypeError(f"a script has one actor: {actor_of_script.of.__name__} is one already, and {of.__name__} another")
        if not isinstance(schema, int) or not 0 <= schema < 1 << 31:
            raise TypeError("actor: schema is a whole number")
        others = None if loads is None else list(loads)
        if others is not None and not all(isinstance(one, int) and 0 <= one < 1 << 31 for one in others):
            raise TypeError("actor: loads has whole numbers, the schemas that `load` takes")
        if "__dataclass_fields__" not in vars(of):
            of = dataclasses.dataclass(of)
        actor_of_script = Actor(of, schema, others, concurrent)
        return of

    return make if of is None else make(of)


class Context:
    """The message that is being handled."""

    __slots__ = ("kind", "origin", "tag", "reference", "is_kept")

    def __init__(self, kind: int):
        self.kind = kind
        # The pid as bytes: not every handler asks who has sent the message.
        self.origin, self.tag, self.reference = host.head()
        self.is_kept = False

    @property
    def sender(self) -> Pid:
        """The process that has sent it."""
        return Pid(self.origin)


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that is answered later, in another handler or by another process. It can be a part of the state, and of messages."""

    sender: Pid
    reference: int

    def reply(self, value: Any = None) -> None:
        """Replies."""
        must("reply", host.reply(self.sender, self.reference, 0, host.pack(value)))

    def refuse(self, why: str) -> None:
        """Refuses."""
        must("reply", host.reply(self.sender, self.reference, Tag.REFUSED, why.encode()))


current: Context | None = None


def _context(what: str) -> Context:
    if current is None:
        raise RuntimeError(f"{what}: no message is being handled")
    return current


def sender() -> Pid:
    """The process that has sent the message that is being handled."""
    return _context("sender").sender


def keep() -> Request:
    """Keeps the request that is being handled: what the handler returns is not replied, but what the `Request` is given."""
    context = _context("keep")
    if context.kind != Kind.REQUEST:
        raise RuntimeError("keep: what is being handled is no request")
    context.is_kept = True
    return Request(context.sender, context.reference)
