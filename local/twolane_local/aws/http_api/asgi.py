"""A gateway before the server, and as an ASGI application for a client in the same process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from twolane_local.aws.events.http import HttpResponse, json_response
from twolane_local.aws.http_api.requests import Received
from twolane_local.http import servers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from twolane_local.http.servers import Exchange

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Reply = Callable[[HttpResponse], Awaitable[None]]

#: The connection's own headers, which are not the function's to set.
HOP = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"})


class Serves(Protocol):
    """A gateway."""

    @property
    def max_body(self) -> int:
        """The largest body that it takes, in bytes; above it ``Received.body`` is ``None``."""

    async def serve(self, received: Received, reply: Reply) -> None:
        """Give the response of one request to ``reply``."""


async def serve(gateway: Serves, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one HTTP request."""
    body: bytes | None
    try:
        body = await servers.read_body(receive, gateway.max_body)
    except servers.ClientGoneError:
        return
    except servers.TooLargeError:
        body = None
    client, server = scope.get("client"), scope.get("server")
    received = Received(
        method=scope["method"],
        raw_path=scope.get("raw_path") or quote(scope["path"]).encode(),
        query=scope["query_string"],
        headers=scope["headers"],
        body=body,
        client=client[0] if client else "127.0.0.1",
        port=(server and server[1]) or 80,
        scheme=scope.get("scheme", "http"),
        version=scope["http_version"],
    )

    async def reply(response: HttpResponse) -> None:
        await _reply(send, response, head=received.method == "HEAD")

    await gateway.serve(received, reply)


async def answer(gateway: Serves, exchange: Exchange) -> None:
    """Answer one request of the server's."""
    body: bytes | None
    try:
        body = await exchange.body(gateway.max_body)
    except servers.ClientGoneError:
        return
    except servers.TooLargeError:
        body = None
    received = Received(
        method=exchange.method,
        raw_path=exchange.raw_path,
        query=exchange.query,
        headers=exchange.headers,
        body=body,
        client=exchange.client[0],
        port=exchange.server[1],
        version=exchange.version,
        head_size=exchange.head_size,
    )

    async def reply(response: HttpResponse) -> None:
        if response.stream is None:
            exchange.respond(response.status, _headers(response), response.body)
        else:
            await _reply(exchange.send, response, head=False)

    try:
        await gateway.serve(received, reply)
    except Exception as error:
        if exchange.begun:
            raise  # the server breaks the response off
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"{received.method} could not be answered", "exception": error}
        )
        await reply(json_response(500, {"message": "Internal Server Error"}))


def _headers(response: HttpResponse) -> list[tuple[bytes, bytes]]:
    headers = [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in response.headers
        if name.lower() not in HOP
    ]
    if response.stream is None and response.status not in {204, 304}:
        headers.append((b"content-length", b"%d" % len(response.body)))
    return headers


async def _reply(send: Send, response: HttpResponse, *, head: bool) -> None:
    headers = _headers(response)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = b"" if head else response.body
    if response.stream is not None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        async for piece in response.stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a connection that is not HTTP."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
