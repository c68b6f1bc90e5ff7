from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import redis

if TYPE_CHECKING:
    from .conftest import Application

SENT = {"email": "user@example.com", "outcome": "sent"}


@pytest.fixture
def tasks(application: Application) -> Any:
    return import_module("app.tasks")


def queue_length(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        length = client.llen("celery")
        assert isinstance(length, int)
        return length


def test_called_it_is_a_function(tasks: Any, redis_url: str) -> None:
    assert tasks.send_notification("user@example.com", "Hello") == SENT


def test_called_it_tries_once(tasks: Any, redis_url: str) -> None:
    with pytest.raises(Exception, match="no answer at attempt 1"):
        tasks.send_notification("flaky@simulator.example.com", "Hello")
    assert queue_length(redis_url) == 0


def test_a_refused_message_is_an_outcome(tasks: Any) -> None:
    outcome = tasks.send_notification("bounce@simulator.example.com", "Hello")
    assert outcome["outcome"] == "refused"


def test_queued_it_is_retried_until_it_is_given_up(tasks: Any) -> None:
    result = tasks.send_notification.apply(("down@simulator.example.com", "Hello"))
    assert result.state == "FAILURE"
    assert "attempt 4" in str(result.result)


def test_with_best_effort_the_last_attempt_counts(tasks: Any) -> None:
    result = tasks.send_notification.apply(
        ("down@simulator.example.com", "Hello"), {"best_effort": True}
    )
    assert result.state == "SUCCESS"
    assert result.result["outcome"] == "failed"


def test_what_is_given_up_is_not_acknowledged(tasks: Any) -> None:
    # https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-acks-on-failure-or-timeout
    assert tasks.send_notification.acks_late
    assert not tasks.send_notification.acks_on_failure_or_timeout


def test_the_report_counts(tasks: Any) -> None:
    outcomes = [SENT, SENT, {"outcome": "refused"}, {"outcome": "failed"}]
    assert tasks.campaign_report(outcomes) == {
        "recipients": 4,
        "sent": 2,
        "refused": 1,
        "failed": 1,
    }


# Celery 5.7 stores results by a command that redis-py 8 calls deprecated.
@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
def test_an_import_tells_how_far_it_is(tasks: Any) -> None:
    text = "email\n" + "".join(f"user{number}@example.com\n" for number in range(40))
    result = tasks.import_recipients.apply((text,), task_id="an-import")
    assert result.result == {"rows": 40, "accepted": 40, "rejected": 0, "errors": []}
    # The result of an eager run is not stored, its progress is.
    stored = tasks.celery.backend.get_task_meta("an-import")
    assert (stored["status"], stored["result"]) == ("PROGRESS", {"current": 40, "total": 40})


def test_an_unusable_file_fails_the_import(tasks: Any) -> None:
    result = tasks.import_recipients.apply(("no header",))
    assert result.state == "FAILURE"
    assert "`email`" in str(result.result)


@pytest.mark.parametrize(
    ("readers", "count"), [("", 0), ("a@example.com", 1), ("a@example.com, b@example.com,", 2)]
)
def test_the_digest_goes_to_each_reader(
    tasks: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch, readers: str, count: int
) -> None:
    monkeypatch.setenv("DIGEST_RECIPIENTS", readers)
    tasks.get_settings.cache_clear()
    assert tasks.daily_digest() == count
    assert queue_length(redis_url) == count


def test_the_digest_is_due_once_a_day(tasks: Any) -> None:
    (entry,) = tasks.celery.conf.beat_schedule.values()
    assert entry["task"] in tasks.celery.tasks
    assert (entry["schedule"].hour, entry["schedule"].minute) == ({7}, {0})
