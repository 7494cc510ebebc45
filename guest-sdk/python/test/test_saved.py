"""The words of `exuvia.state`, which all languages have."""

import enum
import json
import pathlib
import tempfile
import unittest
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

from exuvia import Pid, transient
from exuvia_build import saved, sections


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Node:
    value: float
    children: "list[Node]" = field(default_factory=list)


@dataclass
class State:
    count: int
    name: str = ""
    raw: bytes = b""
    peer: Optional[Pid] = None
    either: "int | str" = 0
    by: dict[str, tuple[int, bool]] = field(default_factory=dict)
    many: tuple[str, ...] = ()
    colour: Colour = Colour.RED
    mode: Literal["a", "b"] = "a"
    tree: Optional[Node] = None
    file: Any = transient()


class Words(unittest.TestCase):
    def test_each_type_has_its_word(self):
        self.assertEqual(
            saved.fields(State),
            "{count: int, name?: text, raw?: bytes, peer?: Option<pid>, either?: any, by?: Map<text, Tuple<int, bool>>, many?: List<text>, "
            "colour?: 'Colour', mode?: any, tree?: Option<{value: float, children?: List<'Node'>}>}",
        )

    def contract(self, text: str) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "script.py").write_text(f"from exuvia import actor\n{text}")
            return json.loads(sections.of("script", [pathlib.Path(folder)])["exuvia.state"])

    def test_an_actor_says_which_schemas_it_takes(self):
        self.assertEqual(self.contract("@actor\nclass A:\n  n: int = 0\n"), {"schema": 0, "type": "{n?: int}"})
        load = "\n  @classmethod\n  def load(cls, saved, schema): return cls(saved['n'])\n"
        self.assertEqual(
            self.contract(f"@actor(schema=3, loads=[1, 2, 3])\nclass A:\n  n: int{load}"), {"schema": 3, "loads": [1, 2], "type": "{n: int}"}
        )
        self.assertEqual(self.contract(f"@actor(schema=3)\nclass A:\n  n: int{load}")["loads"], "any")

    def test_a_save_of_its_own_is_described_by_what_it_returns(self):
        save = "\n  def save(self) -> dict[str, int]: return {'n': self.n}\n"
        self.assertEqual(self.contract(f"@actor\nclass A:\n  n: int{save}")["type"], "Map<text, int>")
