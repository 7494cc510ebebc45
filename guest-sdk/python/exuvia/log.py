"""Lines in the host's log. `logging` writes there too, if the script imports it at its top."""

from __future__ import annotations

import sys

from .constants import LogLevel
from .host import host


def error(text: object) -> None:
    """Something failed."""
    host.log(LogLevel.ERROR, str(text))


def warning(text: object) -> None:
    """Something is unexpected."""
    host.log(LogLevel.WARN, str(text))


def info(text: object) -> None:
    """Worth knowing."""
    host.log(LogLevel.INFO, str(text))


def debug(text: object) -> None:
    """For the module's author."""
    host.log(LogLevel.DEBUG, str(text))


def install() -> None:
    """Gives `logging` a handler that writes to the host's log, unless the script has given it one."""
    logging = sys.modules.get("logging")
    if logging is None or logging.getLogger().handlers:
        return

    class Handler(logging.Handler):
        def emit(self, record):
            number = record.levelno
            level = (
                LogLevel.ERROR if number >= logging.ERROR
                else LogLevel.WARN if number >= logging.WARNING
                else LogLevel.INFO if number >= logging.INFO
                else LogLevel.DEBUG
            )
            host.log(level, self.format(record))

    handler = Handler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    if root.level == logging.WARNING:
        root.setLevel(logging.DEBUG)
    # It would look for the thread and the process of each record.
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)
