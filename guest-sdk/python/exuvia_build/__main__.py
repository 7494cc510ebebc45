"""exuvia-py build SCRIPT -o MODULE: a script in Python becomes a module."""

from __future__ import annotations

import argparse
import pathlib
import sys

from . import engine, modules, sections, wasm
from .errors import BuildError


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="exuvia-py", description="Builds actors of Exuvia in Python.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="puts a script, and what it imports, into the engine")
    build.add_argument("script", type=pathlib.Path)
    build.add_argument("-o", "--out", type=pathlib.Path, required=True, metavar="FILE", help="the module")
    build.add_argument(
        "-p", "--path", type=pathlib.Path, action="append", default=[], metavar="FOLDER",
        help="where imported modules are sought, besides the folder of the script",
    )
    commands.add_parser("engine", help="builds the engine, which `build` does by itself the first time")
    return parser


def _build(script: pathlib.Path, out: pathlib.Path, paths: list[pathlib.Path]) -> None:
    folders = [script.resolve().parent, *(path.resolve() for path in paths)]
    scripts = modules.collect(script, folders)
    built = wasm.inject(engine.engine(), modules.encode(scripts), sections.of(scripts[0].name, folders))
    out.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, so that a node that watches the file sees no half.
    temporary = out.with_name(f"{out.name}.new")
    temporary.write_bytes(built)
    temporary.replace(out)


def main() -> int:
    """Returns the status to exit with."""
    arguments = _arguments().parse_args()
    try:
        if arguments.command == "engine":
            engine.engine()
        else:
            _build(arguments.script, arguments.out, arguments.path)
    except BuildError as error:
        print(error, file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
