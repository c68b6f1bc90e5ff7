"""The events and responses of HTTP APIs and function URLs: payload format 2.0.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
Streamed responses begin with status and headers as JSON, then eight null bytes:
https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
"""

from __future__ import annotations

import json
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from twolane_local.aws.events.http import (
    HttpResponse,
    decode_body,
    encode_body,
    json_response,
    one_slash,
)
from twolane_local.model import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from twolane_local.aws.events.http import HttpRequest, RouteMatch


def event(request: HttpRequest, match: RouteMatch, raw_path: str | None = None) -> dict[str, Any]:
    """The event of a request; fields that the request lacks (cookies, query …) are left out.

    An HTTP API decodes the path; ``raw_path`` is the path of another gateway's event.
    """
    if raw_path is None:
        named_stage = match.stage != "$default"
        raw_path = f"/{match.stage}{request.path}" if named_stage else request.path
    result: dict[str, Any] = {
        "version": "2.0",
        "routeKey": match.route_key,
        "rawPath": raw_path,
        "rawQueryString": request.query,
    }
    values = [value for name, value in request.headers if name == "cookie"]
    cookies = [part.strip() for value in values for part in value.split(";")]
    if cookies:
        result["cookies"] = cookies
    result["headers"] = join_duplicates(pair for pair in request.headers if pair[0] != "cookie")
    if request.query:
        pairs = parse_qsl(request.query, keep_blank_values=True)
        result["queryStringParameters"] = join_duplicates(pairs)
    result["requestContext"] = _context(request, match, raw_path)
    if match.parameters:
        result["pathParameters"] = dict(match.parameters)
    if match.stage_variables:
        result["stageVariables"] = dict(match.stage_variables)
    if request.body:
        result["body"], result["isBase64Encoded"] = encode_body(request)
    else:
        result["isBase64Encoded"] = False
    return result


def _context(request: HttpRequest, match: RouteMatch, raw_path: str) -> dict[str, Any]:
    context: dict[str, Any] = {
        "accountId": ACCOUNT,
        "apiId": match.api_id,
        "domainName": request.domain,
        "domainPrefix": request.domain.partition(".")[0],
        "http": {
            "method": request.method,
            "path": raw_path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": request.header("user-agent"),
        },
        "requestId": request.request_id,
        "routeKey": match.route_key,
        "stage": match.stage,
        "time": access_log_time(request.time_ms),
        "timeEpoch": request.time_ms,
    }
    if match.authorizer is not None:
        context["authorizer"] = dict(match.authorizer)
    return context


def join_duplicates(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A map of the pairs; the values of duplicate names are joined with commas."""
    result: dict[str, str] = {}
    for name, value in pairs:
        result[name] = f"{result[name]},{value}" if name in result else value
    return result


def access_log_time(time_ms: int) -> str:
    """``12/Mar/2020:19:03:58 +0000``"""
    return _access_log_time(time_ms // 1000)


@lru_cache(maxsize=8)
def _access_log_time(seconds: int) -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(seconds))


#: The type of a response with a status and no type of its own: an HTTP API's, a function URL's.
TEXT, JSON = "text/plain; charset=utf-8", "application/json"


def response(payload: bytes, default_type: str = TEXT) -> HttpResponse:
    """The client's response for a function's result.

    A result without a ``statusCode`` is the body of a 200, as JSON. A malformed result is a 500
    with the body of API Gateway.
    """
    try:
        value = json.loads(payload)
    except ValueError:
        return internal_error("the function did not return JSON")
    if not isinstance(value, dict) or "statusCode" not in value:
        return HttpResponse(200, (("content-type", JSON),), _text(value).encode())
    try:
        return _shaped(value, default_type)
    except (ValueError, TypeError, AttributeError) as error:
        return internal_error(f"the function's response is malformed: {error}")


def _text(value: Any) -> str:
    """A string as it is, any other value as compact JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _shaped(value: dict[str, Any], default_type: str) -> HttpResponse:
    status = int(value["statusCode"])
    if not 100 <= status <= 599:
        raise ValueError(f"statusCode {status}")
    headers = [
        (str(name).lower(), header_text(item))
        for name, item in (value.get("headers") or {}).items()
    ]
    headers += [("set-cookie", str(cookie)) for cookie in value.get("cookies") or ()]
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", default_type))
    given = value.get("body")
    if given is not None and default_type == JSON:
        # AWS does not document that an object as the body of a function URL becomes JSON. An HTTP
        # API refuses it: 'Lambda body contains the wrong type for field "body"'.
        given = _text(given)
    body = decode_body(given, is_base64=value.get("isBase64Encoded") is True)
    return HttpResponse(status, tuple(headers), body)


def header_text(value: Any) -> str:
    """The value of a header: booleans are in lower case, as in JSON."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def internal_error(why: str) -> HttpResponse:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-troubleshooting-lambda.html"""
    return json_response(500, {"message": "Internal Server Error"}, why)


#: A function URL has TLS always. AWS's values for a usual client.
_TLS = {"x-amzn-tls-cipher-suite": "TLS_AES_128_GCM_SHA256", "x-amzn-tls-version": "TLSv1.3"}


def url_event(request: HttpRequest, match: RouteMatch) -> dict[str, Any]:
    """The event of a function URL: that of an HTTP API, with an anonymous caller.

    ``rawPath`` is percent-encoded, as the client sent it, and begins with one slash.
    """
    result = event(request, match, one_slash(request.raw_path))
    result["requestContext"]["http"]["path"] = one_slash(request.path)
    result["headers"] |= _TLS
    context = result["requestContext"]
    context["accountId"] = "anonymous"
    context["authentication"] = None
    return result


def url_response(payload: bytes) -> HttpResponse:
    """The response of a function URL: that of an HTTP API, but a malformed result is a 502."""
    made = response(payload, JSON)
    return bad_gateway(made.error) if made.error else made


def bad_gateway(why: str) -> HttpResponse:
    """A plain text, whatever the type says.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-monitoring.html
    """
    return HttpResponse(502, (("content-type", JSON),), b"Internal Server Error", why)


INTEGRATION = "application/vnd.awslambda.http-integration-response"
_SEPARATOR = b"\0" * 8
#: The largest head; a stream without the separator must not be buffered without end.
_MAX_HEAD = 64 * 1024


async def streamed_response(content_type: str, pieces: AsyncIterator[bytes]) -> HttpResponse:
    """Status, headers and the beginning of the body of a streamed response.

    Reads ``pieces`` up to the end of the head. A malformed head is a 502.
    """
    if content_type.partition(";")[0].strip().lower() != INTEGRATION:
        kind = content_type or "application/octet-stream"
        return HttpResponse(200, (("content-type", kind),))
    data = b""
    async for piece in pieces:
        data += piece
        if _SEPARATOR in data or len(data) > _MAX_HEAD:
            break
    prelude, found, body = data.partition(_SEPARATOR)
    if not found:
        return bad_gateway("the head of the streamed response does not end")
    try:
        value = json.loads(prelude)
        shaped = {"statusCode": 200, **value, "body": None}
    except (ValueError, TypeError) as error:
        return bad_gateway(f"the head of the streamed response is malformed: {error}")
    made = response(json.dumps(shaped).encode())
    if made.error:
        return bad_gateway(made.error)
    return HttpResponse(made.status, made.headers, body)
