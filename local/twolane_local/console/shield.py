"""What stands before every route: only this machine, only our own pages, changes with the token."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twolane_local import access

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from typing import Any

    from twolane_local.access import Asgi, Receive, Scope, Send

#: Nothing from elsewhere, nothing inline, in nobody's frame.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
TOKEN_HEADER = b"x-twolane-token"
#: The largest change, in bytes: a message of SQS's limit, and what JSON adds to it.
MAX_BODY = 4 << 20


class Shield:
    """An ASGI app in front of the console's; ``token`` is of this start."""

    def __init__(self, app: Asgi, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        headers = dict(scope["headers"])
        refused = refusal(scope["method"], headers, scope["headers"], self._token)
        if refused is None:
            await self._app(scope, receive, guarded)
            return
        await _refuse(guarded, *refused)


def refusal(
    method: str,
    headers: Mapping[bytes, bytes],
    pairs: list[tuple[bytes, bytes]],
    token: bytes,
) -> tuple[int, str] | None:
    """Status and reason for what is not answered, or ``None``."""
    why = access.refusal(pairs) or _foreign(headers)
    if why is not None:
        return 403, f"Forbidden: {why}"
    return None if method in ("GET", "HEAD") else _bad_change(headers, token)


def _bad_change(headers: Mapping[bytes, bytes], token: bytes) -> tuple[int, str] | None:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        return 415, "a change needs Content-Type: application/json"
    if not hmac.compare_digest(headers.get(TOKEN_HEADER, b""), token):
        return 401, "a change needs this start's token in X-Twolane-Token; reload the page"
    length = headers.get(b"content-length", b"")
    if not length.isdigit():
        return 411, "a change needs a Content-Length"
    return None if int(length) <= MAX_BODY else (413, f"a change has at most {MAX_BODY} bytes")


def _foreign(headers: Mapping[bytes, bytes]) -> str | None:
    """Why the request is not from our own pages: other ports are other origins."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if host.rpartition(":")[0].endswith(".com") or host.endswith(".com"):
        return f"Host {host!r} is no name of this machine"  # the AWS endpoint's, not ours
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and urlsplit(origin).netloc.lower() != host:
        return f"Origin {origin!r} is not this console's"
    site = headers.get(b"sec-fetch-site", b"none").decode("latin-1")
    if site not in ("none", "same-origin"):
        return f"Sec-Fetch-Site is {site!r}"
    return None


async def _refuse(send: Send, status: int, detail: str) -> None:
    import http

    body = json.dumps(
        {
            "type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status,
            "detail": detail,
        }
    ).encode()  # fmt: skip
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
