"""Pids."""

from __future__ import annotations


class Pid(bytes):
    """A process: 16 bytes that are opaque."""

    __slots__ = ()

    def __new__(cls, value: bytes) -> Pid:
        if len(value) != 16:
            raise ValueError(f"a pid has 16 bytes, not {len(value)}")
        return bytes.__new__(cls, value)

    def __repr__(self) -> str:
        node, local = int.from_bytes(self[:8], "little"), int.from_bytes(self[8:], "little")
        return f"<{node}.{local}>"

    __str__ = __repr__


NONE = Pid(bytes(16))
"""No process: as a sender, a source outside the node or the host itself."""
