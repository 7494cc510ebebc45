"""Requests of HTTP, which a route of the manifest gives to `on_http`."""

from __future__ import annotations

import json
from typing import Any, Mapping

from .constants import Code, Tag
from .errors import HostError, Refusal
from .host import host


class HttpRequest:
    """A request of HTTP: its head, and its body."""

    def __init__(self, head: dict[str, Any], body: bytes):
        self.head, self.body = head, body
        self.method: str = head.get("method", "")
        self.path: str = head.get("path", "")

    def header(self, name: str) -> str | None:
        """The first header of a name."""
        for key, value in self.head["headers"]:
            if key == name.lower():
                return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return None

    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. A Refusal if it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Refusal(f"the body is no JSON: {error}") from None


class Response:
    """A response: a body, a status and headers. Text and JSON say what they are."""

    def __init__(self, body: str | bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None, *, json: Any = None):
        self.body, self.status, self.headers, self.json = body, status, dict(headers or {}), json


def _is_header(pair: Any) -> bool:
    return type(pair) is list and len(pair) == 2 and type(pair[0]) is str and isinstance(pair[1], (str, bytes))


def request_in_hand() -> HttpRequest:
    """The payload: a head in MessagePack, and the body right behind it."""
    payload = host.payload()
    head, used = host.unpack_front(payload)
    if type(head) is not dict or type(head.get("headers")) is not list or not all(map(_is_header, head["headers"])):
        raise ValueError("not a request of HTTP: the head has no list of headers")
    return HttpRequest(head, payload[used:])


def respond(context: Any, response: Any) -> None:
    """Replies what `on_http` has returned."""
    if context.is_kept:
        return
    if response is None:
        response = Response(status=204)
    elif isinstance(response, (str, bytes)):
        response = Response(response)
    elif isinstance(response, (dict, list)):
        response = Response(json=response)
    body, kind = response.body, None
    if response.json is not None:
        body, kind = json.dumps(response.json), "application/json"
    elif isinstance(body, str) and body:
        kind = "text/plain; charset=utf-8"
    headers = list(response.headers.items())
    if kind is not None and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", kind))
    head = host.pack({"status": response.status, "headers": headers})
    code = host.reply(context.origin, context.reference, Tag.HTTP_RESPONSE, head + (body.encode() if isinstance(body, str) else body))
    if code == Code.MESSAGE_TOO_LARGE:
        host.reply(context.origin, context.reference, Tag.REFUSED, b"the response is larger than the process may send")
    elif code < 0:
        raise HostError("reply", code)
