from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.events.http import HttpResponse
from twolane_local.aws.http_api import asgi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from twolane_local.aws.http_api.requests import Received

GONE = {"type": "http.disconnect"}


class Serving:
    max_body = 4

    def __init__(self, response: HttpResponse) -> None:
        self.received: list[Received] = []
        self._response = response

    async def serve(
        self, received: Received, reply: Callable[[HttpResponse], Awaitable[None]]
    ) -> None:
        self.received.append(received)
        await reply(self._response)


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def call(gateway: Serving, *messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    incoming = iter(messages or [part(b"")])
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http", "method": "GET", "path": "/a b", "raw_path": b"/a%20b",
        "query_string": b"x=1", "headers": [(b"host", b"h")], "http_version": "1.1",
        "client": ("127.0.0.1", 5), "server": ("h", 8000), "scheme": "http", **fields,
    }  # fmt: skip

    async def receive() -> Any:
        return next(incoming)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asgi.serve(gateway, scope, receive, send))
    return sent


def test_a_request_and_its_response() -> None:
    gateway = Serving(HttpResponse(201, (("x-a", "b"), ("connection", "close")), b"made"))
    start, body = call(gateway, part(b"a", more=True), part(b"b"), method="POST")
    assert start["status"] == 201
    assert start["headers"] == [(b"x-a", b"b"), (b"content-length", b"4")]
    assert body["body"] == b"made"
    (received,) = gateway.received
    assert (received.method, received.raw_path, received.query) == ("POST", b"/a%20b", b"x=1")
    assert (received.body, received.client, received.port) == (b"ab", "127.0.0.1", 8000)


def test_what_a_server_may_leave_out() -> None:
    gateway = Serving(HttpResponse(200))
    call(gateway, raw_path=None, client=None, server=None)
    (received,) = gateway.received
    assert (received.raw_path, received.client, received.port) == (b"/a%20b", "127.0.0.1", 80)


@pytest.mark.parametrize(("body", "kept"), [(b"1234", b"1234"), (b"12345", None)])
def test_a_body_above_the_limit_is_not_kept(body: bytes, kept: bytes | None) -> None:
    gateway = Serving(HttpResponse(200))
    call(gateway, part(body))
    assert gateway.received[0].body == kept


def test_half_a_body_is_no_request() -> None:
    gateway = Serving(HttpResponse(200))
    assert call(gateway, part(b"a", more=True), GONE) == []
    assert gateway.received == []


def test_an_answer_to_head_has_the_length_and_no_body() -> None:
    start, body = call(Serving(HttpResponse(200, (), b"four")), method="HEAD")
    assert start["headers"] == [(b"content-length", b"4")]
    assert body["body"] == b""


def test_a_stream_goes_out_piece_by_piece() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"b"
        yield b"c"

    start, *rest = call(Serving(HttpResponse(200, (), b"a", stream=pieces())))
    assert start["headers"] == []
    assert [(each["body"], each.get("more_body", False)) for each in rest] == [
        (b"a", True),
        (b"b", True),
        (b"c", True),
        (b"", False),
    ]


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asgi.refuse({"type": "websocket"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]
