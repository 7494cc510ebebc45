"""Finds the modules that a script imports: those beside it, and the SDK. The standard library is in the engine."""

from __future__ import annotations

import ast
import pathlib
import sys
from dataclasses import dataclass
from typing import Iterator

from .errors import BuildError

SDK = pathlib.Path(__file__).resolve().parent.parent
# What of the standard library is in the engine: what is frozen into it, and what the interpreter has built in.
_FROZEN, _NATIVE = SDK / "engine/modules.txt", SDK / "engine/native.txt"
# The SDK's own, that only CPython needs.
_NOT_IN_ENGINE = {"exuvia.codec", "exuvia.testing"}


@dataclass
class Module:
    """A module that goes into the engine."""

    name: str
    file: pathlib.Path
    # As tracebacks show it.
    shown: str
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.file.name == "__init__.py"


def _shown(file: pathlib.Path) -> str:
    for folder in (SDK, pathlib.Path.cwd()):
        if file.is_relative_to(folder):
            return file.relative_to(folder).as_posix()
    return file.as_posix()


def _read(name: str, file: pathlib.Path) -> Module:
    shown = _shown(file)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BuildError(f"{shown}: it is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        tree = ast.parse(text, shown)
        # What only the compiler sees, such as a `return` outside of a function.
        compile(text, shown, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise BuildError(f"{shown}:{error.lineno}:{error.offset}: {type(error).__name__}: {error.msg}") from None
    except ValueError as error:
        raise BuildError(f"{shown}: {error}") from None
    return Module(name, file, shown, text, tree)


def _find(name: str, folders: list[pathlib.Path]) -> pathlib.Path | None:
    path = name.replace(".", "/")
    for folder in folders:
        for file in (folder / path / "__init__.py", folder / f"{path}.py"):
            if file.is_file():
                return file
    return None


def _guarded(tree: ast.Module) -> set[int]:
    """The imports in a `try` or an `if`: the script goes on without them."""
    guards = (node for node in ast.walk(tree) if isinstance(node, (ast.Try, ast.If)))
    return {id(node) for guard in guards for node in ast.walk(guard)}


def _imports(module: Module) -> Iterator[tuple[str, bool, ast.stmt]]:
    """The names that a module imports, whether they must be there, and where."""
    guarded = _guarded(module.tree)
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        needed = id(node) not in guarded
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, needed, node
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, node.module] if node.module else parents)
            if base:
                yield base, needed, node
                # Each name may be a module or what the module has.
                for alias in node.names:
                    yield f"{base}.{alias.name}", False, node


def collect(script: pathlib.Path, folders: list[pathlib.Path]) -> list[Module]:
    """The script, and all modules that it and they import. The script is the first."""
    if not script.stem.isidentifier():
        raise BuildError(f"{script}: the name of a script is that of a module: letters, digits and _")
    found = {script.stem: _read(script.stem, script.resolve())}
    waiting = [found[script.stem]]
    places = [*folders, SDK]

    def add(name: str) -> bool:
        """Adds a module and the packages that it is in. False: there is no file of it."""
        if name in _NOT_IN_ENGINE or name in found:
            return True
        file = _find(name, places)
        if file is None or name.split(".")[0] in sys.stdlib_module_names and not _is_beside(file, folders):
            return False
        if "." in name and not add(name.rpartition(".")[0]):
            return False
        found[name] = _read(name, file)
        waiting.append(found[name])
        return True

    library = {name for file in (_FROZEN, _NATIVE) for name in file.read_text().split()}
    for name in ("exuvia", "exuvia.boot", "exuvia.running", "exuvia.traces"):
        add(name)
    while waiting:
        module = waiting.pop()
        for name, needed, node in _imports(module):
            top = name.split(".")[0]
            if add(name) or not needed or top in library or top.startswith("_"):
                continue
            where = f"{module.shown}:{node.lineno}:{node.col_offset + 1}"
            if top in sys.stdlib_module_names:
                raise BuildError(f"{where}: the engine has no module {top}: of the standard library it has those in {_FROZEN.name} and {_NATIVE.name}")
            raise BuildError(
                f"{where}: there is no module {name}: it is neither beside the script nor in the standard library. "
                "--path FOLDER names another folder with modules in Python"
            )
    return list(found.values())


def _is_beside(file: pathlib.Path, folders: list[pathlib.Path]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)


def encode(scripts: list[Module]) -> bytes:
    """All modules as the engine reads them: texts, each with its length in front."""
    parts = []
    for module in scripts:
        for text in (module.name, "package" if module.is_package else "module", module.shown, module.text):
            data = text.encode()
            parts += [len(data).to_bytes(4, "little"), data]
    return b"".join(parts)
