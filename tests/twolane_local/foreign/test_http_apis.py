"""HTTP APIs in the forms that templates have: each project is started and called."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import httpx
import pytest

from .calling import call

if TYPE_CHECKING:
    from twolane_local.emulator import Emulator


def test_an_api_whose_target_is_all_of_it() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        assert (await client.put("/any/thing")).json() == {"key": "$default", "path": "/any/thing"}

    call("http_quick_create", script)


@pytest.mark.slow
def test_a_resource_for_each_part() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        read = await client.get("/notes/7", headers={"origin": "https://shop.example"})
        assert read.json() == {"key": "GET /notes/{id}", "id": "7", "who": None}
        assert read.headers["access-control-allow-origin"] == "https://shop.example"
        preflight = {"origin": "https://shop.example", "access-control-request-method": "PUT"}
        allowed = await client.options("/notes/7", headers=preflight)
        assert allowed.headers["access-control-allow-methods"] == "GET,PUT"
        assert (await client.put("/notes/7")).status_code == 401
        refused = await client.put("/notes/7", headers={"authorization": "no"})
        assert (refused.status_code, refused.json()) == (403, {"message": "Forbidden"})
        written = await client.put("/notes/7", headers={"authorization": "open sesame"})
        assert written.json()["who"] == {"lambda": {"user": "ali"}}
        assert (await client.delete("/notes/7")).status_code == 404

    call(
        "http_resources",
        script,
        "Sockets is not emulated: APIs of WebSockets are not served",
    )


@pytest.mark.slow
def test_the_most_specific_route_and_those_that_are_not_played() -> None:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html"""

    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        for method, path, key in (
            ("GET", "/pets/dog/1", "GET /pets/dog/1"),
            ("GET", "/pets/dog/2", "GET /pets/dog/{id}"),
            ("GET", "/pets/cat/1", "GET /pets/{proxy+}"),
            ("POST", "/test/5", "ANY /{proxy+}"),
            ("GET", "/", "$default"),
        ):
            assert (await client.request(method, path)).text == key
        elsewhere = await client.get("/elsewhere")
        assert elsewhere.status_code == 501
        assert "https://petstore.example/pets (HTTP_PROXY)" in elsewhere.json()["message"]
        imported = await client.get("/imported")
        assert imported.status_code == 501
        assert "of-another-stack is not in this template" in imported.json()["message"]

    call(
        "http_sls",
        script,
        "HttpApiRouteGetElsewhere is not emulated: route GET /elsewhere answers 501: it passes "
        "requests on to https://petstore.example/pets (HTTP_PROXY)",
        "HttpApi is not emulated: GET /imported answers 501: its function of-another-stack is not "
        "in this template",
        output="HttpApiUrl",
    )


@pytest.mark.slow
def test_a_document_in_a_file_and_a_stage_variable_in_it() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        answer = await client.get("/orders")
        assert answer.text == "shop-orders /prod/orders"
        assert answer.headers.get_list("x-many") == ["a", "b"]

    call("http_definition_uri", script)


@pytest.mark.slow
def test_parts_of_a_template_in_files_of_their_own() -> None:
    async def script(emulator: Emulator, client: httpx.AsyncClient) -> None:
        assert (await client.get("/hello")).text == "hello"
        (function,) = emulator.stack.functions
        given = function.environment
        assert (given["KEPT"], given["ADDED"]) == ("1", "2")
        remote = await client.get(emulator.addresses.apis["remote"])
        assert remote.status_code == 501
        assert "its document is in S3" in remote.json()["message"]

    call(
        "http_include",
        script,
        "Remote is not emulated: AWS::Include reads files beside the template, and not "
        "s3://bucket/api.yaml",
    )


@pytest.mark.slow
def test_requests_become_messages_and_events() -> None:
    async def script(emulator: Emulator, client: httpx.AsyncClient) -> None:
        sent = await client.post("/orders?shop=north", content=b'{"total": "5 & 6"}')
        assert (sent.status_code, sent.headers["content-type"]) == (200, "text/xml")
        space = {"sqs": "http://queue.amazonaws.com/doc/2012-11-05/"}
        result = ElementTree.fromstring(sent.text).find("sqs:SendMessageResult", space)
        assert result is not None
        (received,) = emulator.queues.receive(emulator.stack.outputs["Queue"], 1)
        assert received.message.id == result.findtext("sqs:MessageId", None, space)
        assert received.message.body == '{"total": "5 & 6"}'
        assert received.message.attributes["shop"].string == "north"
        assert (await client.post("/orders?shop=north")).status_code == 400  # no body, no message

        body = {"kind": "ordered", "order": {"total": 5}}
        put = await client.post("/north/events", json=body)
        assert put.status_code == 200
        assert put.json()["FailedEntryCount"] == 0
        (entry,) = put.json()["Entries"]
        async with asyncio.timeout(20):
            while not (found := emulator.queues.receive(emulator.stack.outputs["Taken"], 1)):
                await asyncio.sleep(0.05)
        event: dict[str, Any] = httpx.Response(200, text=found[0].message.body).json()
        assert (event["id"], event["source"]) == (entry["EventId"], "shop.north")
        assert (event["detail-type"], event["detail"]) == ("ordered", {"total": 5})
        stream = await client.post("/stream", content=b"x")
        assert (stream.status_code, "Kinesis-PutRecord" in stream.text) == (501, True)

    call(
        "http_services",
        script,
        "StreamRoute is not emulated: route POST /stream answers 501: Kinesis-PutRecord is not; "
        "EventBridge-PutEvents and SQS-SendMessage are",
    )


@pytest.mark.slow
def test_parameters_of_requests_and_responses_are_mapped() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        answer = await client.post(
            "/shops/north/orders?debug=1&page=2",
            json={"orders": [{"id": 1}, {"id": "two"}]},
            headers={"x-secret": "s", "x-color": "red", "x-order": "zero"},
        )
        assert answer.status_code == 201
        assert (answer.headers["x-id"], answer.headers["x-kind"]) == ("7", "fixed")
        assert "x-internal" not in answer.headers
        event = answer.json()["event"]
        assert event["rawPath"] == "/v2/north"
        assert event["requestContext"]["http"]["path"] == "/shops/north/orders"
        assert event["headers"]["x-order"] == "zero,two"
        assert event["headers"]["x-color"] == "green"
        assert not {"x-secret", "x-nothing"} & event["headers"].keys()
        route = "POST /shops/{shop}/orders"
        assert event["queryStringParameters"] == {"page": "2", "route": route}
        assert event["stageVariables"] == {"color": "green"}
        assert (await client.post("/shops/gone/orders")).status_code == 410

    call("http_mapping", script)


@pytest.mark.slow
def test_stages_have_variables_of_their_own() -> None:
    async def script(emulator: Emulator, client: httpx.AsyncClient) -> None:
        live = await client.get("/open")
        assert live.json() == ["staged-green", {"name": "green"}, "/live/open"]
        dev = await client.get(f"{emulator.stack.outputs['Dev']}/open")
        assert dev.json() == ["staged-blue", {"name": "blue"}, "/dev/open"]
        assert (await client.get("/signed")).status_code == 403
        signed = {
            "authorization": "AWS4-HMAC-SHA256 Credential=local/20240101/us-east-1/execute-api"
        }
        assert (await client.get("/signed", headers=signed)).status_code == 200

    call("http_stages", script, output="Live")
