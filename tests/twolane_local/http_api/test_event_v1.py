"""https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html"""

from __future__ import annotations

import json
from typing import Any

import pytest

from twolane_local.aws.events import http_v1
from twolane_local.aws.events.http import HttpRequest, RouteMatch

REQUEST = HttpRequest(
    method="POST",
    path="/my/7",
    raw_path="/my/7",
    query="a=1&a=2&b=3",
    headers=(("host", "h.example"), ("x-many", "1"), ("x-many", "2"), ("user-agent", "agent")),
    body=b"text",
    source_ip="192.0.2.1",
    time_ms=1583348638390,
    request_id="id=",
    domain="h.example",
)
MATCH = RouteMatch("POST /my/{id}", "/my/{id}", "f", {"id": "7"}, api_id="api", stage="Prod")
IDENTITY = {
    "accessKey": None, "accountId": None, "caller": None, "cognitoAuthenticationProvider": None,
    "cognitoAuthenticationType": None, "cognitoIdentityId": None, "cognitoIdentityPoolId": None,
    "principalOrgId": None, "sourceIp": "192.0.2.1", "user": None, "userAgent": "agent",
    "userArn": None,
}  # fmt: skip
COMMON: dict[str, Any] = {
    "resource": "/my/{id}",
    "path": "/my/7",
    "httpMethod": "POST",
    "headers": {"host": "h.example", "x-many": "2", "user-agent": "agent"},
    "multiValueHeaders": {"host": ["h.example"], "x-many": ["1", "2"], "user-agent": ["agent"]},
    "queryStringParameters": {"a": "2", "b": "3"},
    "multiValueQueryStringParameters": {"a": ["1", "2"], "b": ["3"]},
    "pathParameters": {"id": "7"},
    "stageVariables": None,
}
CONTEXT: dict[str, Any] = {
    "accountId": "123456789012",
    "apiId": "api",
    "domainName": "h.example",
    "domainPrefix": "h",
    "extendedRequestId": "id=",
    "httpMethod": "POST",
    "identity": IDENTITY,
    "path": "/Prod/my/7",
    "protocol": "HTTP/1.1",
    "requestId": "id=",
    "requestTime": "04/Mar/2020:19:03:58 +0000",
    "requestTimeEpoch": 1583348638390,
    "resourcePath": "/my/{id}",
    "stage": "Prod",
}


def test_the_event_of_a_rest_api() -> None:
    assert http_v1.rest_event(REQUEST, MATCH) == {
        **COMMON,
        "requestContext": {**CONTEXT, "resourceId": "7c76fe", "deploymentId": "local"},
        "body": "text",
        "isBase64Encoded": False,
    }


def test_the_event_of_payload_format_1() -> None:
    assert http_v1.http_api_event(REQUEST, MATCH) == {
        "version": "1.0",
        **COMMON,
        "requestContext": {
            **CONTEXT,
            "authorizer": {"claims": None, "scopes": None},
            "resourceId": None,
        },
        "body": "dGV4dA==",
        "isBase64Encoded": True,
    }


def test_what_there_is_none_of_is_null() -> None:
    bare = HttpRequest("GET", "/", "/", "", ())
    event = http_v1.rest_event(bare, RouteMatch("GET /", "/", "f"))
    names = ("queryStringParameters", "multiValueQueryStringParameters", "pathParameters", "body")
    assert [event[name] for name in names] == [None] * 4


@pytest.mark.parametrize(
    ("content_type", "binary", "expected"),
    [
        ("image/png", ["image/png"], True),
        ("image/png; q=1", ["image/*"], True),
        ("text/plain", ["*/*"], True),
        ("text/plain", ["image/*"], False),
        ("image/png", [], False),
    ],
)
def test_binary_types(content_type: str, binary: list[str], expected: bool) -> None:
    assert http_v1.is_binary(content_type, binary) is expected


def shaped(value: Any, accept: str = "", binary: list[str] | None = None) -> Any:
    return http_v1.rest_response(json.dumps(value).encode(), accept, binary or [])


def test_headers_of_one_and_of_several_values_are_joined() -> None:
    response = shaped(
        {
            "statusCode": 200,
            "headers": {"A": "1", "B": "2"},
            "multiValueHeaders": {"a": ["1", "3"], "Set-Cookie": ["x=1", "y=2"]},
            "body": "b",
        }
    )
    assert sorted(response.headers) == [
        ("B", "2"), ("Content-Type", "application/json"), ("Set-Cookie", "x=1"),
        ("Set-Cookie", "y=2"), ("a", "1"), ("a", "3"),
    ]  # fmt: skip


def test_base64_is_decoded_for_a_client_that_accepts_binary() -> None:
    value = {"statusCode": 200, "body": "YQ==", "isBase64Encoded": True}
    assert shaped(value, "image/png", ["image/*"]).body == b"a"
    assert shaped(value, "text/html, image/png", ["image/*"]).body == b"YQ=="


@pytest.mark.parametrize(
    "value",
    [
        "text",
        None,
        ["x"],
        {"statusCode": 200, "body": {}},
        {"statusCode": "x"},
        {"statusCode": 200, "cookies": []},
        {"id": 1},
        {"multiValueHeaders": {"x": "y"}},
    ],
)
def test_a_malformed_result_is_a_bad_gateway(value: Any) -> None:
    response = shaped(value)
    assert (response.status, response.body) == (502, b'{"message":"Internal server error"}')


@pytest.mark.parametrize("value", [{}, {"body": "x"}, {"statusCode": None}, {"headers": None}])
def test_a_result_without_a_status_is_a_200(value: Any) -> None:
    response = shaped(value)
    assert (response.status, response.body.decode()) == (200, value.get("body", ""))
