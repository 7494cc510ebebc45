"""Uses a folder in every way that CPython has, and replies what it found: a list of names and results."""

import errno
import os
from typing import Any

import umsgpack
import wit_world
from wit_world.imports.types import Message


def attempt(action: Any) -> Any:
    """What an action returns, or the name of its error."""
    try:
        return action()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


def write(path: str, mode: str, data: bytes) -> None:
    with open(path, mode) as file:
        file.write(data)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def replace(path: str) -> bytes:
    with open(path, "r+b") as file:
        file.seek(2)
        file.write(b"XY")
        file.seek(1)
        return file.read(4)


def work(at: str) -> list[Any]:
    file, large = f"{at}/file", f"{at}/large"
    data = bytes(range(256)) * 12_000
    return [
        attempt(lambda: os.mkdir(f"{at}/folder")),
        attempt(lambda: os.mkdir(f"{at}/folder")),
        attempt(lambda: write(file, "wb", b"0123456789")),
        attempt(lambda: write(file, "ab", b"abc")),
        attempt(lambda: read(file)),
        attempt(lambda: replace(file)),
        attempt(lambda: os.stat(file).st_size),
        attempt(lambda: os.truncate(file, 5)),
        attempt(lambda: read(file)),
        attempt(lambda: os.utime(file, (1_000_000_000, 1_234_567_890))),
        attempt(lambda: int(os.stat(file).st_mtime)),
        attempt(lambda: write(large, "wb", data)),
        attempt(lambda: read(large) == data),
        attempt(lambda: os.rename(large, f"{at}/folder/moved")),
        attempt(lambda: read(large)),
        attempt(lambda: os.link(file, f"{at}/linked")),
        attempt(lambda: os.symlink("file", f"{at}/symbolic")),
        attempt(lambda: os.readlink(f"{at}/symbolic")),
        attempt(lambda: read(f"{at}/symbolic")),
        attempt(lambda: os.path.isdir(f"{at}/folder") and not os.path.isdir(file)),
        attempt(lambda: [write(f"{at}/folder/{number:03}-{'n' * 100}", "wb", b"") for number in range(100)] and None),
        attempt(lambda: len(os.listdir(f"{at}/folder"))),
        attempt(lambda: sorted((entry.name, entry.is_dir()) for entry in os.scandir(at))),
        attempt(lambda: os.rmdir(f"{at}/folder")),
        attempt(lambda: [os.remove(f"{at}/folder/{name}") for name in os.listdir(f"{at}/folder")] and None),
        attempt(lambda: os.rmdir(f"{at}/folder")),
        attempt(lambda: [os.remove(f"{at}/{name}") for name in os.listdir(at)] and None),
        attempt(lambda: os.listdir(at)),
        attempt(lambda: read("/etc/passwd")),
        attempt(lambda: read(f"{at}/../../etc/passwd")),
    ]


class WitWorld(wit_world.WitWorld):
    def schema(self) -> int:
        return 0

    def init(self, arguments: bytes) -> None:
        pass

    def handle_message(self, message: Message) -> None:
        pass

    def handle_request(self, message: Message) -> bytes | None:
        return umsgpack.packb(work(umsgpack.unpackb(message.payload)))

    def save(self) -> bytes:
        return b""

    def load(self, schema: int, state: bytes) -> None:
        pass
