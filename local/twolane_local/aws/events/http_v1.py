"""The events and responses of REST APIs, and of HTTP APIs with payload format 1.0.

https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html

A REST API keeps header names as the client wrote them; an HTTP API makes them lower case.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from twolane_local.aws.events.http import (
    HttpResponse,
    decode_body,
    encode_body,
    json_response,
    one_slash,
)
from twolane_local.aws.events.http_v2 import access_log_time, header_text, internal_error
from twolane_local.model import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twolane_local.aws.events.http import HttpRequest, RouteMatch
    from twolane_local.model import RestMethod

_NO_IDENTITY = (
    "accessKey", "accountId", "caller", "cognitoAuthenticationProvider",
    "cognitoAuthenticationType", "cognitoIdentityId", "cognitoIdentityPoolId", "principalOrgId",
    "user", "userArn",
)  # fmt: skip


def http_api_event(request: HttpRequest, match: RouteMatch) -> dict[str, Any]:
    body, is_base64 = encode_body(request) if request.body else (None, False)
    event = {
        "version": "1.0",
        **_event(request, match, body, request.headers, is_base64=is_base64),
    }
    context = event["requestContext"]
    context["authorizer"] = dict(match.authorizer or {"claims": None, "scopes": None})
    context["resourceId"] = None
    return event


def rest_event(
    request: HttpRequest, match: RouteMatch, method: RestMethod | None = None
) -> dict[str, Any]:
    """The proxy event of a REST API; bodies of the API's binary types are in base64.

    ``path`` is percent-encoded, as the client sent it, and begins with one slash;
    ``requestContext`` has each slash.
    """
    binary = method.api.binary if method is not None else ()
    body: str | None = None
    is_base64 = False
    if request.body:
        is_base64 = is_binary(request.header("content-type"), binary)
        body = (
            base64.b64encode(request.body).decode("ascii")
            if is_base64
            else request.body.decode("utf-8", "replace")
        )
    headers = tuple(
        ("Authorization" if name.lower() == "authorization" else name, value)
        for name, value in request.cased_headers
        if name.lower() != "content-length"  # AWS leaves it out
    )
    event = _event(request, match, body, headers, is_base64=is_base64)
    event["path"] = one_slash(request.path)
    context = event["requestContext"]
    context["resourceId"] = hashlib.sha256(match.path.encode()).hexdigest()[:6]
    context["deploymentId"] = "local"
    if method is not None and method.operation:
        context["operationName"] = method.operation
    if match.authorizer is not None:
        context["authorizer"] = dict(match.authorizer)
    return event


def _event(
    request: HttpRequest,
    match: RouteMatch,
    body: str | None,
    headers: tuple[tuple[str, str], ...],
    *,
    is_base64: bool,
) -> dict[str, Any]:
    pairs = parse_qsl(request.query, keep_blank_values=True)
    identity: dict[str, Any] = dict.fromkeys(_NO_IDENTITY)
    identity |= {"sourceIp": request.source_ip, "userAgent": request.header("user-agent")}
    resource = match.path
    staged = request.path if match.stage == "$default" else f"/{match.stage}{request.path}"
    return {
        "resource": resource,
        "path": request.path,
        "httpMethod": request.method,
        "headers": dict(headers),
        "multiValueHeaders": _grouped(headers),
        "queryStringParameters": dict(pairs) or None,
        "multiValueQueryStringParameters": _grouped(pairs) or None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": match.api_id,
            "domainName": request.domain,
            "domainPrefix": request.domain.partition(".")[0],
            "extendedRequestId": request.request_id,
            "httpMethod": request.method,
            "identity": identity,
            "path": staged,
            "protocol": request.protocol,
            "requestId": request.request_id,
            "requestTime": access_log_time(request.time_ms),
            "requestTimeEpoch": request.time_ms,
            "resourcePath": resource,
            "stage": match.stage,
        },
        "pathParameters": dict(match.parameters) or None,
        "stageVariables": dict(match.stage_variables) or None,
        "body": body,
        "isBase64Encoded": is_base64,
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for name, value in pairs:
        result.setdefault(name, []).append(value)
    return result


def is_binary(content_type: str, binary: Sequence[str]) -> bool:
    """True if a REST API treats this type as binary; ``*/*`` and ``image/*`` are patterns."""
    kind = content_type.partition(";")[0].strip().lower()
    for pattern in binary:
        if pattern in {"*/*", kind}:
            return True
        if pattern.endswith("/*") and kind.startswith(pattern[:-1]):
            return True
    return False


def rest_response(payload: bytes, accept: str, binary: Sequence[str]) -> HttpResponse:
    """The response of a REST API for a function's result; a malformed result is a 502.

    Base64 is decoded only if the first type that the client accepts is binary:
    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-payload-encodings-workflow.html
    """
    decode = is_binary(accept.partition(",")[0], binary)
    try:
        payload = _checked(payload)
    except ValueError as error:
        return bad_gateway(f"the function's response is malformed: {error}")
    return _response(payload, decode=decode, failed=bad_gateway, cased=True)


#: The keys of a REST API's proxy response, all of them optional; others are refused:
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html#api-gateway-simple-proxy-for-lambda-output-format
_KEYS = frozenset({"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"})


def _checked(payload: bytes) -> bytes:
    """A proxy response with a status; raises ``ValueError`` if a REST API would refuse it."""
    value = json.loads(payload)
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 (a malformed response, all of them)
    unknown = sorted(value.keys() - _KEYS)
    if unknown:
        raise ValueError(f"it has the unknown key {unknown[0]!r}")
    for name, items in (value.get("multiValueHeaders") or {}).items():
        if not isinstance(items, list):
            raise ValueError(f"{name} of its multiValueHeaders is not a list")  # noqa: TRY004
    if value.get("statusCode") is not None:
        return payload
    return json.dumps({**value, "statusCode": 200}).encode()


def http_api_response(payload: bytes) -> HttpResponse:
    """The response of an HTTP API, which always decodes; a malformed result is a 500."""
    return _response(payload, decode=True, failed=internal_error, cased=False)


def _response(payload: bytes, *, decode: bool, failed: Any, cased: bool) -> HttpResponse:
    try:
        value = json.loads(payload)
        status = int(value["statusCode"])
        if not 100 <= status <= 599:
            raise ValueError(f"statusCode {status}")
        headers = _headers(value, cased=cased)
        is_base64 = decode and value.get("isBase64Encoded") is True
        body = decode_body(value.get("body"), is_base64=is_base64)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        response: HttpResponse = failed(f"the function's response is malformed: {error!r}")
        return response
    return HttpResponse(status, tuple(headers), body)


def _headers(value: dict[str, Any], *, cased: bool) -> list[tuple[str, str]]:
    """The headers of both maps, without duplicate values; ``multiValueHeaders`` come first.

    With ``cased``, names are as the function wrote them first.
    """
    several: dict[str, tuple[str, list[str]]] = {}
    given = [
        *(value.get("multiValueHeaders") or {}).items(),
        *((name, [item]) for name, item in (value.get("headers") or {}).items()),
    ]
    for name, items in given:
        _, texts = several.setdefault(name.lower(), (name, []))
        texts += [text for text in map(header_text, items) if text not in texts]
    several.setdefault("content-type", ("Content-Type", ["application/json"]))
    return [
        (name if cased else lower, text)
        for lower, (name, texts) in several.items()
        for text in texts
    ]


def bad_gateway(why: str) -> HttpResponse:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/handle-errors-in-lambda-integration.html"""
    answer = json_response(502, {"message": "Internal server error"}, why)
    return replace(answer, fault="DEFAULT_5XX")
