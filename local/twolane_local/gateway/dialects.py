"""How the kinds of API differ: their events, their responses, their errors and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.events import function_url, http_v1, http_v2
from twolane_local.events.http import HttpResponse, json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.events.http import HttpRequest, Match
    from twolane_local.model import RouteSpec

_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Dialect:
    """``event(request, match, route)`` and ``response(payload, request, route)`` are pure.

    ``timeout_s`` is the longest that the gateway waits, ``max_body`` the largest request body in
    bytes; the others are its answers where the function gives none.
    """

    event: Callable[[HttpRequest, Match, RouteSpec], dict[str, Any]]
    response: Callable[[bytes, HttpRequest, RouteSpec], HttpResponse]
    failed: Callable[[str], HttpResponse]
    throttled: HttpResponse
    timed_out: HttpResponse
    no_route: HttpResponse
    unauthorized: HttpResponse
    forbidden: HttpResponse
    max_body: int
    timeout_s: float


def _binary(route: RouteSpec) -> list[str]:
    return list(route.options.get("binary") or ())


_MESSAGE = "message"
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
HTTP_API = Dialect(
    event=lambda request, match, _: http_v2.event(request, match),
    response=lambda payload, _, __: http_v2.response(payload),
    failed=http_v2.internal_error,
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-troubleshooting-lambda.html
    throttled=json_response(503, {_MESSAGE: "Service Unavailable"}, "the function throttles"),
    timed_out=json_response(503, {_MESSAGE: "Service Unavailable"}, "no answer in 30 s"),
    no_route=json_response(404, {_MESSAGE: "Not Found"}, "no route matches"),
    unauthorized=json_response(401, {_MESSAGE: "Unauthorized"}, "not authorized"),
    forbidden=json_response(403, {_MESSAGE: "Forbidden"}, "forbidden by the authorizer"),
    max_body=10 * _MB,
    timeout_s=30.0,
)
HTTP_API_V1 = Dialect(
    event=lambda request, match, _: http_v1.http_api_event(request, match),
    response=lambda payload, _, __: http_v1.http_api_response(payload),
    failed=http_v1.server_error,
    throttled=HTTP_API.throttled,
    timed_out=HTTP_API.timed_out,
    no_route=HTTP_API.no_route,
    unauthorized=HTTP_API.unauthorized,
    forbidden=HTTP_API.forbidden,
    max_body=HTTP_API.max_body,
    timeout_s=HTTP_API.timeout_s,
)
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
REST = Dialect(
    event=lambda request, match, route: http_v1.rest_event(request, match, _binary(route)),
    response=lambda payload, request, route: http_v1.rest_response(
        payload, request.header("accept"), _binary(route)
    ),
    failed=http_v1.bad_gateway,
    # Not said by AWS's pages for a throttled proxy integration; not verified
    # (`throttled-rest-api`).
    throttled=json_response(500, {_MESSAGE: "Internal server error"}, "the function throttles"),
    timed_out=json_response(504, {_MESSAGE: "Endpoint request timed out"}, "no answer in 29 s"),
    no_route=json_response(403, {_MESSAGE: "Missing Authentication Token"}, "no method matches"),
    unauthorized=json_response(401, {_MESSAGE: "Unauthorized"}, "not authorized"),
    forbidden=json_response(
        403, {"Message": "User is not authorized to access this resource"}, "denied by policy"
    ),
    max_body=10 * _MB,
    timeout_s=29.0,
)
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
FUNCTION_URL = Dialect(
    event=lambda request, match, _: function_url.event(request, match),
    response=lambda payload, _, __: function_url.response(payload),
    failed=function_url.bad_gateway,
    throttled=json_response(429, {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"}),
    timed_out=json_response(504, {"Message": "Gateway Timeout"}, "no answer"),
    no_route=json_response(404, {"Message": None}, "no function"),
    unauthorized=json_response(403, {"Message": "Forbidden"}, "not signed"),
    forbidden=json_response(403, {"Message": "Forbidden"}, "not signed"),
    max_body=6 * _MB,
    timeout_s=900.0,
)


def dialect_of(route: RouteSpec) -> Dialect:
    """The dialect that a route speaks."""
    if route.kind == "rest":
        return REST
    if route.kind == "url":
        return FUNCTION_URL
    return HTTP_API_V1 if route.payload == "1.0" else HTTP_API


def not_played(route: RouteSpec) -> HttpResponse:
    """AWS would answer: 501 keeps it apart from what no API has, and from a function's failure."""
    why = f"{route.method} {route.path} is not emulated: {route.unplayed}"
    return json_response(501, {"message": f"twolane: {why}"}, why)


def mock_response(route: RouteSpec) -> HttpResponse | None:
    """What a REST method without a function answers: SAM writes CORS preflights so.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-mock-integration.html
    """
    integration: Mapping[str, Any] = route.options.get("integration") or {}
    if str(integration.get("type", "")).lower() != "mock":
        return None
    answer = (integration.get("responses") or {}).get("default") or {}
    prefix = "method.response.header."
    headers = [
        (name.removeprefix(prefix).lower(), str(value).strip("'"))
        for name, value in (answer.get("responseParameters") or {}).items()
        if name.startswith(prefix)
    ]
    return HttpResponse(int(answer.get("statusCode", 200)), tuple(headers))
