"""A gateway as an ASGI application, for a client in the same process or for another server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twolane_local.aws.http_api.answers import HOP
from twolane_local.aws.http_api.requests import Received
from twolane_local.http import body as request_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from twolane_local.aws.events.http import HttpResponse
    from twolane_local.aws.http_api.front import Serves

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]


async def serve(gateway: Serves, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one HTTP request."""
    body: bytes | None
    try:
        body = await request_body.read(receive, gateway.max_body)
    except request_body.ClientGoneError:
        return
    except request_body.TooLargeError:
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


async def _reply(send: Send, response: HttpResponse, *, head: bool) -> None:
    headers = [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in response.headers
        if name not in HOP
    ]
    if response.stream is None:
        headers.append((b"content-length", str(len(response.body)).encode()))
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
