"""The gateway: HTTP in, an event to a function, its response out. One for each API."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.events import http_v2 as streamed
from twolane_local.aws.events.http import HttpRequest, HttpResponse, Match, decorate, preflight
from twolane_local.aws.http_api import answers as rest_answers
from twolane_local.aws.http_api import answers as validation
from twolane_local.aws.http_api import asgi, integrations
from twolane_local.aws.http_api.answers import Usage
from twolane_local.aws.http_api.authorizers import Authorizers
from twolane_local.aws.http_api.dialects import HTTP_API, dialect_of, mock_response, not_played
from twolane_local.aws.http_api.integrations import Values, mapped_request, mapped_response
from twolane_local.aws.http_api.requests import Routes, request_of
from twolane_local.aws.invocation import ResponseStream, Streamer, ThrottledError
from twolane_local.errors import LocalError
from twolane_local.http import json_text
from twolane_local.journal import cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.events.http import HttpResponse
    from twolane_local.aws.http_api.asgi import Receive, Scope, Send
    from twolane_local.aws.http_api.authorizers import Verdict
    from twolane_local.aws.http_api.dialects import Dialect
    from twolane_local.aws.http_api.requests import Received, Route
    from twolane_local.aws.invocation import Invocation, Invoker, Streamer
    from twolane_local.clock import Clock
    from twolane_local.http.servers import Exchange
    from twolane_local.journal import Journal
    from twolane_local.model import RestMethod, RouteSpec

    Reply = Callable[[HttpResponse], Awaitable[None]]


class BrokenStreamError(LocalError):
    """The function failed after its response had begun; the client's connection is closed."""


class Streaming:
    """One request to one function; ``head`` first, then ``body``."""

    def __init__(self, streamer: Streamer, function: str, event: bytes, request_id: str) -> None:
        self._stream = ResponseStream()
        self._pieces = aiter(self._stream)
        self._running = asyncio.ensure_future(
            streamer.invoke_streaming(function, event, self._stream, request_id=request_id)
        )

    async def head(self) -> HttpResponse | Invocation:
        """The beginning of the response, or the whole of it where the runtime does not stream."""
        opened = asyncio.ensure_future(self._stream.opened.wait())
        try:
            await asyncio.wait((opened, self._running), return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
        if not self._stream.opened.is_set():
            return await self._running
        return await streamed.head(self._stream.content_type, self._pieces)

    async def body(self) -> AsyncIterator[bytes]:
        """What follows; raises ``BrokenStreamError`` where it does not end as it should."""
        async for piece in self._pieces:
            yield piece
        if self._stream.error is not None:
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
        """``services`` are what first-class integrations call: ``sqs``, ``events``."""
        self._invoker = invoker
        self._clock = clock
        self._journal = journal
        self._services = services or {}
        self._authorizers = authorizers or Authorizers(invoker, clock)
        self._usage = Usage(clock)
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
        if scope["type"] == "http":
            await asgi.serve(self, scope, receive, send)
        else:
            await asgi.refuse(scope, receive, send)

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request of the server's."""
        await asgi.answer(self, exchange)

    async def serve(self, received: Received, reply: Reply) -> None:
        """Give the response of one request to ``reply``."""
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
        response, function = await self._answer(request)
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

    async def _answer(self, request: HttpRequest) -> tuple[HttpResponse, str | None]:
        """The response, and whose it is."""
        found: tuple[Route, dict[str, str]] | None = None
        response = preflight(request, self._cors) if self._cors else None
        if response is None:
            stage = stage_of(request, self._stages)
            inner = without_stage(request, stage)
            rest = self._rest.get(stage)
            path = without_base(inner.path, rest.base_paths) if rest else inner.path
            found = self._stages[stage].find(inner.method, path)
            response = await self._route(inner, *found) if found else self._dialect.no_route
            if not all(_NAME.fullmatch(n) and not _ENDS.search(v) for n, v in response.headers):
                response = self._dialect.failed("a header of the function's response is malformed")
            if rest is not None and response.fault:
                context = rest_context(inner, stage, found[0].spec if found else None)
                response = rest_answers.shaped(response, inner, rest, context)
            if self._cors:
                response = decorate(request, response, self._cors)
        return response, (found[0].spec.function or None) if found else None

    async def _route(
        self, request: HttpRequest, route: Route, parameters: dict[str, str]
    ) -> HttpResponse:
        spec = route.spec
        if spec.unplayed:
            return not_played(spec)
        dialect = dialect_of(spec)
        match = Match(
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
        return refused or await self._called(request, match, spec, dialect, event)

    async def _called(
        self,
        request: HttpRequest,
        match: Match,
        spec: RouteSpec,
        dialect: Dialect,
        event: dict[str, Any],
    ) -> HttpResponse:
        """What the route's integration answers."""
        if spec.kind == "httpapi":
            return await self._integrate(request, match, spec, dialect, event)
        if spec.rest is not None and spec.rest.mock is not None:
            return mock_response(spec.rest.mock, request)
        return await self._invoke(request, spec, dialect, event)

    def _refused(
        self, method: RestMethod, request: HttpRequest, usage_key: str, event: dict[str, Any]
    ) -> HttpResponse | None:
        """A REST API's refusal; with an API key, the event has that."""
        if method.api_key:
            key = self._usage.check(method, usage_key)
            if isinstance(key, HttpResponse):
                return key
            event["requestContext"]["identity"] |= {"apiKey": key.value, "apiKeyId": key.id}
        return validation.refusal(method, request)

    async def _integrate(
        self,
        request: HttpRequest,
        match: Match,
        spec: RouteSpec,
        dialect: Dialect,
        event: dict[str, Any],
    ) -> HttpResponse:
        """With the parameters of request and response mapped as an HTTP API's integration says."""
        integration: Mapping[str, Any] = spec.options.get("integration") or {}
        mapping = integration.get("requestParameters") or {}
        subtype = integration.get("integrationSubtype")
        if subtype:
            values = Values(request, match)
            response = await integrations.called(
                subtype, mapping, values, self._services, request.request_id
            )
        else:
            if mapping:
                values = Values(request, match)
                mapped, path = mapped_request(request, mapping, values)
                event = dialect.event(mapped, match, spec)
                if path is not None:
                    # AWS's pages do not say it: the context keeps what the client asked for.
                    event["rawPath" if "rawPath" in event else "path"] = path
            response = await self._invoke(request, spec, dialect, event)
        after = integration.get("responseParameters")
        if after:
            return mapped_response(response, after, lambda given: Values(request, match, given))
        return response

    async def _invoke(
        self, request: HttpRequest, spec: RouteSpec, dialect: Dialect, event: dict[str, Any]
    ) -> HttpResponse:
        payload = json_text.dumps(event)
        if len(payload) > LAMBDA_LIMIT:
            return dialect.too_long
        integration = spec.options.get("integration") or {}
        given = integration.get("timeoutInMillis")
        try:
            async with asyncio.timeout(int(given) / 1000 if given else dialect.timeout_s):
                outcome = await self._outcome(request, spec, payload)
        except ThrottledError:
            return dialect.throttled
        except TimeoutError:
            return dialect.timed_out
        if isinstance(outcome, HttpResponse):
            return outcome
        if outcome.error is not None:
            return dialect.failed(error_message(outcome.payload))
        return dialect.response(outcome.payload, request, spec)

    async def _outcome(
        self, request: HttpRequest, spec: RouteSpec, payload: bytes
    ) -> Invocation | HttpResponse:
        """What the function returned or, where it streams, the beginning of its response."""
        invoker = self._invoker
        if spec.options.get("invoke_mode") != "RESPONSE_STREAM" or not isinstance(
            invoker, Streamer
        ):
            return await invoker.invoke(spec.target, payload, request_id=request.request_id)
        streaming = Streaming(invoker, spec.target, payload, request.request_id)
        head = await streaming.head()
        if isinstance(head, HttpResponse) and head.error is None:
            return replace(head, stream=streaming.body())
        return head


def stage_of(request: HttpRequest, stages: Iterable[str]) -> str:
    """The stage that the path begins with; else ``$default``, or the first there is."""
    known = list(stages)
    named = request.path.split("/", 2)[1] if request.path.startswith("/") else ""
    if named in known:
        return named
    return "$default" if "$default" in known else known[0]


def without_stage(request: HttpRequest, stage: str) -> HttpRequest:
    """A named stage is the first part of the path; without it the path is a custom domain's."""
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
    """The path that routes are found by: without what a custom domain has in front of the API's."""
    for base in bases:
        if path == f"/{base}" or path.startswith(f"/{base}/"):
            return path.removeprefix(f"/{base}") or "/"
    return path


def rest_context(request: HttpRequest, stage: str, route: RouteSpec | None) -> dict[str, Any]:
    """What of ``$context`` a gateway response may name."""
    resource = route.path if route else ""
    return {
        "requestId": request.request_id,
        "extendedRequestId": request.request_id,
        "requestTimeEpoch": request.time_ms,
        "httpMethod": request.method,
        "path": f"/{stage}{request.path}",
        "resourcePath": resource,
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


def error_message(payload: bytes) -> str:
    """``ErrorType: message`` of an error object."""
    try:
        value = json.loads(payload)
        return f"{value.get('errorType', 'Error')}: {value.get('errorMessage', '')}"
    except (ValueError, AttributeError):
        return "the function failed"
