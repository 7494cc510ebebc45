"""What the state is saved as: the custom section `exuvia.state`, in the words that all languages have for it (`guest-sdk/abi.md`)."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from typing import Any

from exuvia.pid import Pid
from exuvia.shape import TRANSIENT, hints

_WORDS: dict[Any, str] = {
    Any: "any", object: "any", bool: "bool", int: "int", float: "float", str: "text", bytes: "bytes", bytearray: "bytes",
    Pid: "pid", None: "nil", type(None): "nil", list: "List<any>", dict: "Map<any, any>",
}


def word(annotation: Any, within: tuple[type, ...] = ()) -> str:
    """The word for a type. `within` are the classes that it is a part of: of such a one only the name is written."""
    try:
        if annotation in _WORDS:
            return _WORDS[annotation]
    except TypeError:
        pass
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, getattr(types, "UnionType", typing.Union)):
        others = [one for one in arguments if one is not type(None)]
        text = word(others[0], within) if len(others) == 1 else "any"
        return f"Option<{text}>" if len(others) < len(arguments) else text
    if origin is typing.Annotated:
        return word(arguments[0], within)
    if origin in (list, set, frozenset) or origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"List<{word(arguments[0], within)}>"
    if origin is tuple:
        return f"Tuple<{', '.join(word(one, within) for one in arguments)}>"
    if origin is dict:
        return f"Map<{word(arguments[0], within)}, {word(arguments[1], within)}>"
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return f"'{annotation.__name__}'" if annotation in within else fields(annotation, within)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return f"'{annotation.__name__}'"
    return "any"


def fields(of: type, within: tuple[type, ...] = ()) -> str:
    """The word for a dataclass. What has a default may be missing."""
    known = hints(of, of)
    parts = []
    for field in dataclasses.fields(of):
        if TRANSIENT in field.metadata:
            continue
        is_needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        parts.append(f"{field.name}{'' if is_needed else '?'}: {word(known[field.name], (*within, of))}")
    return f"{{{', '.join(parts)}}}"


def contract(of: type, schema: int, loads: typing.Iterable[int] | None) -> dict[str, Any]:
    """What the section says of an actor: its schema, those that `load` converts, and the type of what is saved."""
    save = inspect.getattr_static(of, "save", None)
    text = fields(of) if save is None else word(hints(save, of).get("return", Any))
    said: dict[str, Any] = {"schema": schema, "type": text}
    others = [one for one in loads or () if one != schema]
    if others:
        said["loads"] = others
    elif loads is None and inspect.getattr_static(of, "load", None) is not None:
        said["loads"] = "any"
    return said
