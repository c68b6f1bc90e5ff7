from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import redis

if TYPE_CHECKING:
    from .conftest import Application

NOTE = {"email": "user@example.com", "message": "Hello"}


def queued(redis_url: str) -> list[dict[str, Any]]:
    with redis.Redis.from_url(redis_url) as client:
        return [json.loads(message) for message in client.lrange("celery", 0, -1)]


def test_notify_answers_and_sends(
    application: Application, caplog: pytest.LogCaptureFixture, redis_url: str
) -> None:
    caplog.set_level(logging.INFO)
    answer = application("POST", "/notify", NOTE)
    assert (answer.status, answer.json) == (200, {"message": "Notification will be sent"})
    assert "Sending notification to user@example.com" in caplog.messages
    assert queued(redis_url) == []


def test_deferred_notification_is_queued(
    application: Application, caplog: pytest.LogCaptureFixture, redis_url: str
) -> None:
    caplog.set_level(logging.INFO)
    answer = application("POST", "/notify/deferred", NOTE)
    assert answer.status == 202
    assert answer.json["message"] == "Notification task queued"
    assert answer.headers["location"] == f"/tasks/{answer.json['id']}"
    assert answer.headers["retry-after"] == "1"
    (message,) = queued(redis_url)
    assert message["headers"]["id"] == answer.json["id"]
    assert message["headers"]["task"] == "app.tasks.send_notification"
    assert message["headers"]["eta"] is None
    assert not [line for line in caplog.messages if line.startswith("Sending")]


def test_a_notification_for_later_has_an_eta(application: Application, redis_url: str) -> None:
    application("POST", "/notify/deferred", {**NOTE, "delay_seconds": 60})
    (message,) = queued(redis_url)
    assert message["headers"]["eta"]


def test_a_campaign_is_a_chord(application: Application, redis_url: str) -> None:
    recipients = [f"user{number}@example.com" for number in range(12)]
    answer = application("POST", "/campaigns", {"recipients": recipients, "message": "Hello"})
    assert answer.status == 202
    messages = queued(redis_url)
    assert len(messages) == 12
    assert {message["headers"]["task"] for message in messages} == {"app.tasks.send_notification"}
    assert application("GET", answer.headers["location"]).json["state"] == "PENDING"


def test_an_import_is_queued_as_text(application: Application, redis_url: str) -> None:
    csv = "email\nzoë@example.com\n"
    answer = application("POST", "/imports", csv, content_type="text/csv")
    assert answer.status == 202
    (message,) = queued(redis_url)
    assert message["headers"]["task"] == "app.tasks.import_recipients"


def test_a_queued_task_can_be_revoked(application: Application) -> None:
    location = application("POST", "/notify/deferred", NOTE).headers["location"]
    status = application("GET", location)
    assert (status.status, status.json.get("state")) == (200, "PENDING"), status
    assert application("DELETE", location).status == 202


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/notify", {"email": "nobody", "message": "Hello"}),
        ("/notify", {"email": "user@example.com", "message": ""}),
        ("/notify/deferred", {**NOTE, "delay_seconds": -1}),
        ("/notify/deferred", {**NOTE, "delay_seconds": True}),
        ("/campaigns", {"recipients": [], "message": "Hello"}),
        ("/campaigns", "not JSON"),
    ],
)
def test_wrong_input_is_a_problem(
    application: Application, path: str, body: object, redis_url: str
) -> None:
    answer = application("POST", path, body)
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["errors"]
    assert queued(redis_url) == []


def test_unknown_paths_are_problems(application: Application) -> None:
    answer = application("GET", "/nothing/here")
    assert (answer.status, answer.json["title"]) == (404, "Not Found")


def test_health(application: Application) -> None:
    assert application("GET", "/healthz").json == {"status": "ok"}
    assert application("GET", "/readyz").json == {"status": "ready"}


def test_without_a_result_store_the_service_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, application: Application, closed_port: int
) -> None:
    from celery.backends.redis import RedisBackend

    unreachable = RedisBackend(app=application.celery, url=f"redis://127.0.0.1:{closed_port}/0")
    monkeypatch.setattr(type(application.celery), "backend", unreachable)
    answer = application("GET", "/readyz")
    assert (answer.status, answer.json["detail"]) == (503, "the result store does not answer")


def test_the_same_idempotency_key_queues_once(application: Application, redis_url: str) -> None:
    headers = {"idempotency-key": "a-key-of-the-client"}
    first = application("POST", "/notify/deferred", NOTE, headers=headers)
    again = application("POST", "/notify/deferred", NOTE, headers=headers)
    assert (first.status, again.status) == (202, 202)
    assert again.json == first.json
    assert len(queued(redis_url)) == 1
    other = {**NOTE, "message": "Another"}
    assert application("POST", "/notify/deferred", other, headers=headers).status == 422


def test_schedules_are_listed(application: Application) -> None:
    answer = application("GET", "/schedules")
    assert answer.status == 200
    assert "daily-digest" in str(answer.json)
