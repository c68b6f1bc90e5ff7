"""The gateway: HTTP in, an event to a function, its response out. An ASGI app for each API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.events import http_v2
from twolane_local.events.http import HttpRequest, HttpResponse, Match, json_response
from twolane_local.functions import new_request_id
from twolane_local.gateway_routes import Routes
from twolane_local.invoke import ThrottledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from twolane_local.clock import Clock
    from twolane_local.invoke import Invoker
    from twolane_local.journal import Journal
    from twolane_local.model import RouteSpec

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
MAX_BODY = 10 * 1024 * 1024


class Gateway:
    """One HTTP API. Serves loopback only: whoever binds it sees to that."""

    def __init__(
        self, routes: Iterable[RouteSpec], invoker: Invoker, clock: Clock, journal: Journal
    ) -> None:
        self._routes = Routes(routes)
        self._invoker = invoker
        self._clock = clock
        self._journal = journal

    def apply(self, routes: Iterable[RouteSpec]) -> None:
        """Serve these routes from now on."""
        self._routes = Routes(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _refuse_other(scope, receive, send)
            return
        body = await _read(receive)
        response = (
            json_response(413, {"message": "Request Entity Too Large"}, "the body is above 10 MB")
            if body is None
            else await self._answer(request_of(scope, body, self._clock))
        )
        await _reply(send, response, head=scope["method"] == "HEAD")

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        self._journal.record(
            "request.received",
            request_id=request.request_id,
            method=request.method,
            path=request.path,
        )
        began = self._clock.time()
        found = self._routes.find(request.method, request.path)
        if found is None:
            response = json_response(404, {"message": "Not Found"}, "no route matches")
        else:
            route, parameters = found
            match = Match(
                route_key=route.key,
                path=route.spec.path,
                function=route.spec.function,
                parameters=parameters,
                api_id=route.spec.api_id,
                stage=route.spec.stage,
            )
            response = await self._invoke(request, match)
        self._journal.record(
            "request.answered",
            function=found[0].spec.function if found else None,
            request_id=request.request_id,
            method=request.method,
            path=request.path,
            status=response.status,
            durationMs=round((self._clock.time() - began) * 1000, 2),
            error=response.error,
        )
        return response

    async def _invoke(self, request: HttpRequest, match: Match) -> HttpResponse:
        event = json.dumps(http_v2.event(request, match), ensure_ascii=False).encode()
        try:
            outcome = await self._invoker.invoke(
                match.function, event, request_id=request.request_id
            )
        except ThrottledError:
            # API Gateway answers 503 for a throttled function:
            # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-troubleshooting-lambda.html
            return json_response(503, {"message": "Service Unavailable"}, "the function throttles")
        if outcome.error is not None:
            return http_v2.internal_error(error_message(outcome.payload))
        return http_v2.response(outcome.payload)


def error_message(payload: bytes) -> str:
    """``ErrorType: message`` of an error object."""
    try:
        value = json.loads(payload)
        return f"{value.get('errorType', 'Error')}: {value.get('errorMessage', '')}"
    except (ValueError, AttributeError):
        return "the function failed"


def request_of(scope: Scope, body: bytes, clock: Clock) -> HttpRequest:
    """An ASGI scope as a request."""
    headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
    )
    client = scope.get("client")
    return HttpRequest(
        method=scope["method"],
        path=scope["path"],
        raw_path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=body,
        source_ip=client[0] if client else "127.0.0.1",
        protocol=f"HTTP/{scope['http_version']}",
        time_ms=int(clock.time() * 1000),
        request_id=new_request_id(),
        domain=next((value for name, value in headers if name == "host"), "localhost"),
    )


async def _read(receive: Receive) -> bytes | None:
    """The whole body, or ``None`` where it is above the limit."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _reply(send: Send, response: HttpResponse, *, head: bool) -> None:
    headers = [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in response.headers
        if name != "content-length"
    ]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})


async def _refuse_other(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
