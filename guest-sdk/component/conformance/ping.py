"""Plays ping-pong: see ../../conformance/README.md."""

from typing import Any

import umsgpack
import wit_world
from wit_world.imports import host
from wit_world.imports.types import Message, Pid

handled = 0


def send(to: Pid, name: str, left: int) -> None:
    host.send(to, 0, umsgpack.packb({name: {"left": left}}))


class WitWorld(wit_world.WitWorld):
    def schema(self) -> int:
        return 0

    def init(self, arguments: bytes) -> None:
        pass

    def handle_message(self, message: Message) -> None:
        global handled
        [(name, fields)] = umsgpack.unpackb(message.payload).items()
        if name == "Start":
            to = fields["to"]
            send(Pid(int.from_bytes(to[:8], "little"), int.from_bytes(to[8:], "little")), "Ping", fields["rounds"])
            return
        handled += 1
        if name == "Ping":
            send(message.sender, "Pong", fields["left"])
        elif fields["left"] > 1:
            send(message.sender, "Ping", fields["left"] - 1)

    def handle_request(self, message: Message) -> bytes | None:
        return umsgpack.packb(handled)

    def save(self) -> bytes:
        return b""

    def load(self, schema: int, state: bytes) -> None:
        pass
