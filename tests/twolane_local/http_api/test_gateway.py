from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from twolane_local.aws.http_api.gateways import Gateway
from twolane_local.aws.invocation import Invocation, TenancyError, ThrottledError
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import RouteSpec


class Answering:
    """Invokes nothing: remembers the event and gives the outcome that the test set."""

    def __init__(self, payload: Any = None, error: str | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.payload = json.dumps(payload).encode()
        self.error = error

    async def invoke(
        self, function: str, event: bytes, *, request_id: str | None = None
    ) -> Invocation:
        self.events.append(json.loads(event))
        return Invocation(request_id or "", self.payload, self.error)


class Throttling(Answering):
    async def invoke(
        self, function: str, event: bytes, *, request_id: str | None = None
    ) -> Invocation:
        raise ThrottledError


def ask(
    invoker: Any, method: str, path: str, *routes: RouteSpec, **more: Any
) -> tuple[httpx.Response, Journal]:
    journal = Journal(SystemClock())
    gateway = Gateway(routes or [RouteSpec("fn")], invoker, SystemClock(), journal)

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=gateway)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **more)

    return asyncio.run(main()), journal


def test_a_request_becomes_an_event_and_a_response() -> None:
    invoker = Answering({"statusCode": 201, "headers": {"X-A": "b"}, "body": "done"})
    response, journal = ask(invoker, "POST", "/a%20b?x=1&x=2", json={"a": 1})
    assert (response.status_code, response.headers["x-a"], response.text) == (201, "b", "done")
    (event,) = invoker.events
    assert event["rawPath"] == "/a b"
    assert event["queryStringParameters"] == {"x": "1,2"}
    assert json.loads(event["body"]) == {"a": 1}
    received, answered = journal
    assert (received.kind, answered.kind) == ("request.received", "request.answered")
    assert received.request_id == answered.request_id == event["requestContext"]["requestId"]
    assert answered.data["status"] == 201


def test_the_headers_that_a_gateway_adds() -> None:
    invoker = Answering({"statusCode": 200})
    ask(invoker, "GET", "/", headers={"x-forwarded-proto": "gopher", "x-forwarded-for": "10.0.0.1"})
    (event,) = invoker.events
    headers = event["headers"]
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-for"] == "10.0.0.1, 127.0.0.1"
    assert headers["x-forwarded-port"].isdigit()
    request_id = event["requestContext"]["requestId"].replace("-", "")
    assert headers["x-amzn-trace-id"] == f"Root=1-{request_id[:8]}-{request_id[8:]}"


def test_path_parameters() -> None:
    invoker = Answering({"statusCode": 200})
    ask(invoker, "GET", "/x/7", RouteSpec("fn", "GET", "/x/{id}"))
    assert invoker.events[0]["routeKey"] == "GET /x/{id}"
    assert invoker.events[0]["pathParameters"] == {"id": "7"}


def test_no_route_is_404() -> None:
    response, _ = ask(Answering(), "GET", "/other", RouteSpec("fn", "GET", "/x"))
    assert (response.status_code, response.json()) == (404, {"message": "Not Found"})


def test_a_function_error_is_500_and_says_why_in_the_journal() -> None:
    error = {"errorType": "ValueError", "errorMessage": "bad"}
    response, journal = ask(Answering(error, "Unhandled"), "GET", "/")
    assert (response.status_code, response.json()) == (500, {"message": "Internal Server Error"})
    assert list(journal)[-1].data["error"] == "ValueError: bad"


def test_a_throttle_is_503() -> None:
    response, _ = ask(Throttling(), "GET", "/")
    assert (response.status_code, response.json()) == (503, {"message": "Service Unavailable"})


def test_head_has_no_body() -> None:
    response, _ = ask(Answering({"statusCode": 200, "body": "text"}), "HEAD", "/")
    assert (response.content, response.headers["content-length"]) == (b"", "4")


MB = 1024 * 1024


@pytest.mark.parametrize(
    ("kind", "size", "status", "said"),
    [
        ("httpapi", 4 * MB, 200, ""),
        ("httpapi", 7 * MB, 413, '{"message":"Request Entity Too Large"}'),
        ("httpapi", 10 * MB + 1, 413, '{"message":"Request Entity Too Large"}'),
        ("rest", 5 * MB, 200, ""),
        ("rest", 7 * MB, 413, '{"message":"Request Too Long"}'),
        ("rest", 10 * MB + 1, 413, "HTTP content length exceeded 10485760 bytes."),
    ],
)
def test_the_size_limits_of_a_request(kind: str, size: int, status: int, said: str) -> None:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html

    An API takes 10 MB, and Lambda 6 MB of it.
    """
    invoker = Answering({"statusCode": 200})
    response, _ = ask(invoker, "POST", "/", RouteSpec("fn", kind=kind), content=b"x" * size)
    assert (response.status_code, response.text) == (status, said)
    assert len(invoker.events) == (status == 200)


@pytest.mark.parametrize("kind", ["httpapi", "rest"])
def test_a_route_that_is_not_emulated_answers_501(kind: str) -> None:
    invoker = Answering({"statusCode": 200})
    route = RouteSpec("", "GET", "/x", kind, unsupported="it puts into Kinesis")
    response, journal = ask(invoker, "GET", "/x", route)
    assert response.status_code == 501
    assert response.json() == {"message": "twolane: GET /x is not emulated: it puts into Kinesis"}
    assert invoker.events == []
    assert list(journal)[-1].data["error"] == "GET /x is not emulated: it puts into Kinesis"


class Tenants(Answering):
    """A function that isolates tenants."""

    async def invoke(
        self, function: str, event: bytes, *, request_id: str | None = None, tenant_id: str = ""
    ) -> Invocation:
        if not tenant_id:
            raise TenancyError(isolates=True)
        body = {"statusCode": 200, "body": tenant_id}
        return Invocation(request_id or "", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("source", "tenant"),
    [
        ("method.request.header.x-tenant-id", "by-header"),
        ("method.request.querystring.tenant", "by-query"),
        ("method.request.path.who", "by-path"),
        ("stageVariables.tenant", "by-stage"),
        ("'fixed'", "fixed"),
    ],
)
def test_a_rest_api_maps_the_tenant_of_its_request(source: str, tenant: str) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation-invoke.html"""
    route = RouteSpec(
        "fn", "GET", "/{who}", kind="rest", payload="1.0", stage_variables={"tenant": "by-stage"},
        options={
            "integration": {
                "requestParameters": {"integration.request.header.X-Amz-Tenant-Id": source}
            }
        },
    )  # fmt: skip
    response, _ = ask(
        Tenants(), "GET", "/by-path?tenant=by-query", route, headers={"X-Tenant-Id": "by-header"}
    )
    assert (response.status_code, response.text) == (200, tenant)


@pytest.mark.parametrize(("kind", "status"), [("rest", 400), ("httpapi", 500)])
def test_a_request_without_a_tenant_is_refused(kind: str, status: int) -> None:
    route = RouteSpec("fn", "GET", "/", kind=kind, payload="1.0")
    response, _ = ask(Tenants(), "GET", "/", route)
    assert response.status_code == status
    refused = "The invoked function is enabled with tenancy configuration. Add a valid tenant ID"
    assert response.json()["message"].startswith(refused) is (kind == "rest")
