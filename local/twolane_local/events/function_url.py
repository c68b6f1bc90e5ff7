"""Function URLs: payload format 2.0, with their own addresses and errors.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.events import http_v2
from twolane_local.events.http import HttpResponse, json_response

if TYPE_CHECKING:
    from twolane_local.events.http import HttpRequest, Match


def event(request: HttpRequest, match: Match) -> dict[str, Any]:
    """As of an HTTP API, of an anonymous caller and without a name for the route."""
    result = http_v2.event(request, match)
    context = result["requestContext"]
    context["accountId"] = "anonymous"
    context["authentication"] = None
    return result


def response(payload: bytes) -> HttpResponse:
    """As of an HTTP API; what cannot be read is a 502."""
    made = http_v2.response(payload)
    return bad_gateway(made.error) if made.error else made


def bad_gateway(why: str) -> HttpResponse:
    """https://docs.aws.amazon.com/lambda/latest/dg/urls-monitoring.html"""
    return json_response(502, {"Message": "Internal Server Error"}, why)
