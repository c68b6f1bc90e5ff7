"""The facts of a live stack: its queues and journal, and a real Redis."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import Celery

from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.testing.processes.live import LiveWatch
from twolane_local.testing.simulation.invariants import Bounds

if TYPE_CHECKING:
    from collections.abc import Iterator

# Celery's own backend, which sets a result's time to live so.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

BODY = json.dumps({"headers": {"id": "t1", "task": "app.mail"}, "body": "[]"})


@dataclass
class Parts:
    """Of an emulator: what is watched."""

    clock: SystemClock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.journal = Journal(self.clock)
        self.queues = QueueService(self.clock, self.journal)
        for name in ("tasks", "dead"):
            self.queues.ensure(name, {})


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def watch(parts: Parts, client: Any) -> LiveWatch:
    """``violations`` ends it, in every test."""
    emulator: Any = parts
    return LiveWatch(emulator, client)


def judged(watch: LiveWatch, **bounds: Any) -> list[str]:
    found = watch.violations(Bounds(**bounds), ("tasks",), "dead")
    return [f"{each.invariant} {each.subject}" for each in found]


def settle(parts: Parts) -> None:
    (received,) = parts.queues.receive("tasks")
    parts.queues.delete("tasks", received.receipt_handle)


def test_a_sent_message_is_told_with_its_task(watch: LiveWatch, parts: Parts) -> None:
    message = parts.queues.send("tasks", NewMessage(BODY))
    (taken,) = watch.history.of("body.taken")
    assert (taken.task, taken.message, taken.data["name"]) == ("t1", message.id, "app.mail")
    settle(parts)
    assert judged(watch) == ["L t1"], "nothing says how it ended"


def test_a_result_is_heard_where_celery_publishes_it(
    watch: LiveWatch, parts: Parts, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = threading.Event()
    add = watch.history.add
    monkeypatch.setattr(watch.history, "add", lambda fact: (add(fact), heard.set()))
    watch.acknowledged("t1")
    heard.clear()
    app = Celery("watched", backend=redis_url, set_as_current=False)
    backend: Any = app.backend
    backend.store_result("t1", 3, "SUCCESS")
    assert heard.wait(10)
    assert [fact.data["status"] for fact in watch.history.of("result.changed")] == ["SUCCESS"]
    assert judged(watch) == []
    backend.client.close()


def test_effects_are_what_the_application_says(watch: LiveWatch, client: Any) -> None:
    told = [
        {"task": "t1", "lease": "l1", "holder": "h1", "at": 5.0},
        {"task": "t1", "lease": "l1", "holder": "h2"},
        {"task": "t2"},
    ]
    for each in told:
        client.rpush("effects", json.dumps(each))
    assert judged(watch) == ["E t2"]
    assert [fact.data["holder"] for fact in watch.history.of("effect.committed")] == [
        "h1", "h2", None,
    ]  # fmt: skip
    assert watch.history.of("effect.committed")[0].at == 5.0


def test_what_is_left_is_counted(watch: LiveWatch, parts: Parts) -> None:
    parts.queues.send("tasks", NewMessage(BODY))
    parts.queues.send("dead", NewMessage("poison"))
    watch.faults_ended()
    assert {"L t1"} < {*judged(watch)}
    assert [fact.data["body"] for fact in watch.history.of("left.over")] == [BODY]
    assert [fact.data["body"] for fact in watch.history.of("dead.letter")] == ["poison"]


def test_nothing_is_heard_after_the_end(watch: LiveWatch, client: Any) -> None:
    assert judged(watch) == []
    assert client.publish("celery-task-meta-t1", "{}") == 0
