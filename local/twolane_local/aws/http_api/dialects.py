"""The differences between the kinds of API: events, responses, errors and limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twolane_local.aws.events import http_v1, http_v2
from twolane_local.aws.events.http import HttpResponse, json_response
from twolane_local.aws.http_api import answers
from twolane_local.http.servers import MAX_HEAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.aws.events.http import HttpRequest, RouteMatch
    from twolane_local.model import MockResponse, RouteSpec

_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Dialect:
    """``event(request, match, route)`` and ``response(payload, request, route)`` are pure.

    ``timeout_s`` is the longest wait for the function. ``max_body`` and ``max_head`` are the
    largest request body, and the largest request line with all header values, in bytes. The others
    are the gateway's own responses.
    """

    event: Callable[[HttpRequest, RouteMatch, RouteSpec], dict[str, Any]]
    response: Callable[[bytes, HttpRequest, RouteSpec], HttpResponse]
    failed: Callable[[str], HttpResponse]
    throttled: HttpResponse
    timed_out: HttpResponse
    no_route: HttpResponse
    unauthorized: HttpResponse
    forbidden: HttpResponse
    #: A policy denies the request, rather than not allowing it.
    denied: HttpResponse
    unsigned: HttpResponse
    authorizer_failed: Callable[[str], HttpResponse]
    too_large: HttpResponse
    #: The event exceeds Lambda's limit, although the body does not exceed the gateway's.
    too_long: HttpResponse
    head_too_large: HttpResponse
    max_body: int
    max_head: int
    timeout_s: float
    #: The headers of each response that identify its request.
    identity: Callable[[HttpRequest], tuple[tuple[str, str], ...]]


def _rest_identity(request: HttpRequest) -> tuple[tuple[str, str], ...]:
    trace = f"{request.header('x-amzn-trace-id')};Sampled=0"
    return (
        ("x-amzn-RequestId", request.request_id),
        ("x-amz-apigw-id", _extended_id(request)),
        ("X-Amzn-Trace-Id", trace),
    )


def _url_identity(request: HttpRequest) -> tuple[tuple[str, str], ...]:
    trace = f"{request.header('x-amzn-trace-id')};Sampled=0"
    return (("x-amzn-RequestId", request.request_id), ("X-Amzn-Trace-Id", trace))


def _extended_id(request: HttpRequest) -> str:
    """15 characters and ``=``, as API Gateway makes them."""
    return f"{request.request_id.replace('-', '')[:15]}="


def _rest_response(payload: bytes, request: HttpRequest, route: RouteSpec) -> HttpResponse:
    binary = route.rest.api.binary if route.rest is not None else ()
    return http_v1.rest_response(payload, request.header("accept"), binary)


_MESSAGE = "message"
_TOO_LARGE = json_response(413, {_MESSAGE: "Request Entity Too Large"}, "the body is too large")
#: The pages name the limit but not the answer. Unverified (`head-too-large`).
_HEAD_TOO_LARGE = json_response(
    431, {_MESSAGE: "Request Header Fields Too Large"}, "the request line and headers are too large"
)
_FORBIDDEN = json_response(403, {_MESSAGE: "Forbidden"}, "forbidden by the authorizer")
_DENIED = ("x-amzn-errortype", "AccessDeniedException")
_URL_FORBIDDEN = json_response(
    403,
    {
        "Message": "Forbidden. For troubleshooting Function URL authorization issues, see: "
        "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
    },
    "not signed",
    _DENIED,
)
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
    forbidden=_FORBIDDEN,
    denied=_FORBIDDEN,
    unsigned=_FORBIDDEN,
    authorizer_failed=http_v2.internal_error,
    too_large=_TOO_LARGE,
    too_long=_TOO_LARGE,
    head_too_large=_HEAD_TOO_LARGE,
    max_body=10 * _MB,
    max_head=10_240,
    timeout_s=30.0,
    identity=lambda request: (("apigw-requestid", _extended_id(request)),),
)
HTTP_API_V1 = replace(
    HTTP_API,
    event=lambda request, match, _: http_v1.http_api_event(request, match),
    response=lambda payload, _, __: http_v1.http_api_response(payload),
)
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
REST = Dialect(
    event=lambda request, match, route: http_v1.rest_event(request, match, route.rest),
    response=_rest_response,
    failed=http_v1.bad_gateway,
    # AWS does not document it for a throttled proxy integration. Unverified
    # (`throttled-rest-api`).
    throttled=answers.gateway_error("DEFAULT_5XX", "the function throttles"),
    timed_out=answers.gateway_error("INTEGRATION_TIMEOUT", "no answer in 29 s"),
    no_route=answers.gateway_error("MISSING_AUTHENTICATION_TOKEN", "no method matches"),
    unauthorized=answers.gateway_error("UNAUTHORIZED", "not authorized"),
    forbidden=answers.DENIED,
    denied=answers.DENIED_EXPLICITLY,
    unsigned=answers.gateway_error("MISSING_AUTHENTICATION_TOKEN", "the request is not signed"),
    authorizer_failed=partial(answers.gateway_error, "AUTHORIZER_CONFIGURATION_ERROR"),
    too_large=answers.TOO_LARGE,
    too_long=answers.TOO_LONG,
    head_too_large=_HEAD_TOO_LARGE,
    max_body=10 * _MB,
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
    max_head=10_240,
    timeout_s=29.0,
    identity=_rest_identity,
)
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
FUNCTION_URL = Dialect(
    event=lambda request, match, _: http_v2.url_event(request, match),
    response=lambda payload, _, __: http_v2.url_response(payload),
    failed=http_v2.bad_gateway,
    throttled=json_response(429, {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"}),
    timed_out=json_response(504, {"Message": "Gateway Timeout"}, "no answer"),
    no_route=json_response(403, {"Message": None}, "no function", _DENIED),
    unauthorized=_URL_FORBIDDEN,
    forbidden=_URL_FORBIDDEN,
    denied=_URL_FORBIDDEN,
    unsigned=_URL_FORBIDDEN,
    authorizer_failed=http_v2.bad_gateway,
    too_large=_TOO_LARGE,
    too_long=_TOO_LARGE,
    head_too_large=_HEAD_TOO_LARGE,
    max_body=6 * _MB,
    max_head=MAX_HEAD,  # the pages name none
    timeout_s=900.0,
    identity=_url_identity,
)


def dialect_of(route: RouteSpec) -> Dialect:
    """The dialect that a route speaks."""
    if route.kind == "rest":
        return REST
    if route.kind == "url":
        return FUNCTION_URL
    return HTTP_API_V1 if route.payload == "1.0" else HTTP_API


def not_emulated(route: RouteSpec) -> HttpResponse:
    """The response for a route that works on AWS only: 501, which no gateway returns."""
    why = f"{route.method} {route.path} is not emulated: {route.unsupported}"
    return json_response(501, {"message": f"twolane: {why}"}, why)


def mock_response(mock: MockResponse, request: HttpRequest) -> HttpResponse:
    """The response of a REST method with a mock integration, as SAM and CDK declare preflights.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-mock-integration.html
    """
    headers = dict(mock.headers)
    origin = request.header("origin")
    if any(re.fullmatch(pattern, origin) for pattern in mock.origins):
        headers["access-control-allow-origin"] = origin
    headers.setdefault("content-type", "application/json")
    return HttpResponse(mock.status, tuple(headers.items()), mock.body.encode())
