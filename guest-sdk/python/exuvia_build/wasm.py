"""Puts bytes into the engine: no compiler, a few sections of the module are written anew."""

from __future__ import annotations

from typing import Iterator, Mapping

from .errors import BuildError

_CUSTOM, _MEMORY, _GLOBAL, _EXPORT, _DATA, _DATA_COUNT = 0, 5, 6, 7, 11, 12
_FUNCTION_EXPORT, _GLOBAL_EXPORT = 0, 3
_NAMES_OF_FUNCTIONS, _NAMES_OF_GLOBALS = 1, 7
_PAGE = 65536
_I32_CONST, _END = 0x41, 0x0B
# The export of the two words that say where the scripts are: `engine/src/payload.rs`.
_PLACE = "exuvia_scripts"


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        out.append(low | 0x80 if value else low)
        if not value:
            return bytes(out)


def _signed(value: int) -> bytes:
    """A signed number of 32 bits, as `i32.const` has it."""
    value = (value & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        if value == (-1 if low & 0x40 else 0):
            out.append(low)
            return bytes(out)
        out.append(low | 0x80)


def _read_unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _read_signed(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value - (1 << shift) if byte & 0x40 else value, at


def _sections(module: bytes) -> Iterator[tuple[int, bytes]]:
    at = 8
    while at < len(module):
        length, start = _read_unsigned(module, at + 1)
        yield module[at], module[start : start + length]
        at = start + length


def _section(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _unsigned(len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return _unsigned(len(data)) + data


def _segment(address: int, data: bytes) -> bytes:
    """An active segment: bytes that memory has at an address from the start."""
    return bytes([0, _I32_CONST]) + _signed(address) + bytes([_END]) + _unsigned(len(data)) + data


def _exports(body: bytes) -> dict[str, tuple[int, int]]:
    count, at = _read_unsigned(body, 0)
    found = {}
    for _ in range(count):
        length, at = _read_unsigned(body, at)
        name = body[at : at + length].decode()
        kind = body[at + length]
        index, at = _read_unsigned(body, at + length + 1)
        found[name] = (kind, index)
    return found


def _global(body: bytes, index: int) -> int:
    """The value of a global that is a constant. The engine imports none."""
    count, at = _read_unsigned(body, 0)
    for number in range(count):
        at += 2
        if body[at] != _I32_CONST:
            raise BuildError(f"the engine's global {number} is no i32.const: exuvia-py does not know this engine")
        value, at = _read_signed(body, at + 1)
        at += 1
        if number == index:
            return value & 0xFFFF_FFFF
    raise BuildError(f"the engine has no global {index}")


def _names(exports: Mapping[str, tuple[int, int]]) -> bytes:
    """A section with the names of what is exported, for backtraces: the engine's own has none."""

    def part(number: int, kind: int) -> bytes:
        named = {index: name for name, (of, index) in sorted(exports.items(), reverse=True) if of == kind}
        body = _unsigned(len(named)) + b"".join(_unsigned(index) + _text(name) for index, name in sorted(named.items()))
        return bytes([number]) + _unsigned(len(body)) + body

    body = part(_NAMES_OF_FUNCTIONS, _FUNCTION_EXPORT) + part(_NAMES_OF_GLOBALS, _GLOBAL_EXPORT)
    return _section(_CUSTOM, _text("name") + body)


def inject(engine: bytes, scripts: bytes, custom: Mapping[str, bytes]) -> bytes:
    """Returns a module that is the engine with the scripts behind its memory, and custom sections."""
    bodies = dict(_sections(engine))
    exports = _exports(bodies[_EXPORT])
    if _PLACE not in exports:
        raise BuildError(f"the engine does not export {_PLACE}: it is none")
    flags, at = _read_unsigned(bodies[_MEMORY], 1)
    pages, at = _read_unsigned(bodies[_MEMORY], at)
    address = pages * _PAGE
    place = address.to_bytes(4, "little") + len(scripts).to_bytes(4, "little")
    segments = [_segment(address, scripts), _segment(_global(bodies[_GLOBAL], exports[_PLACE][1]), place)]
    pages += -(-len(scripts) // _PAGE)
    parts = [engine[:8]]
    for kind, body in _sections(engine):
        if kind == _MEMORY:
            body = b"\x01" + _unsigned(flags) + _unsigned(pages) + bodies[_MEMORY][at:]
        elif kind == _DATA_COUNT:
            body = _unsigned(_read_unsigned(body, 0)[0] + len(segments))
        elif kind == _DATA:
            count, rest = _read_unsigned(body, 0)
            body = _unsigned(count + len(segments)) + body[rest:] + b"".join(segments)
        parts.append(_section(kind, body))
    parts.append(_names(exports))
    parts += [_section(_CUSTOM, _text(name) + body) for name, body in custom.items() if body]
    return b"".join(parts)
