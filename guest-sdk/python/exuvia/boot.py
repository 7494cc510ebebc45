"""Starts the SDK and the script: the first Python that the engine runs, once for each version. Not to be imported."""

import io
import sys
import time

import _exuvia
import _frozen_importlib as bootstrap


class Output(io.TextIOBase):
    """What is printed: the host makes a line of its log of each line. A line is written at once when it ends."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, number):
        self.number, self.begun = number, ""

    def fileno(self):
        return self.number

    def writable(self):
        return True

    def write(self, text):
        lines, end, rest = (self.begun + text).rpartition("\n")
        if end:
            _exuvia.write(self.number, lines + end)
        self.begun = rest
        return len(text)

    def flush(self):
        if self.begun:
            _exuvia.write(self.number, self.begun)
            self.begun = ""


class Scripts:
    """Finds and loads the modules that the build tool has put behind the engine."""

    def __init__(self, scripts):
        self.scripts = {name: (is_package, file, text) for name, is_package, file, text in scripts}

    def find_spec(self, name, path=None, target=None):
        if name not in self.scripts:
            return None
        is_package, file, _ = self.scripts[name]
        spec = bootstrap.ModuleSpec(name, self, origin=file, is_package=is_package)
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        _, file, text = self.scripts[module.__name__]
        module.__file__ = file
        exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name):
        return self.scripts[name][2]


def describe(error):
    """The text of an exception for people, by the SDK if that could be loaded."""
    traces = sys.modules.get("exuvia.traces")
    if hasattr(traces, "describe"):
        return traces.describe(error)
    text, place = f"{type(error).__name__}: {error}", error.__traceback__
    while place is not None:
        code = place.tb_frame.f_code
        text += f"\n  {code.co_filename}:{place.tb_lineno}, in {code.co_name}"
        place = place.tb_next
    return text


def start():
    """Runs the script. Returns the module of the SDK that takes the messages."""
    if not hasattr(time, "tzname"):
        # The interpreter has none for this system: its clocks are in UTC.
        time.tzname, time.timezone, time.altzone, time.daylight = ("UTC", "UTC"), 0, 0, 0
    for name, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, Output(number))
        setattr(sys, f"__{name}__", getattr(sys, name))
    scripts = _exuvia.scripts()
    sys.meta_path.insert(0, Scripts(scripts))
    import exuvia.traces
    from exuvia import running

    running.prepare()
    __import__(scripts[0][0])
    running.warm_up()
    return running
