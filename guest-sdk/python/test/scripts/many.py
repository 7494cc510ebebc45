"""An actor with a handler of each kind, for the tests."""

import enum
import logging
from dataclasses import dataclass, field
from typing import Any, Literal

from exuvia import (
    Ended, HostError, Pid, Refusal, Refused, Reply, Request, Response, actor, ask, call, gather, join, keep, message, publish,
    receive, request, send, sender, sleep, stop, transient,
)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Item:
    name: str
    price: float = 0.0
    parts: list["Item"] = field(default_factory=list)


@actor(schema=2)
class Many:
    count: int = 0
    items: list[Item] = field(default_factory=list)
    kept: Request | None = transient()

    @classmethod
    def load(cls, saved: Any, schema: int) -> "Many":
        if schema != 1:
            raise Refusal(f"the schema {schema} is unknown")
        return cls(count=saved["total"])

    @message
    def add(self, by: int, *, times: int = 1) -> None:
        """Counts on.

        This is not in the protocol.
        """
        self.count += by * times

    @message
    def set(self, count: int, /) -> None:
        self.count = count

    @request
    def get(self) -> int:
        return self.count

    @request
    def put(self, item: Item, color: Color, size: Literal["s", "l"] | None, data: bytes = b"") -> list[Any]:
        self.items.append(item)
        return [item, color.value, size, data]

    @request
    def later(self) -> None:
        self.kept = keep()

    @message
    def now(self) -> None:
        if self.kept:
            self.kept.reply(self.count)

    @request
    async def sum(self, others: list[str]) -> int:
        return sum(await gather(*(call(name, "Get", timeout=1) for name in others)))

    @request
    async def tried(self, other: Pid) -> str:
        try:
            return str(await call(other, "Get", timeout=1))
        except (HostError, Refused) as error:
            return str(error)

    @request
    async def selected(self, tag: int) -> Any:
        found = await receive(tag=tag, timeout=1)
        return None if found is None else found.value

    @message
    async def slow(self) -> None:
        await sleep(0.5)
        self.count += 100

    @message
    def back(self) -> None:
        send(sender(), "Thanks")

    @message
    def crash(self) -> None:
        raise KeyError("crash")

    @message
    def end(self) -> None:
        stop()

    @message
    def ask(self, to: Pid) -> None:
        ask(to, "Get")

    @message
    def tell(self, text: str) -> None:
        logging.getLogger("many").info("told %s", text)
        join("all")
        publish("all", "Back")

    def on_reply(self, reply: Reply) -> None:
        self.count = reply.value

    def on_down(self, ended: Ended) -> None:
        self.count = ended.reason.code

    def on_http(self, asked) -> Response | str:
        if asked.method == "POST":
            return Response(json=asked.json(), status=201)
        return asked.header("host") or "nobody"
