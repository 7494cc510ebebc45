"""The build tool: what it finds, what it reports, and what it writes. The engine is a module of a few bytes here."""

import pathlib
import tempfile
import unittest

from exuvia_build import modules, sections, wasm
from exuvia_build.errors import BuildError


def section(kind: int, *body: int) -> bytes:
    return bytes([kind, len(body), *body])


# A memory of one page, the global `exuvia_scripts` with the value 16, and one segment of data at 0.
ENGINE = b"".join([
    b"\0asm\1\0\0\0",
    section(5, 1, 0, 1),
    section(6, 1, 0x7F, 0, 0x41, 16, 0x0B),
    section(7, 1, 14, *b"exuvia_scripts", 3, 0),
    section(12, 1),
    section(11, 1, 0, 0x41, 0, 0x0B, 2, 7, 7),
])


class Build(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)

    def write(self, name: str, text: str) -> pathlib.Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def collect(self, text: str) -> list[str]:
        found = modules.collect(self.write("script.py", text), [self.folder])
        return [one.name for one in found if not one.name.startswith("exuvia")]

    def test_modules_beside_the_script_are_found(self):
        self.write("a.py", "from pack import inner, value\n")
        self.write("pack/__init__.py", "value = 1\n")
        self.write("pack/inner.py", "from . import other\nfrom .deep.one import x\n")
        self.write("pack/other.py", "")
        self.write("pack/deep/__init__.py", "")
        self.write("pack/deep/one.py", "x = 1\n")
        self.write("unused.py", "")
        found = self.collect("import json\nimport a\nimport exuvia\n")
        self.assertEqual(found[0], "script")
        self.assertEqual(sorted(found[1:]), ["a", "pack", "pack.deep", "pack.deep.one", "pack.inner", "pack.other"])

    def test_the_sdk_goes_with_it_and_its_tests_do_not(self):
        found = {one.name for one in modules.collect(self.write("script.py", ""), [self.folder])}
        self.assertLess({"exuvia", "exuvia.boot", "exuvia.running", "exuvia.waiting"}, found)
        self.assertFalse({"exuvia.testing", "exuvia.codec"} & found)

    def test_a_syntax_error_has_its_place(self):
        self.write("other.py", "def f(:\n    pass\n")
        for text, place in (("x = 1\nx = = 2\n", r"script\.py:2:5: SyntaxError"), ("import other\n", r"other\.py:1:7: "), ("return 1\n", r"script\.py:1:1: ")):
            with self.assertRaisesRegex(BuildError, place):
                self.collect(text)

    def test_a_module_that_is_not_there_has_the_place_of_its_import(self):
        with self.assertRaisesRegex(BuildError, r"script\.py:2:1: there is no module nowhere"):
            self.collect("import json\nimport nowhere\n")
        with self.assertRaisesRegex(BuildError, r"script\.py:1:1: the engine has no module asyncio"):
            self.collect("import asyncio.events\n")
        self.assertEqual(self.collect("import os.path, zlib, collections.abc\nfrom math import pi\n"), ["script"])
        self.assertEqual(self.collect("try:\n    import nowhere\nexcept ImportError:\n    pass\n"), ["script"])

    def test_an_error_at_the_top_is_reported_with_its_line(self):
        for text, said in (("import exuvia\n1 / 0\n", r"ZeroDivisionError.*\n(.*\n)*.*script\.py:2"), ("import exuvia\n", "no actor")):
            script = self.write("script.py", text)
            with self.assertRaisesRegex(BuildError, said):
                sections.of("script", [script.parent])

    def test_the_scripts_are_behind_the_memory(self):
        scripts = bytes(range(256)) * 300
        built = wasm.inject(ENGINE, scripts, {"exuvia.protocol": b"{}"})
        found = dict(wasm._sections(built))
        self.assertEqual(found[5], bytes([1, 0, 3]))
        self.assertEqual(found[12], bytes([3]))
        place = wasm._segment(16, (65536).to_bytes(4, "little") + len(scripts).to_bytes(4, "little"))
        self.assertTrue(found[11].endswith(wasm._segment(65536, scripts) + place))
        custom = [body for kind, body in wasm._sections(built) if kind == 0]
        self.assertEqual(custom[1], b"\x0fexuvia.protocol{}")
        self.assertIn(b"exuvia_scripts", custom[0])

    def test_numbers_are_written_as_they_are_read(self):
        for value in (0, 1, 63, 64, 127, 128, 65536, 7_143_424, (1 << 31) - 1):
            self.assertEqual(wasm._read_unsigned(wasm._unsigned(value), 0)[0], value)
            self.assertEqual(wasm._read_signed(wasm._signed(value), 0)[0], value)
        self.assertEqual(wasm._read_signed(wasm._signed(1 << 31), 0)[0], -(1 << 31))

    def test_a_script_is_a_module(self):
        with self.assertRaisesRegex(BuildError, "the name of a script"):
            modules.collect(self.write("my-script.py", ""), [self.folder])


if __name__ == "__main__":
    unittest.main()
