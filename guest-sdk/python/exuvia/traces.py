"""Exceptions for people: the traceback with the lines of the author's own files."""

from __future__ import annotations

import sys

_MOST_FRAMES = 40


def _line(file: str, number: int) -> str:
    """The line of a script. Files of the standard library have none."""
    for finder in sys.meta_path:
        for _, path, text in getattr(finder, "scripts", {}).values():
            if path == file:
                lines = text.splitlines()
                return lines[number - 1].strip() if 0 < number <= len(lines) else ""
    return ""


def _frames(traceback) -> list[str]:
    lines = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        lines.append((code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    # The SDK calls the handler: that is not what the author looks for.
    # As in the reasons of other languages, and of Python's faulthandler: where it happened is what must not be cut.
    lines.reverse()
    own = [line for line in lines if not line[0].startswith("exuvia/")]
    lines = own or lines
    if len(lines) > _MOST_FRAMES:
        half = _MOST_FRAMES // 2
        lines = lines[:half] + [None] + lines[-half:]
    text = []
    for line in lines:
        if line is None:
            text.append("  ...")
            continue
        file, number, name = line
        text.append(f"  {file}:{number}, in {name}")
        source = _line(file, number)
        if source:
            text.append(f"    {source}")
    return text


def describe(error: BaseException) -> str:
    """The text of an exception, its traceback and what caused it."""
    seen, parts = [], []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, SyntaxError) and error.filename:
            place = f"{error.filename}:{error.lineno}:{error.offset}: " if error.offset else f"{error.filename}:{error.lineno}: "
            last = f"{place}{type(error).__name__}: {error.msg}"
        else:
            text = str(error)
            last = f"{type(error).__name__}: {text}" if text else type(error).__name__
        frames = _frames(error.__traceback__)
        lines = [last, "Traceback (most recent call first):", *frames] if frames else [last]
        parts.append("\n".join(lines))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\ncaused by ".join(parts)
