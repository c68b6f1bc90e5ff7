"""The content of requests and responses: bodies, whole or not at all, and JSON as UTF-8."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class TooLargeError(Exception):
    """It is above the limit."""


class ClientGoneError(Exception):
    """The client went, or sent what is no HTTP, before the body was whole.

    What came must not be taken for the body: half a message is another message.
    """


async def read(receive: Receive, limit: int) -> bytes:
    """All of it; raises ``TooLargeError`` above ``limit`` bytes, or ``ClientGoneError``.

    What is too large is read to its end, or else the client might never read the answer.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            parts.append(part)
        else:
            parts.clear()
        if not message.get("more_body"):
            break
    if size > limit:
        raise TooLargeError
    return b"".join(parts)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> bytes:
    """As UTF-8. Raises ``TypeError`` or ``ValueError`` for a value that is not JSON."""
    return _encode(value).encode("utf-8", "surrogatepass")


def utf8(text: str) -> bytes:
    """JSON's text as UTF-8, which has no lone surrogate: one is written as JSON's own escape."""
    return text.encode("utf-8", "backslashreplace")
