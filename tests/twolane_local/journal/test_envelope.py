from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery

from twolane.publish import install
from twolane.publish import message as entry
from twolane_local.journal.messages import task_message


def published(monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    """Return the message that the runtime sends for `.apply_async()`, caught before the request."""
    caught: list[dict[str, Any]] = []

    class CaughtError(Exception):
        pass

    def build(message: dict[str, Any], **_: Any) -> None:
        caught.append(json.loads(json.dumps(message)))
        raise CaughtError

    monkeypatch.setattr(entry, "build", build)
    app = Celery("sender", broker="sqs://key:secret@", set_as_current=False)
    app.conf.update(
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": "http://127.0.0.1:9/123456789012/tasks"}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
        task_publish_retry=False,
    )
    install()

    @app.task(name="app.tasks.add")
    def add(*args: Any, **kwargs: Any) -> None:
        pass

    with pytest.raises(CaughtError):
        add.apply_async((1, "ä"), {"times": 2}, **options)
    return caught[0]


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """Without what each publisher makes up or stamps for itself."""
    for name in ("origin", "eta"):
        message["headers"][name] = bool(message["headers"][name])
    # `.delay()` states the task's own here; where nothing is stated, the worker asks the task.
    assert not message["headers"].pop("ignore_result")
    for name in ("reply_to", "delivery_tag"):
        assert message["properties"].pop(name)
    return message


@pytest.mark.parametrize("options", [{}, {"countdown": 30}, {"priority": 3}])
def test_the_message_is_the_one_that_delay_writes(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    real = comparable(published(monkeypatch, task_id="t-1", **options))
    task_id, text = task_message(
        "app.tasks.add", [1, "ä"], {"times": 2}, queue="tasks", task_id="t-1", **options
    )
    assert task_id == "t-1"
    assert comparable(json.loads(text)) == real


def test_each_message_has_an_id_of_its_own() -> None:
    first, _ = task_message("a")
    second, text = task_message("a")
    assert first != second
    assert json.loads(text)["headers"]["id"] == second
