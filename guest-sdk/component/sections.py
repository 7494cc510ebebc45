#!/usr/bin/env python3
"""sections.py COMPONENT [--state FILE] [--protocol FILE]: adds what the actor says of itself to a component.

The files are the text of the custom sections `exuvia.state` and `exuvia.protocol` (../abi.md, section 2), by which
`exuvia check OLD NEW` compares two versions, and `exuvia describe` and `exuvia call` know the messages.
"""

import argparse
import pathlib


def number(value: int) -> bytes:
    """An unsigned number in LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def section(name: str, text: bytes) -> bytes:
    """A custom section, which may stand at the end of any module or component."""
    body = number(len(name)) + name.encode() + text
    return b"\0" + number(len(body)) + body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("component", type=pathlib.Path)
    parser.add_argument("--state", type=pathlib.Path)
    parser.add_argument("--protocol", type=pathlib.Path)
    arguments = parser.parse_args()
    wasm = arguments.component.read_bytes()
    if not wasm.startswith(b"\0asm"):
        parser.error(f"{arguments.component} is no Wasm file")
    for name, file in (("exuvia.state", arguments.state), ("exuvia.protocol", arguments.protocol)):
        if file:
            wasm += section(name, file.read_bytes().strip())
    arguments.component.write_bytes(wasm)


if __name__ == "__main__":
    main()
