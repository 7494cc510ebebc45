"""Values against annotations: what was sent is checked before a handler gets it."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any, Callable

from .errors import Refusal
from .pid import Pid

Check = Callable[[Any, str], Any]
_MISSING = dataclasses.MISSING


def _name(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def _wrong(path: str, wanted: str, value: Any) -> Refusal:
    return Refusal(f"`{path}`: expected {wanted}, got {_name(value)}")


def _any(value, path):
    return value


def _plain(kind: type, wanted: str) -> Check:
    def check(value, path):
        if type(value) is not kind:
            raise _wrong(path, wanted, value)
        return value

    return check


def _float(value, path):
    if type(value) is not float and type(value) is not int:
        raise _wrong(path, "a number", value)
    return float(value)


def _bytes(value, path):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list) and all(type(byte) is int and 0 <= byte < 256 for byte in value):
        return bytes(value)
    raise _wrong(path, "bytes", value)


def _pid(value, path):
    if not isinstance(value, bytes) or len(value) != 16:
        raise _wrong(path, "a pid, which has 16 bytes", value)
    return Pid(value)


def _nothing(value, path):
    if value is not None:
        raise _wrong(path, "nothing", value)


_PLAIN: dict[Any, Check] = {
    Any: _any,
    object: _any,
    bool: _plain(bool, "true or false"),
    int: _plain(int, "an int"),
    str: _plain(str, "a text"),
    float: _float,
    bytes: _bytes,
    bytearray: lambda value, path: bytearray(_bytes(value, path)),
    Pid: _pid,
    None: _nothing,
    type(None): _nothing,
    list: _plain(list, "a list"),
    dict: _plain(dict, "a map"),
}


def _list(element: Check, make: Callable) -> Check:
    def check(value, path):
        if type(value) is not list:
            raise _wrong(path, "a list", value)
        return make([element(one, f"{path}[{i}]") for i, one in enumerate(value)])

    return check


def _tuple(elements: list[Check]) -> Check:
    def check(value, path):
        if type(value) is not list or len(value) != len(elements):
            raise _wrong(path, f"a list of {len(elements)}", value)
        return tuple(one(part, f"{path}[{i}]") for i, (one, part) in enumerate(zip(elements, value)))

    return check


def _dict(key: Check, element: Check) -> Check:
    def check(value, path):
        if type(value) is not dict:
            raise _wrong(path, "a map", value)
        return {key(name, path): element(one, f"{path}.{name}") for name, one in value.items()}

    return check


def _union(choices: list[Check], wanted: str) -> Check:
    def check(value, path):
        error = None
        for choice in choices:
            try:
                return choice(value, path)
            except Refusal as refusal:
                error = error or refusal
        if len(choices) <= 2 and error is not None:
            raise error
        raise _wrong(path, wanted, value)

    return check


def _literal(choices: tuple) -> Check:
    def check(value, path):
        if value not in choices:
            raise Refusal(f"`{path}`: expected one of {', '.join(map(repr, choices))}")
        return value

    return check


def _enum(of: type[enum.Enum]) -> Check:
    def check(value, path):
        try:
            return of(value)
        except ValueError:
            raise Refusal(f"`{path}`: {value!r} is no {of.__name__}") from None

    return check


def hints(of: Any, owner: type) -> dict[str, Any]:
    """The annotations of a class or of a method of it. The class may not have its name yet."""
    return typing.get_type_hints(of, localns={owner.__name__: owner})


TRANSIENT = "exuvia.transient"
"""In the metadata of a field that is no part of what is sent or saved."""

_made: dict[type, Check] = {}


def fields(of: type) -> Check:
    """The check of a map against a dataclass: what is missing has its default, what is unknown is skipped."""
    if of in _made:
        return _made[of]
    checks: dict[str, Check] = {}
    sent = [field for field in dataclasses.fields(of) if TRANSIENT not in field.metadata]

    def check(value, path):
        if type(value) is not dict:
            raise _wrong(path or of.__name__, "a map", value)
        known = {}
        for field in sent:
            name = f"{path}.{field.name}" if path else field.name
            if field.name in value:
                if field.init:
                    known[field.name] = checks[field.name](value[field.name], name)
            elif field.init and field.default is _MISSING and field.default_factory is _MISSING:
                raise Refusal(f"`{name}` is missing")
        return of(**known)

    # Before the checks of its parts: it may be one of them.
    _made[of] = check
    resolved = hints(of, of)
    checks.update((field.name, check_of(resolved[field.name])) for field in sent)
    return check


def check_of(annotation: Any) -> Check:
    """The check for an annotation."""
    try:
        if annotation in _PLAIN:
            return _PLAIN[annotation]
    except TypeError:
        pass
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, getattr(types, "UnionType", typing.Union)):
        # What is missing is the cheapest test.
        choices = sorted(arguments, key=lambda one: one is not type(None))
        return _union([check_of(one) for one in choices], describe(annotation))
    if origin is typing.Annotated:
        return check_of(arguments[0])
    if origin is typing.Literal:
        return _literal(arguments)
    if origin in (list, set, frozenset):
        return _list(check_of(arguments[0]), origin)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _list(check_of(arguments[0]), tuple)
        return _tuple([check_of(one) for one in arguments])
    if origin is dict:
        return _dict(check_of(arguments[0]), check_of(arguments[1]))
    if isinstance(annotation, type):
        if dataclasses.is_dataclass(annotation):
            return fields(annotation)
        if issubclass(annotation, enum.Enum):
            return _enum(annotation)
        if issubclass(annotation, dict):
            return _PLAIN[dict]
    raise TypeError(f"no message can have a {describe(annotation)}: use what MessagePack has, or a dataclass")


def describe(annotation: Any) -> str:
    """An annotation as text. What may be missing is an `Option<...>`, as all SDKs write it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, getattr(types, "UnionType", typing.Union)):
        others = [describe(one) for one in arguments if one is not type(None)]
        text = " | ".join(others)
        return f"Option<{text}>" if len(others) < len(arguments) else text
    if annotation in (None, type(None)):
        return "nothing"
    if origin is not None:
        return str(annotation).replace("typing.", "")
    return getattr(annotation, "__name__", str(annotation))


def check(annotation: Any, value: Any, path: str = "value") -> Any:
    """Returns the value as the annotation has it; raises a Refusal that names the part that does not fit."""
    return check_of(annotation)(value, path)
