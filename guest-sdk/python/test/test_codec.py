"""MessagePack, with what a sender may send. The engine's codec runs the same values in the conformance suite."""

import random
import unittest
from dataclasses import dataclass
from enum import Enum

from exuvia.codec import pack, unpack


@dataclass
class Point:
    x: int
    y: float


class Colour(Enum):
    RED = "red"


class Codec(unittest.TestCase):
    def test_values_come_back(self):
        numbers = [sign * (1 << bits) + more for bits in range(63) for sign in (1, -1) for more in (-1, 0, 1)]
        for value in [
            None, True, False, *numbers, (1 << 64) - 1, -(1 << 63), 0.0, -1.5, 1e300, "", "a" * 31, "ß" * 40_000, b"", b"\0" * 70_000,
            [], list(range(70_000)), {}, {str(i): i for i in range(20)}, {1: [None, {"a": b"b"}]},
        ]:
            self.assertEqual(unpack(pack(value)), value)
        self.assertEqual(unpack(pack((1, Point(1, 2.0)))), [1, {"x": 1, "y": 2.0}])
        self.assertEqual(unpack(pack([{1}, frozenset(), Colour.RED])), [[1], [], "red"])

    def test_numbers_are_in_the_shortest_form(self):
        for value, length in ((0, 1), (127, 1), (128, 2), (256, 3), (65_536, 5), (1 << 32, 9), (-32, 1), (-33, 2), (-129, 3), (-40_000, 5)):
            self.assertEqual(len(pack(value)), length, value)

    def test_what_message_pack_does_not_have_is_refused(self):
        for value, error in ((1 << 64, OverflowError), (-(1 << 63) - 1, OverflowError), (object(), TypeError), (1j, TypeError)):
            with self.assertRaises(error):
                pack(value)
        deep = []
        for _ in range(200):
            deep = [deep]
        with self.assertRaisesRegex(ValueError, "nested"):
            pack(deep)

    def test_garbage_is_a_value_error(self):
        chance = random.Random(1)
        good = pack({"a": [1, 2.5, "text", b"bytes", None, {"b": -1}]})
        for _ in range(20_000):
            data = bytearray(good if chance.random() < 0.5 else chance.randbytes(chance.randrange(30)))
            for _ in range(chance.randrange(3)):
                if data:
                    data[chance.randrange(len(data))] = chance.randrange(256)
            try:
                unpack(bytes(data[: chance.randrange(len(data) + 1)]))
            except ValueError:
                pass
        for data in (b"", b"\xc1", b"\xd4\0\0", b"\x91" * 1000, b"\xa1\xff", b"\x81\x90\0", b"\xc0\xc0", b"\xdf\xff\xff\xff\xff"):
            with self.assertRaises(ValueError):
                unpack(data)


if __name__ == "__main__":
    unittest.main()
