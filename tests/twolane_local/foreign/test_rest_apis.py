"""REST APIs in the forms that templates have: each project is started and called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from .calling import call

if TYPE_CHECKING:
    import httpx

    from twolane_local.emulator import Emulator


def test_the_implicit_api() -> None:
    async def script(emulator: Emulator, client: httpx.AsyncClient) -> None:
        assert emulator.stack.outputs["Stage"] == "Prod"
        event = (await client.get("/hello?a=1&a=2")).json()
        assert (event["path"], event["resource"]) == ("/hello", "/hello")
        assert event["requestContext"]["path"] == "/Prod/hello"
        assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"]}
        # A slash at the end finds the same method; the event has the path as it came.
        assert (await client.get("/hello/")).json()["path"] == "/hello/"
        proxied = (await client.delete("/files/a/b%20c/")).json()
        assert proxied["pathParameters"] == {"proxy": "a/b%20c"}
        for missing in (await client.post("/hello"), await client.get("/files")):
            assert missing.status_code == 403
            assert missing.json() == {"message": "Missing Authentication Token"}

    call("rest_hello", script)


@pytest.mark.slow
def test_a_definition_that_the_template_includes() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        event = (await client.get("/live/things/7")).json()
        assert event["requestContext"]["operationName"] == "readThing"
        assert event["requestContext"]["stage"] == "live"
        assert event["stageVariables"] == {"COLOUR": "green", "READER": "Read"}
        picture = await client.get("/test/picture", headers={"accept": "image/png"})
        assert picture.content == b"\x89PNG"
        assert picture.headers.get_list("set-cookie") == ["a=1", "b=2"]
        # The other stage's variables name another function.
        other = await client.get("/test/things/7", headers={"accept": "image/png"})
        assert other.content == b"\x89PNG"
        sent = await client.put(
            "/live/picture", content=b"\x89", headers={"content-type": "image/png"}
        )
        assert sent.text == "True"
        # These make a proxy response malformed.
        assert (await client.post("/live/picture")).status_code == 502

    call("rest_include", script)


@pytest.mark.slow
def test_a_definition_beside_the_template() -> None:
    async def script(emulator: Emulator, client: httpx.AsyncClient) -> None:
        assert (await client.patch("/a/b")).json()["pathParameters"] == {"proxy": "a/b"}
        assert (await client.get("/")).status_code == 403
        # This one asks for the document's base path in front of its paths.
        based = emulator.stack.outputs["Based"]
        event = (await client.get(f"{based}/base/a")).json()
        assert (event["resource"], event["stageVariables"]) == ("/base/{proxy+}", {"a": "b"})
        assert (await client.get(f"{based}/a")).status_code == 403

    call("rest_definition_uri", script)


@pytest.mark.slow
def test_resources_and_methods_as_cdk_writes_them() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        event = (await client.get("books/7")).json()
        assert event["resource"] == "/books/{isbn}"
        assert event["pathParameters"] == {"isbn": "7"}
        assert event["requestContext"]["operationName"] == "readBook"
        assert event["stageVariables"] == {"shelf": "upper"}
        assert (await client.post("")).json()["resource"] == "/"
        assert (await client.get("books")).status_code == 403
        for origin, allowed in (
            ("https://b.example", "https://b.example"),
            ("https://evil.example", "https://a.example"),
        ):
            preflight = await client.options("books/7", headers={"origin": origin})
            assert preflight.status_code == 204
            assert preflight.headers["access-control-allow-origin"] == allowed
            assert preflight.headers["access-control-allow-methods"] == "GET"

    call("rest_resources", script, output="booksEndpoint")


@pytest.mark.slow
def test_resources_and_methods_as_the_serverless_framework_writes_them() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        preflight = await client.options("/hello")
        assert (preflight.status_code, preflight.text) == (200, "")
        assert preflight.headers["access-control-allow-origin"] == "*"
        key, token = {"x-api-key": "0123456789abcdefghij"}, {"x-token": "t-ali"}
        assert (await client.get("/hello", headers=key)).status_code == 401
        mistyped = await client.get("/hello", headers={**key, "x-token": "ali"})
        assert mistyped.status_code == 401
        keyless = await client.get("/hello", headers=token)
        assert (keyless.status_code, keyless.json()) == (403, {"message": "Forbidden"})
        context = (await client.get("/hello", headers={**key, **token})).json()["requestContext"]
        assert context["authorizer"]["principalId"] == "ali"
        assert context["identity"]["apiKey"] == "0123456789abcdefghij"
        assert context["stage"] == "dev"

    call("rest_sls", script, output="ServiceEndpoint")


@pytest.mark.slow
def test_api_keys_with_a_usage_plan() -> None:
    async def script(emulator: Emulator, client: httpx.AsyncClient) -> None:
        refused = await client.get("/")
        assert (refused.status_code, refused.json()) == (403, {"message": "Forbidden"})
        # The refusal says in the log which key it takes.
        said = [event.data["error"] for event in emulator.journal if "error" in event.data]
        key = re.findall(r"send x-api-key: (\w+)", " ".join(filter(None, said)))[0]
        assert (await client.get("/", headers={"x-api-key": f"{key}x"})).status_code == 403
        assert (await client.options("/")).status_code == 200
        assert (await client.get("/free")).status_code == 200
        answers = [await client.get("/", headers={"x-api-key": key}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[3].json() == {"message": "Limit Exceeded"}
        closed = emulator.stack.outputs["Closed"]
        assert (await client.get(closed, headers={"x-api-key": key})).status_code == 403

    call("rest_keys", script)


@pytest.mark.slow
def test_request_validators_and_gateway_responses() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        shop = {"x-shop": "1", "x-tag": "mine"}
        assert (await client.post("/orders", headers=shop, json={"item": "a"})).status_code == 200
        missing = await client.post("/orders", headers={"x-tag": "mine"}, json={"item": "a"})
        assert missing.status_code == 400
        assert missing.json() == {"message": "Missing required request parameters: [X-Shop]"}
        assert missing.headers["x-kind"] == "BAD_REQUEST_PARAMETERS"
        assert missing.headers["x-tag"] == "mine"
        for body in ({}, {"item": 1}, {"item": "a", "count": 0}):
            wrong = await client.post("/orders", headers=shop, json=body)
            assert (wrong.status_code, wrong.json()["said"]) == (422, "Invalid request body")
            assert wrong.headers["access-control-allow-origin"] == "*"
        unknown = await client.get("/nothing")
        assert unknown.headers["x-kind"] == "MISSING_AUTHENTICATION_TOKEN"
        # A body of a type that no model has is not looked at.
        plain = {**shop, "content-type": "text/plain"}
        assert (await client.post("/orders", headers=plain, content="x")).status_code == 200

    call("rest_validators", script)


DENIED = "User is not authorized to access this resource"


@pytest.mark.slow
def test_lambda_authorizers() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        async def ask(path: str, token: str | None = None) -> tuple[int, Any]:
            headers = {} if token is None else {"authorization": token}
            answer = await client.get(path, headers=headers)
            return answer.status_code, answer.json()

        assert await ask("/a") == (401, {"message": "Unauthorized"})
        assert await ask("/a", "unauthorized") == (401, {"message": "Unauthorized"})
        assert await ask("/a", "raise") == (500, {"message": None})
        assert await ask("/a", "nobody") == (500, {"message": None})
        assert await ask("/a", "none") == (403, {"Message": DENIED})
        assert await ask("/a", "deny") == (403, {"Message": f"{DENIED} with an explicit deny"})
        # One answer serves every method that its policy names, and is kept.
        assert (await ask("/a", "only-a"))[0] == 200
        assert await ask("/b", "only-a") == (403, {"Message": DENIED})
        first = (await ask("/a", "me"))[1]["requestContext"]["authorizer"]
        again = (await ask("/b", "me"))[1]["requestContext"]["authorizer"]
        assert first == again
        assert (first["principalId"], first["admin"]) == ("me", "true")
        assert (await ask("/open"))[0] == 200
        assert await ask("/signed") == (403, {"message": "Missing Authentication Token"})
        assert (await ask("/signed", "AWS4-HMAC-SHA256 Credential=a"))[0] == 200
        assert await ask("/r") == (401, {"message": "Unauthorized"})
        one = (await ask("/r?user=me"))[1]["requestContext"]["authorizer"]
        two = (await ask("/r?user=me"))[1]["requestContext"]["authorizer"]
        assert int(two["calls"]) == int(one["calls"]) + 1
        assert one["keys"] == (
            "headers httpMethod methodArn multiValueHeaders multiValueQueryStringParameters path "
            "pathParameters queryStringParameters requestContext resource stageVariables type"
        )

    call("rest_authorizers", script)


@pytest.mark.slow
def test_what_is_not_played_answers_501() -> None:
    async def script(emulator: Emulator, client: httpx.AsyncClient) -> None:
        health = await client.get("/health")
        assert (health.status_code, health.json()) == (203, {"ok": True})
        assert health.headers["x-by"] == "mock"
        for method, path in (("POST", "/jobs"), ("GET", "/site"), ("GET", "/now")):
            answer = await client.request(method, path)
            assert answer.status_code == 501
            assert f"{method} {path} is not emulated" in answer.json()["message"]
        assert (await client.get("/elsewhere")).status_code == 501
        stored = await client.get(f"{emulator.stack.outputs['Stored']}/x")
        assert (stored.status_code, "in S3" in stored.text) == (501, True)

    api = "Api is not emulated:"
    call(
        "rest_unplayed",
        script,
        "Stored is not emulated: its definition is in S3, and only a file beside the template is "
        "read",
        f"{api} POST /jobs answers 501: it calls sqs through mapping templates (VTL)",
        f"{api} GET /site answers 501: it calls another server (HTTP_PROXY)",
        f"{api} GET /now answers 501: its MOCK integration writes its answer by a mapping "
        "template (VTL)",
        f"{api} GET /elsewhere answers 501: theirs is not a function of this template",
    )


@pytest.mark.slow
def test_the_base_path_of_a_domain() -> None:
    async def script(_: Emulator, client: httpx.AsyncClient) -> None:
        event = (await client.get("/orders/one/7")).json()
        assert (event["path"], event["pathParameters"]) == ("/orders/one/7", {"id": "7"})
        assert (await client.get("/v1/one/7")).json()["path"] == "/one/7"

    call(
        "rest_domain",
        script,
        "ApiGatewayDomainNamef9e2e08579 is not emulated: each API is served at its own local "
        "address only",
    )
