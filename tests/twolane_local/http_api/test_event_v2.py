"""Payload format 2.0:
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from twolane_local.aws.events import http_v2
from twolane_local.aws.events.http import HttpRequest, RouteMatch

REQUEST = HttpRequest(
    method="POST",
    path="/my/path with space",
    raw_path="/my/path%20with%20space",
    query="parameter1=value1&parameter1=value2&parameter2=value&empty=",
    headers=(
        ("host", "id.execute-api.us-east-1.amazonaws.com"),
        ("header1", "value1"),
        ("header2", "value1"),
        ("header2", "value2"),
        ("cookie", "cookie1=a; cookie2=b"),
        ("user-agent", "agent"),
        ("content-type", "application/json"),
    ),
    body=b'{"a": 1}',
    source_ip="192.0.2.1",
    time_ms=1583348638390,
    request_id="JKJaXmPLvHcESHA=",
    domain="id.execute-api.us-east-1.amazonaws.com",
)
MATCH = RouteMatch("$default", "$default", "f", {}, api_id="api-id")


def test_the_documented_event() -> None:
    assert http_v2.event(REQUEST, MATCH) == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/path with space",
        "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value&empty=",
        "cookies": ["cookie1=a", "cookie2=b"],
        "headers": {
            "host": "id.execute-api.us-east-1.amazonaws.com",
            "header1": "value1",
            "header2": "value1,value2",
            "user-agent": "agent",
            "content-type": "application/json",
        },
        "queryStringParameters": {
            "parameter1": "value1,value2",
            "parameter2": "value",
            "empty": "",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api-id",
            "domainName": "id.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "id",
            "http": {
                "method": "POST",
                "path": "/my/path with space",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "agent",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "04/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "body": '{"a": 1}',
        "isBase64Encoded": False,
    }


def test_what_a_request_has_none_of_is_left_out() -> None:
    event = http_v2.event(HttpRequest("GET", "/", "/", "", ()), MATCH)
    assert not {"cookies", "queryStringParameters", "pathParameters", "body"} & event.keys()
    assert event["isBase64Encoded"] is False


def test_a_named_stage_and_path_parameters() -> None:
    match = RouteMatch("GET /x/{id}", "/x/{id}", "f", {"id": "7"}, stage="prod")
    event = http_v2.event(HttpRequest("GET", "/x/7", "/x/7", "", ()), match)
    assert event["rawPath"] == "/prod/x/7"
    assert event["pathParameters"] == {"id": "7"}
    assert event["requestContext"]["http"]["path"] == "/prod/x/7"


@pytest.mark.parametrize(
    ("content_type", "body", "expected", "is_base64"),
    [
        ("text/plain", b"a", "a", False),
        ("application/problem+json", b"{}", "{}", False),
        ("image/png", b"\x89", "iQ==", True),
        ("", b"a", "YQ==", True),
        ("text/plain", b"\xff", "/w==", True),
    ],
)
def test_bodies(content_type: str, body: bytes, expected: str, is_base64: bool) -> None:
    request = HttpRequest("POST", "/", "/", "", (("content-type", content_type),), body)
    event = http_v2.event(request, MATCH)
    assert (event["body"], event["isBase64Encoded"]) == (expected, is_base64)


@pytest.mark.parametrize(
    ("value", "status", "headers", "body"),
    [
        ("Hello", 200, [("content-type", "application/json")], b"Hello"),
        ({"message": "x"}, 200, [("content-type", "application/json")], b'{"message":"x"}'),
        ({"statusCode": 204}, 204, [("content-type", "text/plain; charset=utf-8")], b""),
        (
            {
                "statusCode": 201,
                "headers": {"Content-Type": "text/html", "X-Flag": True},
                "cookies": ["a=b", "c=d"],
                "body": "YQ==",
                "isBase64Encoded": True,
            },
            201,
            [
                ("content-type", "text/html"),
                ("x-flag", "true"),
                ("set-cookie", "a=b"),
                ("set-cookie", "c=d"),
            ],
            b"a",
        ),
    ],
)
def test_responses(value: Any, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    response = http_v2.response(json.dumps(value).encode())
    assert (response.status, list(response.headers), response.body) == (status, headers, body)


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b'{"statusCode": "abc"}',
        b'{"statusCode": 99}',
        b'{"statusCode": 200, "body": {"a": 1}}',
        b'{"statusCode": 200, "headers": "x"}',
        b'{"statusCode": 200, "body": "%%", "isBase64Encoded": true}',
    ],
)
def test_malformed_responses_are_500(payload: bytes) -> None:
    response = http_v2.response(payload)
    assert (response.status, response.body) == (500, b'{"message":"Internal Server Error"}')
    assert response.error
