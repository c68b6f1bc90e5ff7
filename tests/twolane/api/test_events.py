"""Each source of HTTP events: the literal event, the scope it becomes, the literal answer."""

from __future__ import annotations

import base64
import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import starlette  # noqa: F401 - which one is loaded counts

from ...installed import since  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Callable

#: https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
REST: dict[str, Any] = {
    "resource": "/{proxy+}",
    "path": "/hello",
    "httpMethod": "GET",
    "headers": {"Host": "id.execute-api.us-east-1.amazonaws.com", "X-Forwarded-Port": "443"},
    "multiValueHeaders": {
        "Host": ["id.execute-api.us-east-1.amazonaws.com"],
        "X-Forwarded-Port": ["443"],
    },
    "queryStringParameters": None,
    "multiValueQueryStringParameters": None,
    "requestContext": {
        "stage": "Prod",
        "path": "/Prod/hello",
        "identity": {"sourceIp": "203.0.113.7"},
        "domainName": "id.execute-api.us-east-1.amazonaws.com",
    },
    "body": None,
    "isBase64Encoded": False,
}

#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
HTTP: dict[str, Any] = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/hello",
    "rawQueryString": "",
    "headers": {"host": "id.execute-api.us-east-1.amazonaws.com", "x-forwarded-port": "443"},
    "requestContext": {
        "domainName": "id.execute-api.us-east-1.amazonaws.com",
        "http": {"method": "GET", "path": "/hello", "sourceIp": "203.0.113.7"},
        "stage": "$default",
    },
    "isBase64Encoded": False,
}

#: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
URL: dict[str, Any] = {
    **HTTP,
    "headers": {"host": "abc.lambda-url.us-east-1.on.aws", "x-forwarded-port": "443"},
    "requestContext": {
        **HTTP["requestContext"],
        "domainName": "abc.lambda-url.us-east-1.on.aws",
    },
}

#: HTTP API with payload format 1.0.
HTTP_V1: dict[str, Any] = {**REST, "version": "1.0"}

#: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
_BALANCER: dict[str, Any] = {
    "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:…"}},
    "httpMethod": "GET",
    "path": "/hello",
    "body": "",
    "isBase64Encoded": False,
}
ALB: dict[str, Any] = {
    **_BALANCER,
    "queryStringParameters": {},
    "headers": {"host": "lb.elb.amazonaws.com", "x-forwarded-for": "203.0.113.7"},
}
ALB_MULTI: dict[str, Any] = {
    **_BALANCER,
    "multiValueQueryStringParameters": {},
    "multiValueHeaders": {"host": ["lb.elb.amazonaws.com"], "x-forwarded-for": ["203.0.113.7"]},
}

#: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/lambda-event-structure.html
EDGE: dict[str, Any] = {
    "Records": [
        {
            "cf": {
                "config": {"eventType": "origin-request"},
                "request": {
                    "clientIp": "203.0.113.7",
                    "headers": {"host": [{"key": "Host", "value": "d123.cloudfront.net"}]},
                    "method": "GET",
                    "querystring": "",
                    "uri": "/hello",
                },
            }
        }
    ]
}

SOURCES = {
    "http": HTTP,
    "http-v1": HTTP_V1,
    "url": URL,
    "rest": REST,
    "alb": ALB,
    "alb-multi": ALB_MULTI,
    "edge": EDGE,
}


def _request(event: dict[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = event["Records"][0]["cf"]["request"] if "Records" in event else event
    return request


def with_header(event: dict[str, Any], name: str, *values: str) -> dict[str, Any]:
    """The event as its source sends it for a request with that header once or more often."""
    event = copy.deepcopy(event)
    request = _request(event)
    if "Records" in event:
        request["headers"][name] = [{"key": name, "value": value} for value in values]
        return event
    for key, value in (("headers", ",".join(values)), ("multiValueHeaders", list(values))):
        if key in request:
            request[key] = {k: v for k, v in request[key].items() if k.lower() != name}
            request[key][name] = value
    return event


def with_body(event: dict[str, Any], body: str, *, is_base64: bool) -> dict[str, Any]:
    event = copy.deepcopy(event)
    if "Records" in event:
        encoding = "base64" if is_base64 else "text"
        _request(event)["body"] = {"data": body, "encoding": encoding}
    else:
        event.update(body=body, isBase64Encoded=is_base64)
    return event


def status(response: dict[str, Any]) -> int:
    return int(response.get("statusCode", response.get("status", 0)))


@pytest.fixture
def ask(api, context) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """``ask(event, …)``: what the application saw (with its body), and what was answered."""

    def ask(
        event: dict[str, Any],
        *,
        headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"text/plain"),),
        body: bytes = b"ok",
        status: int = 200,
        **options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        seen: dict[str, Any] = {}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.update(scope, body=(await receive())["body"])
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        return seen, api(app, lifespan="off", **options)(event, context)

    return ask


each_source = pytest.mark.parametrize("event", SOURCES.values(), ids=SOURCES)


@each_source
def test_every_source_reaches_the_application(ask, event) -> None:
    scope, response = ask(event)
    assert scope["path"].endswith("/hello")
    assert (scope["method"], scope["client"]) == ("GET", ("203.0.113.7", 0))
    assert (status(response), response["body"]) == (200, "ok")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (
            "http",
            {
                "statusCode": 201,
                "headers": {"content-type": "application/json", "x-a": "1,2"},
                "cookies": ["a=1; Path=/", "b=2; Path=/"],
                "body": "{}",
                "isBase64Encoded": False,
            },
        ),
        (
            "rest",
            {
                "statusCode": 201,
                "headers": {"content-type": "application/json"},
                "multiValueHeaders": {
                    "set-cookie": ["a=1; Path=/", "b=2; Path=/"],
                    "x-a": ["1", "2"],
                },
                "body": "{}",
                "isBase64Encoded": False,
            },
        ),
        (
            "alb",
            {
                "statusCode": 201,
                "headers": {
                    "content-type": "application/json",
                    "set-cookie": "a=1; Path=/",
                    "Set-cookie": "b=2; Path=/",
                    "x-a": "1",
                    "X-a": "2",
                },
                "body": "{}",
                "isBase64Encoded": False,
            },
        ),
        (
            "alb-multi",
            {
                "statusCode": 201,
                "multiValueHeaders": {
                    "content-type": ["application/json"],
                    "set-cookie": ["a=1; Path=/", "b=2; Path=/"],
                    "x-a": ["1", "2"],
                },
                "body": "{}",
                "isBase64Encoded": False,
            },
        ),
        (
            "edge",
            {
                "status": 201,
                "headers": {
                    "content-type": [{"key": "content-type", "value": "application/json"}],
                    "set-cookie": [
                        {"key": "set-cookie", "value": "a=1; Path=/"},
                        {"key": "set-cookie", "value": "b=2; Path=/"},
                    ],
                    "x-a": [{"key": "x-a", "value": "1"}, {"key": "x-a", "value": "2"}],
                },
                "body": "{}",
                "isBase64Encoded": False,
            },
        ),
    ],
)
def test_cookies_and_repeated_headers_leave_in_the_shape_of_the_source(ask, name, answer) -> None:
    headers = (
        (b"content-type", b"application/json"),
        (b"set-cookie", b"a=1; Path=/"),
        (b"set-cookie", b"b=2; Path=/"),
        (b"x-a", b"1"),
        (b"x-a", b"2"),
    )
    assert ask(SOURCES[name], headers=headers, body=b"{}", status=201)[1] == answer


@each_source
def test_binary_bodies_pass_both_ways(ask, event) -> None:
    sent, answered = bytes(range(256)), b"GIF87a\x01\x00\xff"
    scope, response = ask(
        with_body(event, base64.b64encode(sent).decode(), is_base64=True),
        headers=((b"content-type", b"image/gif"),),
        body=answered,
    )
    assert scope["body"] == sent
    assert response["isBase64Encoded"]
    assert base64.b64decode(response["body"]) == answered


def test_cloudfront_is_told_of_base64_in_its_own_word(ask) -> None:
    """CloudFront reads ``bodyEncoding``, and Mangum says ``isBase64Encoded`` only."""
    response = ask(EDGE, headers=((b"content-type", b"image/gif"),), body=b"GIF\xff")[1]
    assert response["bodyEncoding"] == "base64"
    assert "bodyEncoding" not in ask(EDGE)[1]


@each_source
@pytest.mark.parametrize("media_type", ["application/problem+json", "image/svg+xml"])
def test_json_and_xml_of_any_kind_are_text(ask, event, media_type) -> None:
    """https://github.com/Kludex/mangum/issues/270, which added one media type of many."""
    body = "{'ü': 1}"
    headers = ((b"content-type", media_type.encode()),)
    response = ask(event, headers=headers, body=body.encode())[1]
    assert (response["body"], response["isBase64Encoded"]) == (body, False)


@each_source
def test_a_compressed_text_is_sent_as_base64(ask, event) -> None:
    headers = ((b"content-type", b"text/plain"), (b"content-encoding", b"gzip"))
    response = ask(event, headers=headers, body=b"\x1f\x8b\x08\x00")[1]
    assert response["isBase64Encoded"]


@pytest.mark.parametrize("name", ["rest", "http-v1", "alb-multi", "edge"])
def test_repeated_request_headers_stay_apart(ask, name) -> None:
    """Mangum joins those of an API with commas, and drops all but the first at the edge."""
    scope, _ = ask(with_header(SOURCES[name], "x-a", "1", "2"))
    assert [value for key, value in scope["headers"] if key == b"x-a"] == [b"1", b"2"]


@pytest.mark.parametrize("name", ["rest", "http-v1"])
def test_repeated_cookie_headers_are_joined_as_cookies_are(ask, name) -> None:
    scope, _ = ask(with_header(SOURCES[name], "cookie", "a=1", "b=2"))
    assert [value for key, value in scope["headers"] if key == b"cookie"] == [b"a=1; b=2"]


def test_the_cookies_of_an_http_api_are_one_header(ask) -> None:
    scope, _ = ask({**HTTP, "cookies": ["a=1", "b=2"]})
    assert [value for key, value in scope["headers"] if key == b"cookie"] == [b"a=1; b=2"]


@pytest.mark.parametrize(
    ("event", "query"),
    [
        ({**HTTP, "rawQueryString": "a=1&a=2&b=%26"}, b"a=1&a=2&b=%26"),
        (
            {**REST, "multiValueQueryStringParameters": {"a": ["1", "2"], "b": ["&"]}},
            b"a=1&a=2&b=%26",
        ),
        ({**ALB, "queryStringParameters": {"a": "2", "b": "%26"}}, b"a=2&b=%26"),
        (
            {**ALB_MULTI, "multiValueQueryStringParameters": {"a": ["1", "2"], "b": ["%26"]}},
            b"a=1&a=2&b=%26",
        ),
    ],
    ids=["http", "rest", "alb", "alb-multi"],
)
def test_repeated_query_keys_all_arrive(ask, event, query) -> None:
    assert ask(event)[0]["query_string"] == query


def at(event: dict[str, Any], path: str, /, **context: Any) -> dict[str, Any]:
    event = copy.deepcopy(event)
    event["requestContext"].update(context)
    if event.get("version") == "2.0":
        event["requestContext"]["http"]["path"] = path
    else:
        event["path"] = path
    return event


@pytest.mark.parametrize(
    ("event", "base", "path", "root_path"),
    [
        # A stage: in the path of an HTTP API, in the request context's path of a REST API.
        (at(HTTP, "/dev/hello", stage="dev"), "/", "/dev/hello", "/dev"),
        (at(HTTP, "/dev", stage="dev"), "/", "/dev/", "/dev"),
        (at(HTTP, "/developers", stage="dev"), "/", "/developers", ""),
        (at(HTTP, "/dev/hello", stage="dev", domainName="api.example.com"), "/", "/hello", ""),
        (at(REST, "/hello", path="/Prod/hello"), "/", "/Prod/hello", "/Prod"),
        (at(REST, "/", path="/Prod/"), "/", "/Prod/", "/Prod"),
        (at(REST, "/hello", path="/hello"), "/", "/hello", ""),
        # A base path, of a domain of one's own.
        (at(REST, "/api/hello", path="/api/hello"), "/api", "/api/hello", "/api"),
        (at(REST, "/api/hello", path="/api/hello"), "api/", "/api/hello", "/api"),
        (at(REST, "/api", path="/api"), "/api", "/api/", "/api"),
        (at(REST, "/apiary", path="/apiary"), "/api", "/apiary", ""),
        (at(HTTP, "/api/hello"), "/api", "/api/hello", "/api"),
        (at(HTTP, "/api/h%C3%A4llo"), "/api", "/api/hällo", "/api"),
    ],
)
def test_stage_and_base_path_become_the_root_path(ask, event, base, path, root_path) -> None:
    """As under ``uvicorn --root-path``. https://github.com/Kludex/mangum/issues/318"""
    scope, _ = ask(event, api_gateway_base_path=base)
    if not since("starlette", 0, 35):  # its routes are looked up by a path without the root
        path = path.removeprefix(root_path) or "/"
    assert (scope["path"], scope["root_path"]) == (path, root_path)


def test_fastapi_serves_its_documents_and_mounts_below_a_stage(api, context) -> None:
    from fastapi import FastAPI

    app, inner = FastAPI(), FastAPI()

    @inner.get("/hello")
    def hello() -> str:
        return "inner"

    app.mount("/mounted", inner)
    handler = api(app)
    docs = handler(at(HTTP, "/dev/docs", stage="dev"), context)
    assert "/dev/openapi.json" in docs["body"]
    assert handler(at(HTTP, "/dev/mounted/hello", stage="dev"), context)["body"] == '"inner"'


def test_a_path_at_the_edge_is_decoded(ask) -> None:
    event = copy.deepcopy(EDGE)
    _request(event)["uri"] = "/h%C3%A4llo"
    assert ask(event)[0]["path"] == "/hällo"


@pytest.mark.parametrize("event", [ALB, ALB_MULTI], ids=["alb", "alb-multi"])
def test_the_client_of_a_load_balancer_is_who_it_spoke_with(ask, event) -> None:
    scope, _ = ask(with_header(event, "x-forwarded-for", "10.0.0.1, 203.0.113.9"))
    assert scope["client"] == ("203.0.113.9", 0)


@each_source
@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("[2001:db8::1]:8443", ("2001:db8::1", 8443)),
        ("[2001:db8::1]", ("2001:db8::1", 443)),
        ("example.com:8443", ("example.com", 8443)),
    ],
)
def test_every_form_of_host_is_understood(ask, event, host, server) -> None:
    """Mangum splits a Host at each colon and fails."""
    event = with_header(with_header(event, "x-forwarded-port", "443"), "host", host)
    scope, response = ask(event)
    assert scope["server"] == server
    assert [value for key, value in scope["headers"] if key == b"host"] == [host.encode()]
    assert scope["aws.event"] == event
    assert status(response) == 200


@each_source
def test_a_list_of_forwarded_ports_is_understood(ask, event) -> None:
    """https://github.com/Kludex/mangum/issues/303"""
    scope, response = ask(with_header(event, "x-forwarded-port", "443,80"))
    assert scope["server"][1] == 443
    assert [value for key, value in scope["headers"] if key == b"x-forwarded-port"] == [b"443,80"]
    assert status(response) == 200


@each_source
@pytest.mark.parametrize(
    "spoil",
    [
        lambda event: with_header(event, "host", "a:b:c"),
        lambda event: with_header(event, "host", "example.com:port"),
        lambda event: with_header(event, "x-a", "\ud800"),
        lambda event: with_body(event, "\ud800", is_base64=False),
        lambda event: with_body(event, "A", is_base64=True),
        lambda event: with_body(event, "ü", is_base64=True),
    ],
    ids=["host", "port", "header", "text", "base64", "base64-text"],
)
def test_a_request_that_cannot_be_read_is_a_400_problem(ask, event, spoil) -> None:
    scope, response = ask(spoil(event))
    assert not scope, "it reached the application"
    assert status(response) == 400
    assert json.loads(response["body"])["title"] == "Bad Request"
    assert "application/problem+json" in str(response)


@each_source
def test_latin_1_in_a_response_header_passes(ask, event) -> None:
    """Starlette encodes header values so; Mangum fails at them."""
    headers = ((b"content-type", b"text/plain"), (b"x-name", "Zoë".encode("latin-1")))
    response = ask(event, headers=headers)[1]
    assert status(response) == 200
    assert "Zoë" in str(response)


@each_source
def test_excluded_headers_are_left_out_everywhere(ask, event) -> None:
    """Mangum forgets HTTP APIs, and the second of two equal headers of a load balancer."""
    headers = ((b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"3"), (b"set-cookie", b"c=1"))
    response = ask(event, headers=headers, exclude_headers=["X-A", "Set-Cookie"])[1]
    assert "x-a" not in json.dumps(response).lower()
    assert "c=1" not in json.dumps(response)
    assert "x-b" in json.dumps(response)


@pytest.mark.parametrize("name", ["http", "url", "http-v1", "rest"])
def test_an_empty_body_has_no_media_type(ask, name) -> None:
    """Mangum makes it JSON in payload format 2.0."""
    response = ask(SOURCES[name], status=204, headers=(), body=b"")[1]
    assert "content-type" not in response.get("headers", {})
    assert (status(response), response["body"]) == (204, "")


def test_an_event_that_is_no_http_request_names_itself(ask) -> None:
    with pytest.raises(RuntimeError, match=r"\['detail', 'source'\] is not an HTTP request"):
        ask({"source": "aws.events", "detail": {}})
