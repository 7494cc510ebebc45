"""MessagePack in Python, for tests under CPython: the engine has one of its own, which does the same."""

from __future__ import annotations

import dataclasses
import enum
import struct
from typing import Any

_DEPTH = 100
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}
# What has a length: how many bytes that has.
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}


def _front(length: int, short: int, most: int, markers: tuple[int, int, int]) -> bytes:
    if length <= most:
        return bytes([short | length])
    for marker, form, limit in zip(markers, (">BB", ">BH", ">BI"), (0xFF, 0xFFFF, 0xFFFF_FFFF)):
        if marker and length <= limit:
            return struct.pack(form, marker, length)
    raise ValueError("too long for MessagePack")


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    forms = ((0xCC, ">BB", 8), (0xCD, ">BH", 16), (0xCE, ">BI", 32), (0xCF, ">BQ", 64))
    if value < 0:
        forms = ((0xD0, ">Bb", 7), (0xD1, ">Bh", 15), (0xD2, ">Bi", 31), (0xD3, ">Bq", 63))
    for marker, form, bits in forms:
        if -(1 << bits) <= value < 1 << bits:
            return struct.pack(form, marker, value)
    raise OverflowError("MessagePack has integers of 64 bits")


def pack(value: Any, depth: int = 0) -> bytes:
    """A value in MessagePack."""
    if depth > _DEPTH:
        raise ValueError(f"nested deeper than {_DEPTH}")
    if value is None:
        return b"\xc0"
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, str):
        data = value.encode()
        return _front(len(data), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + data
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _front(len(value), 0, -1, (0xC4, 0xC5, 0xC6)) + bytes(value)
    if isinstance(value, dict):
        parts = [pack(one, depth + 1) for pair in value.items() for one in pair]
        return _front(len(value), 0x80, 15, (0, 0xDE, 0xDF)) + b"".join(parts)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _front(len(value), 0x90, 15, (0, 0xDC, 0xDD)) + b"".join(pack(one, depth + 1) for one in value)
    if dataclasses.is_dataclass(value):
        return pack({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, depth)
    if isinstance(value, enum.Enum):
        return pack(value.value, depth + 1)
    raise TypeError(f"MessagePack has no {type(value).__name__}")


class _Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) < count:
            raise ValueError("no MessagePack: it ends too early")
        self.at += count
        return part

    def value(self, depth: int = 0) -> Any:
        if depth > _DEPTH:
            raise ValueError(f"no MessagePack: nested deeper than {_DEPTH}")
        marker = self.take(1)[0]
        if marker < 0x80 or marker >= 0xE0:
            return marker if marker < 0x80 else marker - 256
        if marker in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[marker]
        if marker in _NUMBERS:
            form = _NUMBERS[marker]
            return struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if marker < 0xC0:
            length = marker & (31 if marker >= 0xA0 else 15)
        elif marker in _LENGTHS:
            length = int.from_bytes(self.take(_LENGTHS[marker]), "big")
        else:
            raise ValueError("no MessagePack: the byte 0xc1" if marker == 0xC1 else "no MessagePack: an extension type")
        if marker in (0xC4, 0xC5, 0xC6):
            return self.take(length)
        if 0xA0 <= marker < 0xC0 or marker in (0xD9, 0xDA, 0xDB):
            try:
                return self.take(length).decode()
            except UnicodeDecodeError:
                raise ValueError("no MessagePack: a text is no UTF-8") from None
        if 0x90 <= marker < 0xA0 or marker in (0xDC, 0xDD):
            return [self.value(depth + 1) for _ in range(length)]
        return dict(self.entry(depth + 1) for _ in range(length))

    def entry(self, depth: int) -> tuple[Any, Any]:
        key = self.value(depth)
        if isinstance(key, (list, dict)):
            raise ValueError("no MessagePack: a list or a map as a key")
        return key, self.value(depth)


def unpack_front(data: bytes) -> tuple[Any, int]:
    """The value in front, and how many bytes it took."""
    reader = _Reader(bytes(data))
    return reader.value(), reader.at


def unpack(data: bytes) -> Any:
    """The value of MessagePack. Raises ValueError if it is none."""
    value, used = unpack_front(data)
    if used < len(data):
        raise ValueError(f"no MessagePack: {len(data) - used} bytes follow the value")
    return value
