"""What a script says of itself in custom sections, the messages that it takes and the state that it saves: it is imported once, by the Python that builds, with a host that does nothing."""

from __future__ import annotations

import json
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
    import json
    from exuvia import running
    from exuvia_build import saved
    actor = running._actor()
    state = saved.contract(actor.of, actor.schema, actor.loads)
    text = json.dumps({"exuvia.protocol": running.protocol(), "exuvia.state": json.dumps(state, ensure_ascii=False)})
except BaseException as error:
    from exuvia.traces import describe
    sys.exit(describe(error))
sys.__stdout__.buffer.write(text.encode())
"""


def of(name: str, folders: list[pathlib.Path]) -> dict[str, bytes]:
    """The custom sections by their names. An error at the top of the script is reported."""
    command = [sys.executable, "-B", "-c", f"import sys\nsys.stdout = sys.stderr\n{_SCRIPT}", name, *map(str, folders), str(SDK)]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise BuildError(done.stderr.decode("utf-8", "replace").strip() or f"{name} ends with status {done.returncode}")
    return {section: text.encode() for section, text in json.loads(done.stdout).items()}
