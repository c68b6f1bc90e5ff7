"""Keeps web pages of elsewhere away from what is served on loopback.

A page in the developer's browser can send requests to 127.0.0.1. It cannot hide where it comes
from: the Host it resolved to reach us (DNS rebinding), its Origin, and the browser's own
``Sec-Fetch-Site``: https://developer.mozilla.org/en-US/docs/Web/HTTP/Headers/Sec-Fetch-Site
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from twolane_local.http.servers import Asgi, Receive, Scope, Send

#: Names of this machine; the second by which containers know it. Buckets are names below them.
_HOSTS = ("localhost", "host.docker.internal", "127.0.0.1", "[::1]")


class LocalOnly:
    """An ASGI app in front of another; refuses, with 403, whatever comes from elsewhere."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        why = refusal(scope["headers"]) if scope["type"] == "http" else None
        if why is None:
            await self._app(scope, receive, send)
            return
        body = json.dumps({"message": f"Forbidden: {why}"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def refusal(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Why a request with these headers is not from this machine, or ``None``."""
    found = {name: value.decode("latin-1") for name, value in headers}
    host = found.get(b"host", "")
    if not is_local(host):
        return f"Host {host!r} is no name of this machine"
    origin = found.get(b"origin", "")
    if origin and not is_local(urlsplit(origin).netloc):
        return f"Origin {origin!r} is not on this machine"
    site = found.get(b"sec-fetch-site", "none")
    if site not in {"none", "same-origin"} and not origin:
        return f"Sec-Fetch-Site is {site!r}"
    return None


def is_local(host: str) -> bool:
    """Whether a Host header names this machine, with or without a port."""
    name = (
        host.rpartition(":")[0]
        if (host.rpartition(":")[2].isdigit() and not host.endswith("]"))
        else host
    )
    name = name.lower().rstrip(".")
    # AWS's own names come from clients that were told where to connect, not from browsers.
    if name.endswith(".amazonaws.com"):
        return True
    return name in _HOSTS or name.endswith(tuple(f".{each}" for each in _HOSTS[:2]))
