from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.settings import Settings, get_settings

URL = "https://sqs.us-east-1.amazonaws.com/123456789012/tasks"


def test_without_variables_celery_is_on_a_local_redis() -> None:
    conf = Settings().celery()
    assert conf["broker_url"] == "redis://localhost:6379/0"
    assert conf["result_backend"] == "redis://localhost:6379/0"
    assert "broker_transport_options" not in conf


def test_with_a_queue_celery_is_on_sqs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_QUEUE_URL", URL)
    monkeypatch.setenv("RESULT_BACKEND", "dynamodb://@eu-west-1/results?ttl_seconds=60")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    conf = get_settings().celery()
    assert conf["broker_url"] == "sqs://"
    assert conf["task_default_queue"] == "tasks"
    assert conf["result_backend"] == "dynamodb://@eu-west-1/results?ttl_seconds=60"
    assert conf["broker_transport_options"] == {
        "region": "eu-west-1",
        "predefined_queues": {"tasks": {"url": URL}},
        "sqs_base64_encoding": False,
    }


def test_messages_above_the_limit_go_to_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_QUEUE_URL", URL)
    monkeypatch.setenv("CLAIM_CHECK_BUCKET", "big")
    options = get_settings().celery()["broker_transport_options"]
    assert options["claim_check"] == {"bucket": "big"}


def test_a_prefix_keeps_the_keys_of_a_redis_cluster_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "result_backend_transport_options" not in get_settings().celery()
    get_settings.cache_clear()
    monkeypatch.setenv("RESULT_KEY_PREFIX", "{twolane}:")
    options = get_settings().celery()["result_backend_transport_options"]
    assert options == {"global_keyprefix": "{twolane}:"}


def test_long_tasks_have_a_queue_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_QUEUE_URL", URL)
    monkeypatch.setenv("LONG_QUEUE_URL", f"{URL}-long")
    monkeypatch.setenv("LONG_TASKS", "app.tasks.import_recipients, app.tasks.daily_digest,")
    conf = get_settings().celery()
    assert conf["task_default_queue"] == "tasks"
    assert conf["broker_transport_options"]["predefined_queues"] == {
        "tasks": {"url": URL},
        "long": {"url": f"{URL}-long"},
    }
    assert conf["task_routes"] == {
        "app.tasks.import_recipients": {"queue": "long"},
        "app.tasks.daily_digest": {"queue": "long"},
    }


def test_json_is_the_only_content() -> None:
    conf = Settings().celery()
    assert conf["accept_content"] == ["json"]
    assert conf["task_serializer"] == conf["result_serializer"] == "json"


@pytest.mark.parametrize(
    ("name", "value"), [("NOTIFY_FAILURE_RATE", "1.5"), ("MAILER", "carrier-pigeon")]
)
def test_wrong_settings_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name):
        get_settings()
