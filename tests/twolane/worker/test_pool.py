"""Time limits and worker loss, as Celery records them; in real time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

from twolane import WorkerHandler

from ...installed import since  # noqa: TID252
from .conftest import Context, RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from celery import Celery

    from twolane.state.memory import MemoryStore

FOR_EVER_S = 30


@pytest.fixture
def app() -> Celery:
    app = make_app()

    @app.task(shared=False, name="hang")
    def hang() -> None:
        threading.Event().wait(FOR_EVER_S)

    @app.task(shared=False, name="tidy")
    def tidy() -> str:
        try:
            threading.Event().wait(FOR_EVER_S)
        except SoftTimeLimitExceeded:
            return "tidied up"
        return "never"

    @app.task(shared=False, name="late", acks_late=True, reject_on_worker_lost=True)
    def late() -> None:
        while True:
            try:
                threading.Event().wait(FOR_EVER_S)
            except SoftTimeLimitExceeded:
                continue

    @app.task(shared=False, name="memory")
    def memory() -> None:
        raise MemoryError

    @app.task(shared=False, name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return app


@pytest.fixture
def handler(app: Celery, queues: RecordedQueues, store: MemoryStore) -> WorkerHandler:
    return WorkerHandler(app, queues=queues, store=store, environ={})


def outcome(app: Celery, task_id: str = "t1") -> tuple[str, str]:
    result = app.AsyncResult(task_id)
    return result.state, type(result.result).__name__


def test_a_soft_limit_is_raised_in_the_task(handler: WorkerHandler, app: Celery) -> None:
    text = body("hang", task_id="t1", timelimit=[None, 0.05])
    assert handler(event(record(text))) == {"batchItemFailures": []}
    assert outcome(app) == ("FAILURE", "SoftTimeLimitExceeded")


def test_a_task_may_catch_its_soft_limit(handler: WorkerHandler, app: Celery) -> None:
    handler(event(record(body("tidy", task_id="t1", timelimit=[None, 0.05]))))
    assert app.AsyncResult("t1").result == "tidied up"


def test_a_hard_limit_is_recorded_and_the_batch_goes_on(
    handler: WorkerHandler, app: Celery
) -> None:
    failures: list[Any] = []
    signals.task_failure.connect(lambda exception, **_: failures.append(exception), weak=False)
    try:
        answer = handler(
            event(
                record(body("late", task_id="t1", timelimit=[0.05, None])),
                record(body("add", 1, 2, task_id="t2")),
            )
        )
    finally:
        signals.task_failure.receivers.pop()
    assert answer == {"batchItemFailures": []}
    assert outcome(app) == ("FAILURE", "TimeLimitExceeded")
    # Celery sends the signal for a hard limit since 5.7.
    told = ["TimeLimitExceeded"] if since("celery", 5, 7) else []
    assert [type(error).__name__ for error in failures] == told
    assert app.AsyncResult("t2").result == 3


def test_the_deadline_is_a_soft_limit_first(handler: WorkerHandler, app: Celery) -> None:
    began = time.monotonic()
    answer = handler(event(record(body("tidy", task_id="t1"))), Context(remaining_ms=900))
    assert answer == {"batchItemFailures": []}
    assert app.AsyncResult("t1").result == "tidied up"
    assert time.monotonic() - began < 0.9


def test_past_the_deadline_the_worker_is_lost(
    handler: WorkerHandler, app: Celery, queues: RecordedQueues
) -> None:
    batch = event(
        record(body("late", task_id="t1"), "m1"), record(body("add", 1, 2, task_id="t2"), "m2")
    )
    answer = handler(batch, Context(remaining_ms=900))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m2"}]}
    assert queues.visibility == {"m1/1": 0, "m2/1": 0}
    assert [app.AsyncResult(id_).state for id_ in ("t1", "t2")] == ["PENDING", "PENDING"]


def test_running_out_of_memory_is_a_failure(handler: WorkerHandler, app: Celery) -> None:
    batch = event(record(body("memory", task_id="t1")), record(body("add", 1, 2, task_id="t2")))
    assert handler(batch) == {"batchItemFailures": []}
    assert outcome(app) == ("FAILURE", "MemoryError")
    assert app.AsyncResult("t2").result == 3
