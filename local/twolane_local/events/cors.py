"""CORS as HTTP APIs and function URLs do it in front of the function.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html
https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html#urls-cors
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local.events.http import HttpResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.events.http import HttpRequest


def preflight(request: HttpRequest, cors: Mapping[str, Any]) -> HttpResponse | None:
    """The answer to a preflight request, ``None`` for any other."""
    if request.method != "OPTIONS" or not request.header("access-control-request-method"):
        return None
    headers = _origin(request, cors)
    if headers:
        for name, key in (
            ("access-control-allow-methods", "allowMethods"),
            ("access-control-allow-headers", "allowHeaders"),
        ):
            if cors.get(key):
                headers.append((name, ",".join(map(str, cors[key]))))
        if cors.get("maxAge") is not None:
            headers.append(("access-control-max-age", str(cors["maxAge"])))
    return HttpResponse(204, tuple(headers))


def decorate(request: HttpRequest, response: HttpResponse, cors: Mapping[str, Any]) -> HttpResponse:
    """The response with the configured headers; those of the function are ignored."""
    kept = [item for item in response.headers if not item[0].startswith("access-control-")]
    headers = _origin(request, cors)
    if headers and cors.get("exposeHeaders"):
        headers.append(("access-control-expose-headers", ",".join(cors["exposeHeaders"])))
    return replace(response, headers=(*kept, *headers))


def _origin(request: HttpRequest, cors: Mapping[str, Any]) -> list[tuple[str, str]]:
    origin = request.header("origin")
    allowed = [str(item) for item in cors.get("allowOrigins") or ()]
    if not origin or not any(_matches(origin, pattern) for pattern in allowed):
        return []
    credentials = str(cors.get("allowCredentials", False)).lower() == "true"
    value = "*" if "*" in allowed and not credentials else origin
    headers = [("access-control-allow-origin", value)]
    if credentials:
        headers.append(("access-control-allow-credentials", "true"))
    return headers


def _matches(origin: str, pattern: str) -> bool:
    """``https://*.example.com`` and ``http://*`` are patterns."""
    head, star, tail = pattern.partition("*")
    if not star:
        return origin.lower() == pattern.lower()
    return (
        len(origin) > len(head) + len(tail) - 1
        and origin.lower().startswith(head.lower())
        and origin.lower().endswith(tail.lower())
    )
