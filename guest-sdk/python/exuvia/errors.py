"""What goes wrong, as exceptions."""

from __future__ import annotations

from .constants import Code

_NAMES = {value: name for name, value in vars(Code).items() if not name.startswith("_")}


class Refusal(Exception):
    """Raise it in a handler to refuse a message or a request: its text is told to the sender."""


class Refused(Exception):
    """The process that was called has refused; the text says why."""


class HostError(Exception):
    """A call of the host has failed. `code` is its name, such as "NOPROC"."""

    def __init__(self, call: str, code: int | str):
        self.call = call
        self.code = code if isinstance(code, str) else _NAMES.get(code, str(code))
        super().__init__(f"{call}: {self.code}")


class Timeout(HostError, TimeoutError):
    """The time is over."""

    def __init__(self, call: str):
        super().__init__(call, "TIMEOUT")


def must(call: str, code: int) -> int:
    """Returns the code of a call that has succeeded, and raises the error of one that has not."""
    if code >= 0:
        return code
    if code == Code.TIMEOUT:
        raise Timeout(call)
    raise HostError(call, code)
