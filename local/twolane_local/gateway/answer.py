"""The head of a response, as HTTP/1.1 has it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twolane_local.events.http import HttpResponse
    from twolane_local.gateway.request import Received

#: The connection's own headers, which are not the function's to set.
HOP = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def head_of(response: HttpResponse, received: Received, *, chunked: bool) -> tuple[bytes, bytes]:
    """The bytes up to the empty line, and what of the body may follow them.

    A HEAD request, 204 and 304 have no body: RFC 9112, 6.3.
    """
    status, body = response.status, response.body
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in response.headers if name not in HOP]
    if chunked:
        lines.append("transfer-encoding: chunked")
    elif response.stream is None and status not in {204, 304}:
        lines.append(f"content-length: {len(body)}")
    if not received.keep_alive:
        lines.append("connection: close")
    elif received.version == "1.0":
        lines.append("connection: keep-alive")
    lines.append("\r\n")
    bare = received.method == "HEAD" or status in {204, 304}
    return "\r\n".join(lines).encode("latin-1", "replace"), b"" if bare else body
