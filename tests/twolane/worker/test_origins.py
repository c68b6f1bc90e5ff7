"""A message that a task publishes says when that task was sent; no other message does."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import pytest
from celery import signals

from twolane import WorkerHandler
from twolane.state.memory import MemoryStore
from twolane.worker.lease import ORIGIN, Delivery, LeaseFence, Leases, LeaseState, write_lease

from .conftest import RecordedQueues, body, event, make_app, record


def fence(sent_s: float = 1000.5) -> LeaseFence:
    held = write_lease(LeaseState.RUNNING, Delivery("h", "m", "p", sent_s), since=1.0, until=2.0)
    return LeaseFence("t1", "key", held, Leases(MemoryStore(), time.time, 60.0))


@pytest.mark.parametrize(
    ("sent_s", "headers"),
    [(1000.5, {ORIGIN: 1000.5}), (float("inf"), {})],
)
def test_a_running_task_marks_a_message(sent_s: float, headers: dict[str, Any]) -> None:
    marked: dict[str, Any] = {}
    fence(sent_s).mark(marked)
    assert marked == headers


def test_only_a_running_task_marks_messages(store: MemoryStore, queues: RecordedQueues) -> None:
    app = make_app()
    marked: list[dict[str, Any]] = []

    def publish() -> None:
        signals.before_task_publish.send(sender="other", headers=(headers := {}))
        marked.append(headers)

    app.task(publish, name="publish", shared=False)
    handler = WorkerHandler(app, store=store, queues=queues)
    handler(event(record(body("publish", task_id="t1"))))
    publish()
    assert [headers.get(ORIGIN) for headers in marked] == [1_800_000_000.0, None]


def test_a_copy_of_a_request_has_no_lease_in_it() -> None:
    """Tasks may copy, pickle or show their request."""
    one = fence()
    assert copy.deepcopy({"fence": one}) == pickle.loads(pickle.dumps({"fence": one}))
    assert repr(one) == "<lease of t1>"
