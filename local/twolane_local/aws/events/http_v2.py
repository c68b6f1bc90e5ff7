"""HTTP APIs and function URLs: payload format 2.0.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import json
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from twolane_local.aws.events.http import HttpResponse, decode_body, encode_body, json_response
from twolane_local.template.values import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from twolane_local.aws.events.http import HttpRequest, Match


def event(request: HttpRequest, match: Match) -> dict[str, Any]:
    """The event of one request. What the request has none of (cookies, query …) is left out."""
    named_stage = match.stage != "$default"
    raw_path = f"/{match.stage}{request.path}" if named_stage else request.path
    result: dict[str, Any] = {
        "version": "2.0",
        "routeKey": match.route_key,
        "rawPath": raw_path,
        "rawQueryString": request.query,
    }
    cookies = [part.strip() for value in _values(request, "cookie") for part in value.split(";")]
    if cookies:
        result["cookies"] = cookies
    result["headers"] = joined_headers(request)
    if request.query:
        result["queryStringParameters"] = joined(parse_qsl(request.query, keep_blank_values=True))
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


def _context(request: HttpRequest, match: Match, raw_path: str) -> dict[str, Any]:
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


def _values(request: HttpRequest, name: str) -> list[str]:
    return [value for key, value in request.headers if key == name]


def joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Duplicates are combined with commas."""
    result: dict[str, str] = {}
    for name, value in pairs:
        result[name] = f"{result[name]},{value}" if name in result else value
    return result


def joined_headers(request: HttpRequest) -> dict[str, str]:
    """The headers as the event has them: cookies stand apart."""
    return joined((name, value) for name, value in request.headers if name != "cookie")


def access_log_time(time_ms: int) -> str:
    """``12/Mar/2020:19:03:58 +0000``"""
    return _access_log_time(time_ms // 1000)


@lru_cache(maxsize=8)
def _access_log_time(seconds: int) -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(seconds))


def response(payload: bytes) -> HttpResponse:
    """What the client gets for what the function returned.

    A result without a ``statusCode`` is itself the body of a 200, as JSON. What cannot be read is
    a 500 with API Gateway's own body.
    """
    try:
        value = json.loads(payload)
    except ValueError:
        return internal_error("the function returned no JSON")
    if not isinstance(value, dict) or "statusCode" not in value:
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        return HttpResponse(200, (("content-type", "application/json"),), body)
    try:
        return _shaped(value)
    except (ValueError, TypeError, AttributeError) as error:
        return internal_error(f"the function's response is malformed: {error}")


def _shaped(value: dict[str, Any]) -> HttpResponse:
    status = int(value["statusCode"])
    if not 100 <= status <= 599:
        raise ValueError(f"statusCode {status}")
    headers = [
        (str(name).lower(), _text(item)) for name, item in (value.get("headers") or {}).items()
    ]
    headers += [("set-cookie", str(cookie)) for cookie in value.get("cookies") or ()]
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "text/plain; charset=utf-8"))
    body = decode_body(value.get("body"), is_base64=value.get("isBase64Encoded") is True)
    return HttpResponse(status, tuple(headers), body)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def internal_error(why: str) -> HttpResponse:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-troubleshooting-lambda.html"""
    return json_response(500, {"message": "Internal Server Error"}, why)


def url_event(request: HttpRequest, match: Match) -> dict[str, Any]:
    """As of an HTTP API, of an anonymous caller and without a name for the route."""
    result = event(request, match)
    context = result["requestContext"]
    context["accountId"] = "anonymous"
    context["authentication"] = None
    return result


def url_response(payload: bytes) -> HttpResponse:
    """As of an HTTP API; what cannot be read is a 502."""
    made = response(payload)
    return bad_gateway(made.error) if made.error else made


def bad_gateway(why: str) -> HttpResponse:
    """https://docs.aws.amazon.com/lambda/latest/dg/urls-monitoring.html"""
    return json_response(502, {"Message": "Internal Server Error"}, why)


INTEGRATION = "application/vnd.awslambda.http-integration-response"
_SEPARATOR = b"\0" * 8
#: Of the head; a stream without the separator must not be gathered for ever.
_MAX_HEAD = 64 * 1024


async def head(content_type: str, pieces: AsyncIterator[bytes]) -> HttpResponse:
    """Status and headers, and of the body what has come with them; ``pieces`` is read so far.

    What cannot be read is a 502, as where the function's response is malformed.
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
        return bad_gateway("the streamed response has no end of its head")
    try:
        value = json.loads(prelude)
        shaped = {"statusCode": 200, **value, "body": None}
    except (ValueError, TypeError) as error:
        return bad_gateway(f"the head of the streamed response is malformed: {error}")
    made = response(json.dumps(shaped).encode())
    if made.error:
        return bad_gateway(made.error)
    return HttpResponse(made.status, made.headers, body)
