"""A gateway of each kind, from template text to response."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from twolane_local import template
from twolane_local.aws.http_api.gateways import Gateway
from twolane_local.aws.invocation import Invocation, ThrottledError
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.template import stack

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.model import Stack

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {CodeUri: ., Runtime: python3.13, Handler: a.b}
Resources:
  Rest:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      BinaryMediaTypes: [image~1png]
      Cors: "'https://a.example'"
  Http:
    Type: AWS::Serverless::HttpApi
    Properties:
      StageName: live
      CorsConfiguration: {AllowOrigins: ["https://a.example"], AllowMethods: [GET]}
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      FunctionUrlConfig: {AuthType: AWS_IAM, Cors: {AllowOrigins: ["*"]}}
      Events:
        Rest: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: "/x/{id}", Method: get}}
        Http:
          Type: HttpApi
          Properties: {ApiId: !Ref Http, Path: /y, Method: get, PayloadFormatVersion: "1.0"}
"""


class Echo:
    """Answers with the event, or with the response that the test sets."""

    def __init__(self, answer: Any = None, error: str | None = None) -> None:
        self.answer = answer
        self.error = error

    async def invoke(
        self, function: str, event: bytes, *, request_id: str | None = None
    ) -> Invocation:
        if self.answer is ThrottledError:
            raise ThrottledError
        answer = {"statusCode": 200, "body": event.decode()} if self.answer is None else self.answer
        return Invocation(request_id or "", json.dumps(answer).encode(), self.error)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    folder: Path = tmp_path_factory.mktemp("dialects")
    (folder / "template.yaml").write_text(TEMPLATE)
    loaded = template.load(folder / "template.yaml", {}, stack_name="s")
    facts = stack.BuildContext(
        "http://127.0.0.1:1", lambda api: f"http://127.0.0.1/{api}", lambda *_: ""
    )
    made, notes = stack.build(loaded, facts)
    assert notes == []
    return made


def ask(built: Stack, api: str, method: str, path: str, invoker: Any = None, **more: Any) -> Any:
    gateway = Gateway(
        [route for route in built.routes if route.api_id == api],
        invoker or Echo(),
        SystemClock(),
        Journal(SystemClock()),
    )

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=gateway)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **more)

    return asyncio.run(main())


def test_a_rest_api_with_its_stage(built: Stack) -> None:
    event = ask(built, "rest", "GET", "/v1/x/7?a=1").json()
    assert (event["resource"], event["path"]) == ("/x/{id}", "/x/7")
    assert event["requestContext"]["path"] == "/v1/x/7"
    assert event["requestContext"]["stage"] == "v1"
    assert event["pathParameters"] == {"id": "7"}
    assert "version" not in event


@pytest.mark.parametrize(
    ("invoker", "path", "status", "body"),
    [
        (None, "/v1/nothing", 403, {"message": "Missing Authentication Token"}),
        (Echo("no response"), "/v1/x/7", 502, {"message": "Internal server error"}),
        (Echo({}, "Unhandled"), "/v1/x/7", 502, {"message": "Internal server error"}),
        (Echo(ThrottledError), "/v1/x/7", 500, {"message": "Internal server error"}),
    ],
)
def test_errors_of_a_rest_api(
    built: Stack, invoker: Any, path: str, status: int, body: dict[str, str]
) -> None:
    response = ask(built, "rest", "GET", path, invoker)
    assert (response.status_code, response.json()) == (status, body)


def test_a_preflight_that_sam_wrote_as_a_mock(built: Stack) -> None:
    response = ask(built, "rest", "OPTIONS", "/v1/x/7")
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    assert "GET" in response.headers["access-control-allow-methods"]


def test_binary_of_a_rest_api(built: Stack) -> None:
    answer = {"statusCode": 200, "body": "iQ==", "isBase64Encoded": True}
    response = ask(built, "rest", "GET", "/v1/x/7", Echo(answer), headers={"accept": "image/png"})
    assert response.content == b"\x89"


def test_payload_format_1_and_cors_of_an_http_api(built: Stack) -> None:
    response = ask(built, "http", "GET", "/live/y", headers={"origin": "https://a.example"})
    assert response.json()["version"] == "1.0"
    assert response.json()["requestContext"]["stage"] == "live"
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    preflight = ask(
        built,
        "http",
        "OPTIONS",
        "/live/y",
        headers={"origin": "https://a.example", "access-control-request-method": "GET"},
    )
    assert preflight.status_code == 204


def test_a_function_url_wants_a_signature_where_iam_guards_it(built: Stack) -> None:
    assert ask(built, "fnurl", "GET", "/p").status_code == 403
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=a"}
    event = ask(built, "fnurl", "GET", "/p", headers=signed).json()
    assert (event["routeKey"], event["requestContext"]["accountId"]) == ("$default", "anonymous")


@pytest.mark.parametrize(
    ("invoker", "status"), [(Echo({}, "Unhandled"), 502), (Echo(ThrottledError), 429)]
)
def test_errors_of_a_function_url(built: Stack, invoker: Any, status: int) -> None:
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=a"}
    assert ask(built, "fnurl", "GET", "/p", invoker, headers=signed).status_code == status
