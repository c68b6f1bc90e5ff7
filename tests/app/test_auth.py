from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Application

KEY = "0b2f6c1e-a-long-and-random-key"
NOTE = {"email": "user@example.com", "message": "Hello"}
TASK = "/tasks/63126b2e-a396-429b-8ff2-f1cb8a7b6fd4"


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY_SHA256", hashlib.sha256(KEY.encode()).hexdigest())


@pytest.mark.parametrize("key", [None, "", "wrong", KEY.upper(), f"{KEY} "])
@pytest.mark.parametrize(
    "call",
    [
        ("POST", "/notify", NOTE),
        ("POST", "/notify/deferred", NOTE),
        ("POST", "/campaigns", {"recipients": ["user@example.com"], "message": "Hello"}),
        ("POST", "/imports", '"email"'),
        ("GET", TASK, None),
        ("DELETE", TASK, None),
    ],
)
def test_without_the_key_nothing_is_done(
    guarded: None,
    application: Application,
    caplog: pytest.LogCaptureFixture,
    call: tuple[str, str, object],
    key: str | None,
) -> None:
    answer = application(*call, headers={} if key is None else {"x-api-key": key})
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "ApiKey"
    assert KEY not in str(answer)
    assert not [line for line in caplog.messages if "Sending" in line]


def test_with_the_key_it_is(guarded: None, application: Application) -> None:
    answer = application("POST", "/notify", NOTE, headers={"x-api-key": KEY})
    assert answer.status == 200
    assert application("GET", TASK, headers={"x-api-key": KEY}).status == 200


def test_health_is_open(guarded: None, application: Application) -> None:
    assert application("GET", "/healthz").status == 200


def test_each_route_but_health_and_documentation_is_guarded(
    guarded: None, application: Application
) -> None:
    document = application("GET", "/openapi.json").json
    open_paths = {
        path
        for path, operations in document["paths"].items()
        if not all(operation.get("security") for operation in operations.values())
    }
    assert open_paths == {"/healthz", "/readyz"}


def test_without_a_key_in_the_settings_none_is_asked(application: Application) -> None:
    assert application("POST", "/notify", NOTE).status == 200
    assert "security" not in str(application("GET", "/openapi.json").json)
