"""Answers that were recorded on AWS, by public suites and in reports of users.

Function URLs: localstack, tests/aws/services/lambda_/test_lambda.py (TestLambdaURL).
REST APIs: localstack, tests/aws/services/apigateway/test_apigateway_lambda.py.
https://github.com/localstack/localstack
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from twolane_local.aws.http_api.gateways import Gateway
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import RestApi, RestMethod, RouteSpec

from .test_gateway import Answering

URL = (RouteSpec("fn", kind="url"),)
HTTP = (RouteSpec("fn"),)
PROXY = (
    RouteSpec("fn", "ANY", "/{proxy+}", kind="rest", stage="stage", rest=RestMethod(RestApi())),
    RouteSpec("fn", "ANY", "/hardcoded", kind="rest", stage="stage", rest=RestMethod(RestApi())),
)
JSON, TEXT = "application/json", "text/plain; charset=utf-8"


def ask(
    result: Any,
    routes: tuple[RouteSpec, ...],
    method: str = "POST",
    path: bytes = b"/stage/x",
    *,
    error: str | None = None,
    headers: dict[str, str] | None = None,
    content: bytes = b"",
) -> tuple[httpx.Response, Any]:
    """The response, and the function's event if it was invoked."""
    invoker = Answering(result, error)
    gateway = Gateway(routes, invoker, SystemClock(), Journal(SystemClock()))
    url = httpx.URL("http://localhost").copy_with(raw_path=path)

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=gateway)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, url, headers=headers, content=content)

    return asyncio.run(main()), next(iter(invoker.events), None)


@pytest.mark.parametrize(
    ("result", "status", "text"),
    [
        ({"hello": "world"}, 200, '{"hello":"world"}'),
        ({"statusCode": 200, "body": "body123"}, 200, "body123"),
        ({"statusCode": 200, "body": '{"hello": "world"}'}, 200, '{"hello": "world"}'),
        (["hello", 3, True], 200, '["hello",3,true]'),
        ("hello", 200, "hello"),
        (3, 200, "3"),
        (3.1, 200, "3.1"),
        (True, 200, "true"),
        ({"statusCode": "418", "body": "i'm a teapot"}, 418, "i'm a teapot"),
        ({"statusCode": 200, "body": {"a": ["é", None]}}, 200, '{"a":["é",null]}'),
        ({"statusCode": "no"}, 502, "Internal Server Error"),
        ({"statusCode": 200, "body": "%", "isBase64Encoded": True}, 502, "Internal Server Error"),
    ],
)
def test_results_of_a_function_url(result: Any, status: int, text: str) -> None:
    response, _ = ask(result, URL)
    assert (response.status_code, response.text) == (status, text)
    assert response.headers["content-type"] == JSON
    assert int(response.headers["content-length"]) == len(text.encode())


def test_an_exception_behind_a_function_url() -> None:
    response, event = ask({"errorMessage": "no", "errorType": "E"}, URL, error="Unhandled")
    assert (response.status_code, response.text) == (502, "Internal Server Error")
    assert response.headers["x-amzn-requestid"] == event["requestContext"]["requestId"]


def test_the_event_of_a_function_url() -> None:
    """``rawPath`` is as it was sent, but for slashes; a form is not text."""
    sent = {
        "connection": "keep-alive",
        "content-type": "multipart/form-data; boundary=1",
        "ExTrA-HeadErs": "With WeiRd CapS",
    }
    path = b"//pa%2Fth/%C3%A9%201?q=query&multiQuery=foo&multiQuery=%2Fbar"
    _, event = ask("", URL, path=path, headers=sent, content=b"--1")
    assert event["rawPath"] == "/pa%2Fth/%C3%A9%201"
    assert event["requestContext"]["http"]["path"] == "/pa/th/é 1"
    assert event["queryStringParameters"] == {"q": "query", "multiQuery": "foo,/bar"}
    assert event["rawQueryString"] == "q=query&multiQuery=foo&multiQuery=%2Fbar"
    assert (event["body"], event["isBase64Encoded"]) == ("LS0x", True)
    assert event["headers"]["extra-headers"] == "With WeiRd CapS"
    assert not {"connection", "keep-alive"} & set(event["headers"])
    assert {"x-amzn-tls-cipher-suite", "x-amzn-tls-version", "x-amzn-trace-id"} < set(
        event["headers"]
    )
    _, bare = ask("", URL)
    assert "body" not in bare
    assert bare["isBase64Encoded"] is False


def test_what_nobody_may_call() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"""
    response, event = ask("", (RouteSpec("fn", kind="url", options={"auth": "AWS_IAM"}),))
    assert event is None
    assert response.status_code == 403
    assert response.json()["Message"].startswith("Forbidden. For troubleshooting Function URL")
    assert response.headers["x-amzn-errortype"] == "AccessDeniedException"


@pytest.mark.parametrize(
    ("result", "kind", "text"),
    [
        ({"statusCode": 200, "body": "Hello"}, TEXT, "Hello"),
        ({"a": [1, "é"]}, JSON, '{"a":[1,"é"]}'),
        ("Hello", JSON, "Hello"),
        # 'Lambda body contains the wrong type for field "body"'
        ({"statusCode": 200, "body": {"a": 1}}, JSON, '{"message":"Internal Server Error"}'),
    ],
)
def test_results_of_an_http_api(result: Any, kind: str, text: str) -> None:
    response, _ = ask(result, HTTP, path=b"/")
    assert (response.headers["content-type"], response.text) == (kind, text)
    assert len(response.headers["apigw-requestid"]) == 16


@pytest.mark.parametrize(
    ("result", "status", "text"),
    [
        ({"statusCode": 200}, 200, ""),
        ({}, 200, ""),
        ({"headers": {"test-header": "value"}}, 200, ""),
        ({"statusCode": "201"}, 201, ""),
        ({"statusCode": 200, "headers": None}, 200, ""),
        ({"statusCode": 200, "body": "dGVzdA==", "isBase64Encoded": True}, 200, "dGVzdA=="),
        ({"statusCode": 200, "wrongValue": "value"}, 502, '{"message":"Internal server error"}'),
        ({"statusCode": "test"}, 502, '{"message":"Internal server error"}'),
        ("justAString", 502, '{"message":"Internal server error"}'),
        ({"statusCode": 200, "body": {"a": 1}}, 502, '{"message":"Internal server error"}'),
        ({"multiValueHeaders": {"a": "value1"}}, 502, '{"message":"Internal server error"}'),
    ],
)
def test_results_of_a_rest_api(result: Any, status: int, text: str) -> None:
    response, event = ask(result, PROXY)
    assert (response.status_code, response.text) == (status, text)
    assert response.headers["content-type"] == JSON
    assert response.headers["x-amzn-requestid"] == event["requestContext"]["requestId"]
    assert response.headers["x-amz-apigw-id"].endswith("=")
    assert response.headers["x-amzn-trace-id"].endswith(";Sampled=0")


@pytest.mark.parametrize(
    ("result", "headers"),
    [
        ({"headers": {"test-Header": "value", "Bool": True}}, ["test-Header: value", "Bool: true"]),
        ({"multiValueHeaders": {"test-multi": ["v1", "v2"]}}, ["test-multi: v1", "test-multi: v2"]),
        (
            {"multiValueHeaders": {"tesT-Multi": ["multi"]}, "headers": {"test-multi": "solo"}},
            ["tesT-Multi: multi", "tesT-Multi: solo"],
        ),
        ({"headers": {"Content-Length": "999"}, "body": "x"}, ["Content-Type: application/json"]),
    ],
)
def test_headers_of_a_rest_api_keep_their_case(result: Any, headers: list[str]) -> None:
    response, _ = ask(result, PROXY)
    raw = [f"{name.decode()}: {value.decode()}" for name, value in response.headers.raw]
    assert raw[: len(headers)] == headers


@pytest.mark.parametrize(
    ("sent", "path", "proxy", "context"),
    [
        (b"/stage/value/", "/value/", "value", "/stage/value/"),
        (b"/stage/value//double", "/value//double", "value//double", "/stage/value//double"),
        (b"//stage/value", "/value", "value", "/stage/value"),
        (b"/stage//value", "/value", "value", "/stage//value"),
        (b"/stage/u/t%2Ba@g.com/t+a@g.com", "/u/t%2Ba@g.com/t+a@g.com", "u/t%2Ba@g.com/t+a@g.com",
         "/stage/u/t%2Ba@g.com/t+a@g.com"),
        (b"/stage//hardcoded", "/hardcoded", None, "/stage//hardcoded"),
    ],
)  # fmt: skip
def test_paths_of_a_rest_api(sent: bytes, path: str, proxy: str | None, context: str) -> None:
    _, event = ask({}, PROXY, path=sent)
    assert event["path"] == path
    assert event["pathParameters"] == (proxy and {"proxy": proxy})
    assert event["requestContext"]["path"] == context


def test_names_of_headers_in_the_event_of_a_rest_api() -> None:
    _, event = ask({}, PROXY, headers={"aUThorization": "x"}, content=b"1")
    assert event["headers"]["Authorization"] == "x"
    assert not {"content-length", "connection"} & {name.lower() for name in event["headers"]}


def test_the_query_of_a_rest_api() -> None:
    query = b"offset=10+00:00&email=a%2Bb@c&category=one&category=two"
    _, event = ask({}, PROXY, path=b"/stage/x?" + query)
    assert event["queryStringParameters"] == {
        "offset": "10 00:00", "email": "a+b@c", "category": "two"
    }  # fmt: skip
    assert event["multiValueQueryStringParameters"]["category"] == ["one", "two"]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
@pytest.mark.parametrize("routes", [URL, HTTP, PROXY])
def test_head_and_options_reach_the_function(method: str, routes: tuple[RouteSpec, ...]) -> None:
    response, event = ask({"statusCode": 200, "body": "text"}, routes, method)
    assert event is not None
    assert response.status_code == 200
    assert response.text == ("" if method == "HEAD" else "text")
    assert response.headers["content-length"] == "4"
