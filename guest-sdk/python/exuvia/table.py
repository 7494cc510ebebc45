"""Tables: rows outside of all memories, that other processes may read or write."""

from __future__ import annotations

from typing import Any, Iterator

from .constants import Access, Code
from .errors import must
from .host import host
from .pid import Pid

_NEW = 1
_ROWS, _BYTES = 0, 1


def _key(key: Any) -> bytes:
    return key.encode() if isinstance(key, str) else key if isinstance(key, bytes) else host.pack(key)


def _fetched(call: str, code: int, data: bytes) -> bytes | None:
    if code == Code.EMPTY:
        return None
    must(call, code)
    return data


class Table:
    """A table. Keys are str or bytes, others are packed; values are packed."""

    def __init__(self, number: int):
        self.number = number

    @classmethod
    def create(cls, name: str = "", access: int = Access.PROTECTED) -> Table:
        """Creates a table, which ends with this process. Without a name only who knows its number finds it."""
        code, number = host.table_new(name, access)
        must("Table.create", code)
        return cls(number)

    @classmethod
    def find(cls, name: str) -> Table | None:
        """The table of a name."""
        code, number = host.table_find(name)
        if code == Code.NOPROC:
            return None
        must("Table.find", code)
        return cls(number)

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key."""
        data = _fetched("Table.get", *host.table_get(self.number, _key(key)))
        return default if data is None else host.unpack(data)

    def put(self, key: Any, value: Any) -> bool:
        """Stores a row. Returns whether there was one."""
        return must("Table.put", host.table_put(self.number, _key(key), host.pack(value), 0)) == 1

    def insert(self, key: Any, value: Any) -> bool:
        """Stores a row if there is none. Returns whether it was stored."""
        return must("Table.insert", host.table_put(self.number, _key(key), host.pack(value), _NEW)) == 0

    def delete(self, key: Any) -> bool:
        """Deletes a row. Returns whether there was one."""
        return must("Table.delete", host.table_delete(self.number, _key(key))) == 1

    def add(self, key: Any, amount: int = 1) -> int:
        """Adds to a number that only `add` writes. Returns the sum."""
        code, total = host.table_add(self.number, _key(key), amount)
        must("Table.add", code)
        return total

    def keys(self) -> Iterator[bytes]:
        """All keys as bytes, in their order."""
        key = b""
        while (key := _fetched("Table.keys", *host.table_next(self.number, key))) is not None:
            yield key

    def __len__(self) -> int:
        return must("Table.__len__", host.table_info(self.number, _ROWS))

    @property
    def bytes(self) -> int:
        """How many bytes the rows count."""
        return must("Table.bytes", host.table_info(self.number, _BYTES))

    def set_heir(self, pid: Pid | None, tag: int = 0) -> None:
        """Who gets the table when this process ends."""
        must("Table.set_heir", host.table_heir(self.number, pid, tag))

    def give(self, pid: Pid, tag: int = 0) -> None:
        """Gives the table to another process."""
        must("Table.give", host.table_give(self.number, pid, tag))

    def end(self) -> None:
        """Ends the table."""
        must("Table.end", host.table_end(self.number))
