"""A request as received, with the headers that a gateway adds, and the route that it matches.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from twolane_local.aws.events.http import HttpRequest
from twolane_local.aws.lambda_.functions import new_request_id, trace_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twolane_local.clock import Clock
    from twolane_local.model import RouteSpec


#: Headers that the gateway sets itself, and those of the connection, which it does not pass on.
_LEFT_OUT = frozenset(
    {"x-amzn-trace-id", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "connection",
     "keep-alive"}
)  # fmt: skip
_ADDED_CASED = ("X-Amzn-Trace-Id", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto")


@dataclass(slots=True)
class Received:
    """One request as received, with header names as the client wrote them.

    ``body`` is ``None`` if it was too large. ``keep_alive`` is True if the client may send another
    request on the same connection. ``head_size`` is that of the request line and of the headers'
    values, in bytes.
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
    head_size: int = 0


def request_of(received: Received, clock: Clock) -> HttpRequest:
    """The request for the function's event.

    ``x-forwarded-proto`` is the protocol of the client, so that redirects that an application makes
    with it lead back here; on AWS it is always ``https``.
    """
    request_id = new_request_id()
    headers: list[tuple[str, str]] = []
    cased: list[str] = []
    forwarded, domain = "", "localhost"
    for raw_name, raw_value in received.headers:
        as_sent, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        name = as_sent.lower()
        if name in _LEFT_OUT:
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


_VARIABLE = re.compile(r"\{([^}+]+)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """A route with its compiled path."""

    spec: RouteSpec
    key: str
    pattern: re.Pattern[str] | None
    rank: tuple[int, ...]

    def matches(self, method: str, path: str) -> dict[str, str] | None:
        """The path's parameters, or ``None`` if the route does not match."""
        if self.spec.method not in {"ANY", method}:
            return None
        if self.pattern is None:
            return {}
        match = self.pattern.fullmatch(path)
        if match is None:
            return None
        names = (name for name, _ in _VARIABLE.findall(self.spec.path))
        return dict(zip(names, match.groups(), strict=True))


def _compile(path: str) -> re.Pattern[str]:
    parts: list[str] = []
    end = 0
    for match in _VARIABLE.finditer(path):
        parts += [re.escape(path[end : match.start()]), "(.+)" if match.group(2) else "([^/]+)"]
        end = match.end()
    return re.compile("".join([*parts, re.escape(path[end:])]), re.DOTALL)


def _rank(spec: RouteSpec) -> tuple[int, ...]:
    """The sort key, the most specific route first.

    In each segment a literal comes before a variable, and that before a greedy variable; then a
    named method comes before ANY. ``$default`` is last.
    """
    if spec.path == "$default":
        return (9,)
    kinds = [
        (2 if "+}" in segment else 1) if "{" in segment else 0 for segment in spec.path.split("/")
    ]
    return (*kinds, 8 if spec.method == "ANY" else 7)


class Routes:
    """The routes of one API, most specific first."""

    def __init__(self, specs: Iterable[RouteSpec]) -> None:
        routes = [
            Route(
                spec,
                "$default" if spec.path == "$default" else f"{spec.method} {spec.path}",
                None if spec.path == "$default" else _compile(spec.path),
                _rank(spec),
            )
            for spec in specs
        ]
        self._routes = sorted(routes, key=lambda route: route.rank)
        self._rest = bool(routes) and routes[0].spec.kind == "rest"

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route of a request and its path parameters; a REST API ignores a final slash."""
        if self._rest and len(path) > 1:
            path = path.removesuffix("/")
        for route in self._routes:
            parameters = route.matches(method, path)
            if parameters is not None:
                return route, parameters
        return None
