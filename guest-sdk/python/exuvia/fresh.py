"""What is different in a process: random numbers and the environment, although the start is shared, and the depth of JSON."""

from __future__ import annotations

import json
import json.decoder
import os
import random
import sys

from .host import host


class _Source(random.SystemRandom):
    """The generator of `random`: that of the host, until the process has seeded it."""

    _seeded: random.Random | None = None

    def seed(self, a=None, version=2):
        self._seeded = None if a is None else random.Random(a)

    def random(self):
        return random.SystemRandom.random(self) if self._seeded is None else self._seeded.random()

    def getrandbits(self, k):
        return random.SystemRandom.getrandbits(self, k) if self._seeded is None else self._seeded.getrandbits(k)

    def getstate(self):
        if self._seeded is None:
            raise NotImplementedError("the host's generator has no state: call seed first")
        return self._seeded.getstate()

    def setstate(self, state):
        self._seeded = random.Random(0)
        self._seeded.setstate(state)


def share_nothing_random() -> None:
    """Makes the functions of `random` those of a generator that is not part of the shared start."""
    source = _Source()
    for name in random.__all__:
        if isinstance(getattr(getattr(random, name), "__self__", None), random.Random):
            setattr(random, name, getattr(source, name))
    random._inst = source


# The interpreter's parser calls itself, and a process has less stack than it takes for granted.
_JSON_DEPTH = 200


def bound_json() -> None:
    """Makes JSON that is nested too deep an error of the text, as it may have been sent by anybody."""
    whole = json.decoder.JSONDecoder.raw_decode

    def raw_decode(self, s, idx=0):
        if isinstance(s, str) and host.nests_deeper(s, _JSON_DEPTH):
            raise json.JSONDecodeError(f"nested deeper than {_JSON_DEPTH}", s, idx)
        return whole(self, s, idx)

    setattr(json.decoder.JSONDecoder, "raw_decode", raw_decode)


def begin() -> None:
    """The start of a process: the environment and the arguments that it was granted."""
    environment, arguments = host.born()
    for name, value in environment:
        os.environ[name] = value
    if len(arguments) > 1:
        sys.argv[:] = arguments
