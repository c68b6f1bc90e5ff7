"""The gateways of a stack: each makes an event of a request, and a response of a function's result.

Each API and function URL has a gateway of its own, on its own port.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.events import http_v2
from twolane_local.aws.events.http import (
    HttpRequest,
    HttpResponse,
    RouteMatch,
    json_response,
    one_slash,
    preflight_response,
    with_cors_headers,
)
from twolane_local.aws.http_api import answers, asgi, integrations
from twolane_local.aws.http_api.answers import UsagePlans
from twolane_local.aws.http_api.authorizers import Authorizers
from twolane_local.aws.http_api.dialects import HTTP_API, dialect_of, mock_response, not_emulated
from twolane_local.aws.http_api.integrations import ParameterValues, mapped_request, mapped_response
from twolane_local.aws.http_api.requests import Routes, request_of
from twolane_local.aws.invocation import (
    Invocation,
    StreamedInvocation,
    TenancyError,
    ThrottledError,
    UnknownFunctionError,
    tenancy,
)
from twolane_local.errors import LocalError, PortInUseError
from twolane_local.http import json_text
from twolane_local.http.access import Door
from twolane_local.http.servers import HttpServer, bind, url_of
from twolane_local.journal import cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.http_api.asgi import Receive, Scope, Send
    from twolane_local.aws.http_api.authorizers import Verdict
    from twolane_local.aws.http_api.dialects import Dialect
    from twolane_local.aws.http_api.requests import Received, Route
    from twolane_local.aws.invocation import Invoker, ResponseStream
    from twolane_local.clock import Clock
    from twolane_local.http.servers import Exchange
    from twolane_local.journal import Journal
    from twolane_local.model import RestMethod, RouteSpec

    Reply = Callable[[HttpResponse], Awaitable[None]]
    import socket

    from twolane_local.model import Stack


class BrokenStreamError(LocalError):
    """The function failed after its response had begun; close the client's connection."""


async def _rest_of_body(
    stream: ResponseStream, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """The rest of a streamed body; raises ``BrokenStreamError`` if the function fails."""
    async for piece in pieces:
        yield piece
    if stream.error is not None:
        raise BrokenStreamError("the function failed after its response had begun")


#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LAMBDA_LIMIT = 6 * 1024 * 1024
#: A header's name is a token, its value has no line end: RFC 9110, 5.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ENDS = re.compile(r"[\r\n\0]")


class Gateway:
    """One API. ``HttpServer`` serves it; it is an ASGI application too."""

    def __init__(
        self,
        routes: Iterable[RouteSpec],
        invoker: Invoker,
        clock: Clock,
        journal: Journal,
        *,
        authorizers: Authorizers | None = None,
        services: Mapping[str, AwsService] | None = None,
    ) -> None:
        """``services`` are called by first-class integrations: ``sqs``, ``events``."""
        self._invoker = invoker
        self._clock = clock
        self._journal = journal
        self._services = services or {}
        self._authorizers = authorizers or Authorizers(invoker, clock)
        self._usage = UsagePlans(clock)
        self.apply(routes)

    def apply(self, routes: Iterable[RouteSpec]) -> None:
        """Serve these routes from now on."""
        specs = list(routes)
        stages = dict.fromkeys(spec.stage for spec in specs) or {"$default": None}
        self._stages = {
            stage: Routes(spec for spec in specs if spec.stage == stage) for stage in stages
        }
        first = specs[0] if specs else None
        self._dialect = dialect_of(first) if first else HTTP_API
        self._rest = {spec.stage: spec.rest.api for spec in specs if spec.rest is not None}
        self._cors: Mapping[str, Any] | None = first.options.get("cors") if first else None
        #: The largest body of a request, in bytes.
        self.max_body = self._dialect.max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as an ASGI application, for clients in the same process."""
        if scope["type"] == "http":
            await asgi.serve(self, scope, receive, send)
        else:
            await asgi.refuse(scope, receive, send)

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request of the server's."""
        await asgi.answer(self, exchange)

    async def serve(self, received: Received, reply: Reply) -> None:
        """Handle one request and pass its response to ``reply``."""
        if received.head_size > self._dialect.max_head:
            await reply(self._dialect.head_too_large)
            return
        if received.body is None:
            await reply(self._dialect.too_large)
            return
        request = request_of(received, self._clock)
        began = self._clock.time()
        self._journal.record(
            "request.received",
            request_id=request.request_id,
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            body=cut(request.body),
        )
        response, function = await self._respond(request)
        took = self._clock.time() - began
        await reply(response)
        self._journal.record(
            "request.answered",
            function=function,
            request_id=request.request_id,
            method=request.method,
            path=request.path,
            status=response.status,
            durationMs=round(took * 1000, 2),
            error=response.error,
            headers=response.headers,
            body=cut(response.body),
        )

    async def _respond(self, request: HttpRequest) -> tuple[HttpResponse, str | None]:
        """The response, and the function of its route."""
        found: tuple[Route, dict[str, str]] | None = None
        if self._rest:  # a REST API passes on the path as it was sent
            request = replace(request, path=one_slash(request.raw_path))
        response = preflight_response(request, self._cors) if self._cors else None
        if response is None:
            stage = stage_of(request, self._stages)
            inner = without_stage(request, stage)
            rest = self._rest.get(stage)
            path = without_base(one_slash(inner.path), rest.base_paths) if rest else inner.path
            found = self._stages[stage].find(inner.method, path)
            response = await self._route(inner, *found) if found else self._dialect.no_route
            if not all(_NAME.fullmatch(n) and not _ENDS.search(v) for n, v in response.headers):
                response = self._dialect.failed("a header of the function's response is malformed")
            if rest is not None and response.fault:
                context = rest_context(inner, stage, found[0].spec if found else None)
                response = answers.customised(response, inner, rest, context)
            if self._cors:
                response = with_cors_headers(request, response, self._cors)
        identity = self._dialect.identity(request)
        # As ``replace``, which takes twice as long, on every request.
        response = HttpResponse(
            response.status, (*response.headers, *identity), response.body, response.error,
            response.stream, response.fault,
        )  # fmt: skip
        return response, (found[0].spec.function or None) if found else None

    async def _route(
        self, request: HttpRequest, route: Route, parameters: dict[str, str]
    ) -> HttpResponse:
        spec = route.spec
        if spec.unsupported:
            return not_emulated(spec)
        dialect = dialect_of(spec)
        match = RouteMatch(
            route_key=route.key,
            path=spec.path,
            function=spec.function,
            parameters=parameters,
            api_id=spec.api_id,
            stage=spec.stage,
            stage_variables=spec.stage_variables,
        )
        event = dialect.event(request, match, spec)
        by_header = spec.rest is None or spec.rest.api.key_source == "HEADER"
        usage_key = request.header("x-api-key") if by_header else ""
        if spec.authorizer is not None or spec.options.get("auth") == "AWS_IAM":
            try:
                verdict = await self._authorizers.check(spec, request, match, event)
            except LocalError as error:  # an issuer that is real AWS
                return dialect.failed(str(error))
            if verdict.status != 200:
                return _refusal(verdict, dialect)
            if verdict.context is not None:
                match = replace(match, authorizer=verdict.context)
                event = dialect.event(request, match, spec)
            usage_key = usage_key if by_header else verdict.usage_key
        refused = self._refused(spec.rest, request, usage_key, event) if spec.rest else None
        return refused or await self._call_integration(request, match, spec, dialect, event)

    async def _call_integration(
        self,
        request: HttpRequest,
        match: RouteMatch,
        spec: RouteSpec,
        dialect: Dialect,
        event: dict[str, Any],
    ) -> HttpResponse:
        if spec.kind == "httpapi":
            return await self._integrate(request, match, spec, dialect, event)
        if spec.rest is not None and spec.rest.mock is not None:
            return mock_response(spec.rest.mock, request)
        return await self._invoke(request, spec, dialect, event)

    def _refused(
        self, method: RestMethod, request: HttpRequest, usage_key: str, event: dict[str, Any]
    ) -> HttpResponse | None:
        """The refusal of a REST API, else ``None``; puts the API key into the event."""
        if method.api_key:
            key = self._usage.check(method, usage_key)
            if isinstance(key, HttpResponse):
                return key
            event["requestContext"]["identity"] |= {"apiKey": key.value, "apiKeyId": key.id}
        return answers.validation_error(method, request)

    async def _integrate(
        self,
        request: HttpRequest,
        match: RouteMatch,
        spec: RouteSpec,
        dialect: Dialect,
        event: dict[str, Any],
    ) -> HttpResponse:
        """The response of an HTTP API's integration, with its parameter mapping."""
        integration: Mapping[str, Any] = spec.options.get("integration") or {}
        mapping = integration.get("requestParameters") or {}
        subtype = integration.get("integrationSubtype")
        if subtype:
            values = ParameterValues(request, match)
            response = await integrations.call_service(
                subtype, mapping, values, self._services, request.request_id
            )
        else:
            if mapping:
                values = ParameterValues(request, match)
                mapped, path = mapped_request(request, mapping, values)
                event = dialect.event(mapped, match, spec)
                if path is not None:
                    # AWS does not document it: the context keeps the path that the client sent.
                    event["rawPath" if "rawPath" in event else "path"] = path
            response = await self._invoke(request, spec, dialect, event)
        after = integration.get("responseParameters")
        if after:
            return mapped_response(
                response, after, lambda given: ParameterValues(request, match, given)
            )
        return response

    async def _invoke(
        self, request: HttpRequest, spec: RouteSpec, dialect: Dialect, event: dict[str, Any]
    ) -> HttpResponse:
        payload = json_text.dumps(event)
        if len(payload) > LAMBDA_LIMIT:
            return dialect.too_long
        integration = spec.options.get("integration") or {}
        given = integration.get("timeoutInMillis")
        outcome: Invocation | HttpResponse
        try:
            async with asyncio.timeout(int(given) / 1000 if given else dialect.timeout_s):
                tenant = answers.tenant_of(spec, event) if spec.kind == "rest" else ""
                if spec.options.get("invoke_mode") == "RESPONSE_STREAM":
                    outcome = await self._begun(request, spec, payload, tenant)
                else:
                    outcome = await self._invoker.invoke(
                        spec.target, payload, request_id=request.request_id, **tenancy(tenant)
                    )
        except (ThrottledError, TimeoutError) as error:
            return dialect.throttled if isinstance(error, ThrottledError) else dialect.timed_out
        except (TenancyError, UnknownFunctionError) as refused:  # the API has deleted the function
            return _refused(spec, dialect, refused)
        if isinstance(outcome, HttpResponse):
            return outcome
        if outcome.error is not None:
            return dialect.failed(error_message(outcome.payload))
        return dialect.response(outcome.payload, request, spec)

    async def _begun(
        self, request: HttpRequest, spec: RouteSpec, payload: bytes, tenant: str
    ) -> Invocation | HttpResponse:
        """The beginning of a response that streams, or the result of a function that does not."""
        call = StreamedInvocation(
            self._invoker, spec.target, payload, request_id=request.request_id, tenant_id=tenant
        )
        if not await call.begin():
            return await call.running
        pieces = aiter(call.stream)
        head = await http_v2.streamed_response(call.stream.content_type, pieces)
        return replace(head, stream=_rest_of_body(call.stream, pieces)) if not head.error else head


def stage_of(request: HttpRequest, stages: Iterable[str]) -> str:
    """The stage that the path begins with, else ``$default`` or the first stage."""
    known = list(stages)
    named = request.path.split("/", 2)[1] if request.path.startswith("/") else ""
    if named in known:
        return named
    return "$default" if "$default" in known else known[0]


def without_stage(request: HttpRequest, stage: str) -> HttpRequest:
    """The request without a named stage, the first part of its path.

    A custom domain has no stage in its paths.
    """
    if stage == "$default":
        return request
    prefix = f"/{stage}"
    if request.path != prefix and not request.path.startswith(f"{prefix}/"):
        return request
    return replace(
        request,
        path=request.path.removeprefix(prefix) or "/",
        raw_path=request.raw_path.removeprefix(prefix) or "/",
    )


def without_base(path: str, bases: Iterable[str]) -> str:
    """The path without the base path of a custom domain, as routes are matched by it."""
    for base in bases:
        if path == f"/{base}" or path.startswith(f"/{base}/"):
            return path.removeprefix(f"/{base}") or "/"
    return path


def rest_context(request: HttpRequest, stage: str, route: RouteSpec | None) -> dict[str, Any]:
    """The values of ``$context`` for gateway responses."""
    return {
        "requestId": request.request_id,
        "extendedRequestId": request.request_id,
        "requestTimeEpoch": request.time_ms,
        "httpMethod": request.method,
        "path": f"/{stage}{request.path}",
        "resourcePath": route.path if route else "",
        "stage": stage,
        "stageVariables": route.stage_variables if route else {},
        "identity": {
            "sourceIp": request.source_ip,
            "userAgent": request.header("user-agent"),
        },
    }


def _refusal(verdict: Verdict, dialect: Dialect) -> HttpResponse:
    if verdict.status == 500:
        return dialect.authorizer_failed(verdict.reason)
    denied = dialect.denied if verdict.explicit else dialect.forbidden
    if verdict.unsigned:
        denied = dialect.unsigned
    base = dialect.unauthorized if verdict.status == 401 else denied
    headers = base.headers
    if verdict.challenge:
        headers = (*headers, ("www-authenticate", verdict.challenge))
    return replace(base, headers=headers, error=verdict.reason)


def _refused(spec: RouteSpec, dialect: Dialect, error: Exception) -> HttpResponse:
    if isinstance(error, UnknownFunctionError):
        return dialect.failed(f"there is no function {spec.target}")
    if spec.kind == "rest":
        return json_response(400, {"message": str(error)}, str(error))
    return dialect.failed(str(error))


def error_message(payload: bytes) -> str:
    """``ErrorType: message`` of an error object."""
    try:
        value = json.loads(payload)
        return f"{value.get('errorType', 'Error')}: {value.get('errorMessage', '')}"
    except (ValueError, AttributeError):
        return "the function failed"


class Gateways:
    """Reserves the ports before the stack is built, as its outputs contain them.

    The first API of the template gets ``port``, the others the following ones; 0 takes free ports.
    """

    def __init__(self, port: int, *, enabled: bool, door: Door | None = None) -> None:
        self._port = port
        self._enabled = enabled
        self._door = door or Door(pages=True)
        self._listeners: dict[str, socket.socket] = {}
        self._servers: dict[str, tuple[Gateway, HttpServer]] = {}
        #: The URLs that the API has made.
        self._made: set[str] = set()

    def reserve(self, apis: Iterable[str]) -> None:
        """Bind a port for each new API id; raises ``PortInUseError``."""
        if not self._enabled:
            return
        for api in apis:
            if api not in self._listeners:
                port = self._port + len(self._listeners.keys() - self._made) if self._port else 0
                self._listeners[api] = bind(port, "--port")

    def reserve_url(self, api: str, port: int | None = None) -> int:
        """Bind a port for a function URL of the API, if possible this one; returns the port."""
        if not self._enabled:
            return 0
        if api not in self._listeners:
            try:
                self._listeners[api] = bind(port or 0, "")
            except PortInUseError:  # it was free when the URL was made
                self._listeners[api] = bind(0, "")
            self._made.add(api)
        return int(self._listeners[api].getsockname()[1])

    async def _release(self, apis: set[str]) -> None:
        """End the URLs of the API that are not among these."""
        for api in self._made - apis:
            self._made.remove(api)
            listener = self._listeners.pop(api)
            if api in self._servers:
                await self._servers.pop(api)[1].stop()
            listener.close()

    def base_url(self, api: str) -> str:
        """The address of an API; of one that is not served, the address that it would have."""
        listener = self._listeners.get(api)
        return url_of(listener) if listener else f"http://127.0.0.1:{self._port}"

    def urls(self) -> dict[str, str]:
        """Addresses by API id."""
        return {api: url_of(listener) for api, listener in self._listeners.items()}

    async def apply(
        self,
        stack: Stack,
        invoker: Invoker,
        clock: Clock,
        journal: Journal,
        services: Mapping[str, AwsService],
    ) -> None:
        """Serve the stack's routes without disturbing requests under way."""
        for route in stack.routes:
            if "port" in route.options:
                self.reserve_url(route.api_id, route.options["port"])
        await self._release({route.api_id for route in stack.routes})
        for api, listener in self._listeners.items():
            routes: list[RouteSpec] = [route for route in stack.routes if route.api_id == api]
            if api in self._servers:
                self._servers[api][0].apply(routes)
                continue
            gateway = Gateway(routes, invoker, clock, journal, services=services)
            server = HttpServer(gateway, listener, self._door)
            self._servers[api] = (gateway, server)
            await server.start()

    async def stop(self) -> None:
        for _, server in self._servers.values():
            await server.stop()
        for listener in self._listeners.values():
            listener.close()
