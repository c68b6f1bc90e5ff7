"""https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html"""

from __future__ import annotations

from typing import Any

import pytest

from twolane_local.aws.events.http import (
    HttpRequest,
    HttpResponse,
    preflight_response,
    with_cors_headers,
)

CORS: dict[str, Any] = {
    "allowOrigins": ["https://a.example", "https://*.b.example"],
    "allowMethods": ["GET", "POST"],
    "allowHeaders": ["x-a"],
    "exposeHeaders": ["x-b"],
    "maxAge": 300,
}


def request(method: str = "GET", **headers: str) -> HttpRequest:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return HttpRequest(method, "/", "/", "", pairs)


def test_a_preflight_is_answered_without_the_function() -> None:
    asked = request("OPTIONS", origin="https://a.example", access_control_request_method="POST")
    response = preflight_response(asked, CORS)
    assert response is not None
    assert response.status == 204
    assert dict(response.headers) == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-methods": "GET,POST",
        "access-control-allow-headers": "x-a",
        "access-control-max-age": "300",
    }


def test_a_preflight_of_a_stranger_gets_no_headers() -> None:
    asked = request("OPTIONS", origin="https://evil.example", access_control_request_method="GET")
    assert preflight_response(asked, CORS) == HttpResponse(204)


def test_other_requests_are_no_preflight() -> None:
    assert preflight_response(request("OPTIONS", origin="https://a.example"), CORS) is None
    assert preflight_response(request("GET", access_control_request_method="GET"), CORS) is None


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://a.example", True),
        ("https://x.b.example", True),
        ("https://b.example", False),
        ("https://a.example.evil", False),
        ("http://a.example", False),
    ],
)
def test_origins(origin: str, allowed: bool) -> None:
    response = with_cors_headers(request(origin=origin), HttpResponse(200), CORS)
    assert (("access-control-allow-origin", origin) in response.headers) is allowed


def test_the_headers_of_the_function_are_ignored() -> None:
    own = HttpResponse(200, (("access-control-allow-origin", "*"), ("x-own", "1")))
    response = with_cors_headers(request(origin="https://a.example"), own, CORS)
    assert response.headers == (
        ("x-own", "1"),
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-expose-headers", "x-b"),
    )


def test_a_star_with_credentials_names_the_origin() -> None:
    everyone = {"allowOrigins": ["*"]}
    asked = request(origin="https://a.example")
    plain = with_cors_headers(asked, HttpResponse(200), everyone)
    assert plain.headers == (("access-control-allow-origin", "*"),)
    trusted = with_cors_headers(asked, HttpResponse(200), {**everyone, "allowCredentials": True})
    assert dict(trusted.headers) == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-credentials": "true",
    }
