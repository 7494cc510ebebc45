"""The process alone, without a node: `python -m unittest discover test`."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

from exuvia.testing import TestProcess  # noqa: E402

import main  # noqa: E402


class Counts(unittest.TestCase):
    def test_it_counts(self):
        process = TestProcess(main.Counter)
        process.send("Add", by=3)
        self.assertEqual(process.request("Get"), 3)


if __name__ == "__main__":
    unittest.main()
