"""What messages a script takes: it is imported once, by the Python that builds, with a host that does nothing."""

from __future__ import annotations

import pathlib
import subprocess
import sys

from .errors import BuildError
from .modules import SDK

_SCRIPT = """
import importlib, sys
name, *sys.path[:0] = sys.argv[1:]
try:
    importlib.import_module(name)
    from exuvia import running
    text = running.protocol()
except BaseException as error:
    from exuvia.traces import describe
    sys.exit(describe(error))
sys.__stdout__.buffer.write(text.encode())
"""


def of(name: str, folders: list[pathlib.Path]) -> str:
    """The lines of the custom section `exuvia.protocol`. An error at the top of the script is reported."""
    command = [sys.executable, "-B", "-c", f"import sys\nsys.stdout = sys.stderr\n{_SCRIPT}", name, *map(str, folders), str(SDK)]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise BuildError(done.stderr.decode("utf-8", "replace").strip() or f"{name} ends with status {done.returncode}")
    return done.stdout.decode()
