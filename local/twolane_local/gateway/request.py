"""What came over HTTP, as a request with the headers that a gateway adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from twolane_local.events.http import HttpRequest
from twolane_local.functions import new_request_id, trace_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twolane_local.clock import Clock

#: What the gateway says itself, whatever the client said.
_ADDED = frozenset({"x-amzn-trace-id", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"})
_ADDED_CASED = ("X-Amzn-Trace-Id", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto")


@dataclass(slots=True)
class Received:
    """One request as it stood on the wire, header names as the client wrote them.

    ``body`` is ``None`` where it was too large to be kept. ``keep_alive``: the client may send
    another on the same connection.
    """

    method: str
    raw_path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes | None
    client: str = "127.0.0.1"
    port: int = 80
    scheme: str = "http"
    version: str = "1.1"
    keep_alive: bool = True


def request_of(received: Received, clock: Clock) -> HttpRequest:
    """As the function's event will have it.

    ``x-forwarded-proto`` is what the client really spoke, so that the redirects which an
    application makes of it lead back here; on AWS it is always ``https``.
    """
    request_id = new_request_id()
    headers: list[tuple[str, str]] = []
    cased: list[str] = []
    forwarded, domain = "", "localhost"
    for raw_name, raw_value in received.headers:
        as_sent, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        name = as_sent.lower()
        if name in _ADDED:
            if name == "x-forwarded-for":
                forwarded += f"{value}, "
            continue
        if name == "host":
            domain = value
        headers.append((name, value))
        cased.append(as_sent)
    headers += (
        ("x-amzn-trace-id", trace_root(request_id)),
        ("x-forwarded-for", forwarded + received.client),
        ("x-forwarded-port", str(received.port)),
        ("x-forwarded-proto", received.scheme),
    )
    raw_path = received.raw_path.decode("latin-1")
    return HttpRequest(
        method=received.method,
        path=unquote(raw_path) if "%" in raw_path else raw_path,
        raw_path=raw_path,
        query=received.query.decode("latin-1"),
        headers=tuple(headers),
        body=received.body or b"",
        source_ip=received.client,
        protocol=f"HTTP/{received.version}",
        time_ms=int(clock.time() * 1000),
        request_id=request_id,
        domain=domain,
        cased_names=(*cased, *_ADDED_CASED),
    )
