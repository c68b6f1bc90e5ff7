"""Applications as they come: the default one of a process, and settings that do not go with SQS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from kombu.serialization import registry

from twolane.errors import ConfigurationError
from twolane.publish import install
from twolane.publish.application import problems

if TYPE_CHECKING:
    from ...conftest import RunPython  # noqa: TID252

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/shop-tasks"

#: An API as many have it: plain ``def`` endpoints, which FastAPI runs on other threads, and results
#: that are read without naming the application.
API = """
import json, os, sys
from celery import Celery, shared_task
from celery.result import AsyncResult
from fastapi import FastAPI
{before}
celery = Celery("shop", broker="memory://", backend="cache+memory://")
{after}

@shared_task(name="add")
def add(x, y):
    return x + y

api = FastAPI()

@api.get("/sync/{{id}}")
def sync(id: str):
    return AsyncResult(id).state

@api.get("/async/{{id}}")
async def coroutine(id: str):
    return AsyncResult(id).state

@api.get("/send")
def send():
    result = add.delay(1, 2)
    return [result.app.main, result.state]

from twolane import ApiHandler
celery.backend.store_result("t1", 3, "SUCCESS")
handler = ApiHandler(api)

def get(path):
    return json.loads(handler({{
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {{"host": "localhost"}}, "isBase64Encoded": False,
        "requestContext": {{
            "http": {{"method": "GET", "path": path, "protocol": "HTTP/1.1",
                      "sourceIp": "127.0.0.1", "userAgent": "test"}},
            "stage": "$default", "requestId": "1", "accountId": "1", "apiId": "1",
            "domainName": "localhost", "routeKey": "$default", "timeEpoch": 1,
        }},
    }}, None)["body"])

print(json.dumps([get("/sync/t1"), get("/async/t1"), get("/send")]))
"""


@pytest.mark.parametrize(
    "before",
    [
        "",
        "from celery import current_app; current_app.main",  # Celery then makes one of its own
    ],
)
def test_every_thread_of_an_api_means_the_application(run_python: RunPython, before: str) -> None:
    printed = run_python(API.format(before=before, after=""))
    assert json.loads(printed.splitlines()[-1]) == ["SUCCESS", "SUCCESS", ["shop", "PENDING"]]


def test_a_default_application_of_the_users_own_stays(run_python: RunPython) -> None:
    other = (
        'other = Celery("other", broker="memory://", backend="cache+memory://", '
        "set_as_current=False)\nother.set_default()"
    )
    printed = run_python(API.format(before="", after=other))
    assert json.loads(printed.splitlines()[-1])[2] == ["other", "PENDING"]


def test_an_application_without_results_says_which_one_it_is() -> None:
    install()
    app = Celery("nothing", set_as_current=False)
    for ask in (
        lambda: app.AsyncResult("t1").state,
        lambda: app.AsyncResult("t1").result,
        lambda: app.AsyncResult("t1").get(timeout=1),
    ):
        with pytest.raises(NotImplementedError, match=r"'nothing' has no result backend") as caught:
            ask()
        assert "set_default()" in str(caught.value)
        assert "CELERY_RESULT_BACKEND" in str(caught.value)


def found(environ: dict[str, str] | None = None, **settings: Any) -> list[str]:
    app = Celery("shop", set_as_current=False)
    app.conf.update({"broker_url": "sqs://", **settings})
    return [f"{one.kind}: {one.what}. {one.fix}" for one in problems(app, environ or {})]


@pytest.mark.parametrize(
    ("environ", "settings", "expected"),
    [
        ({}, {"broker_url": "redis://:secret@cache/0"}, "redis://:**@cache/0, by broker_url"),
        ({}, {"broker_url": None}, "amqp://guest@localhost//, Celery's default"),
        ({}, {"broker_url": "amqps://b.example"}, "amqps://b.example"),
        ({}, {"broker_url": ["redis://one", "redis://two"]}, "redis://one"),
        ({}, {"broker_url": "redis://one;redis://two"}, "redis://one"),
        ({}, {"broker_write_url": "redis://h"}, "by broker_write_url"),
        ({"CELERY_BROKER_URL": "redis://h"}, {}, "by the variable CELERY_BROKER_URL"),
        ({"CELERY_BROKER_WRITE_URL": "redis://h"}, {}, "by the variable CELERY_BROKER_WRITE_URL"),
        (
            {"CELERY_BROKER_URL": "redis://h", "JOBS": QUEUE},
            {},
            "set the variable CELERY_BROKER_URL to sqs:// (the variable JOBS has a queue's URL)",
        ),
        ({}, {"task_always_eager": True}, "task_always_eager"),
        ({}, {"result_backend": "rpc://"}, "rpc://"),
        ({}, {"task_serializer": "pickle"}, "set task_serializer to 'json'"),
        ({}, {"task_serializer": "application/x-msgpack"}, "task_serializer='msgpack'"),
        ({}, {"accept_content": ["json", "yaml"]}, "yaml in accept_content"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_with_sqs(
    environ: dict[str, str],
    settings: dict[str, Any],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    (text,) = found(environ, **settings)
    assert expected in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("environ", "settings"),
    [
        ({}, {}),
        ({}, {"broker_url": ["sqs://", "redis://h"]}),
        ({}, {"broker_url": "SQS://key:secret@localhost:4566"}),
        ({"CELERY_BROKER_URL": "sqs://"}, {"broker_url": "redis://h"}),
        ({}, {"broker_url": None, "broker_transport": "sqs"}),
        ({}, {"broker_read_url": "redis://h"}),
        ({}, {"task_serializer": "orjson", "accept_content": ["orjson", "json"]}),
        ({}, {"result_serializer": "pickle"}),
    ],
)
def test_settings_that_go_with_sqs(
    environ: dict[str, str], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert found(environ, **settings) == []


@pytest.mark.parametrize(
    ("broker", "environ", "certain"),
    [
        ("redis://localhost/0", {}, True),
        ("redis://127.0.0.1/0", {}, True),
        (None, {}, True),
        ("redis://cache.example/0", {}, False),  # a celery worker may read that one
        ("redis://cache.example/0", {"TASK_QUEUE_URL": QUEUE}, True),
        ("redis://cache.example/0", {"DOCS": "https://example.com/123/shop"}, False),
    ],
)
def test_an_api_is_warned_of_what_is_certain_only(
    broker: str | None, environ: dict[str, str], certain: bool
) -> None:
    app = Celery("shop", set_as_current=False)
    app.conf.update(broker_url=broker)
    assert bool(list(problems(app, environ, only_certain=True))) is certain


def test_a_publisher_is_refused_results_over_rpc() -> None:
    install()
    app = Celery("shop", set_as_current=False)
    app.conf.update(broker_url="sqs://", result_backend="rpc://")

    @app.task(shared=False, name="add")
    def add() -> None: ...

    with pytest.raises(ConfigurationError, match=r"rpc://.*set result_backend"):
        add.delay()


def test_every_name_of_a_refused_serializer_is_kombus() -> None:
    from twolane.publish.application import REFUSED

    for content_type, name in REFUSED.items():
        assert registry.name_to_type[name] == content_type
