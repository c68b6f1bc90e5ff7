"""The HTTP client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.testing.project import of_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.testing.stack import Twolane


@pytest.fixture
def stack(make: Callable[..., Twolane]) -> Twolane:
    """Answers with the event that it got."""

    def echo(event: Any, context: Any) -> Any:
        return {
            "statusCode": 201,
            "headers": {"content-type": "application/json", "x-a": "1"},
            "cookies": ["a=1", "b=2"],
            "body": json.dumps(event),
        }

    return make(of_handlers(api=echo))


def test_a_request_is_an_event_of_the_gateway_s(stack: Twolane) -> None:
    answer = stack.client.post("/a%20b/c?x=1&x=2", json={"n": 1}, headers={"X-Some": "value"})
    event = answer.json()
    assert (event["version"], event["rawPath"]) == ("2.0", "/a b/c")
    assert event["rawQueryString"] == "x=1&x=2"
    assert event["headers"]["x-some"] == "value"
    assert json.loads(event["body"]) == {"n": 1}
    assert event["requestContext"]["http"]["method"] == "POST"


def test_a_response_is_the_function_s(stack: Twolane) -> None:
    answer = stack.client.get("/")
    assert (answer.status_code, answer.headers["x-a"]) == (201, "1")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert stack.client.head("/").content == b""


def test_cookies_are_kept_between_requests(stack: Twolane) -> None:
    stack.client.get("/")
    assert stack.client.get("/").json()["cookies"] == ["a=1", "b=2"]


def test_binary_bodies(stack: Twolane) -> None:
    event = stack.client.post(
        "/", content=b"\xff\x00", headers={"content-type": "image/png"}
    ).json()
    assert (event["isBase64Encoded"], event["body"]) == (True, "/wA=")


def test_a_body_above_the_limit_of_the_gateway(stack: Twolane) -> None:
    answer = stack.client.post("/", content=b"x" * (10 * 1024 * 1024 + 1))
    assert answer.status_code == 413


def test_a_function_s_error_is_the_gateway_s_500(make: Callable[..., Twolane]) -> None:
    def fails(event: Any, context: Any) -> None:
        raise ValueError("no")

    assert make(of_handlers(api=fails)).client.get("/").status_code == 500
