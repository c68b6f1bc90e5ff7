"""The cheaper context of a running task against Celery's own."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery import Celery
from celery.app import trace
from celery.app.task import Context
from celery.utils.saferepr import saferepr

from twolane import WorkerHandler
from twolane.patches.tracing import TaskContext, short_repr
from twolane.publish import message as times

from .conftest import RecordedQueues, body, event, record

REQUESTS: list[dict[str, Any]] = [
    {},
    {"id": "1", "task": "t", "lang": "py", "argsrepr": "()", "compression": None},
    {"id": "1", "mine": 1, "twolane_request_id": "r", "stamps": {}},
    {"id": "1", "headers": {"given": 1}, "mine": 1},
    {"id": "1", "timelimit": [3, 2], "chord": None},
    {"id": "1", "properties": {"priority": 0}, "delivery_info": {}, "utc": True},
]


@pytest.mark.parametrize("request_dict", REQUESTS)
def test_it_is_celerys_but_for_its_start(request_dict: dict[str, Any]) -> None:
    given = {"args": (1,), "kwargs": {}, "called_directly": False}
    ours, stock = TaskContext(request_dict, **given), Context(request_dict, **given)
    told = dict(vars(ours))
    assert told.pop(times.STARTED) == pytest.approx(time.time(), abs=60)
    assert told == vars(stock)
    assert ours.as_execution_options() == stock.as_execution_options()


def test_a_header_of_ones_own_is_known() -> None:
    assert TaskContext({"id": "1", "mine": 1}, extra=2).headers == {"mine": 1, "extra": 2}


@pytest.mark.parametrize(
    "result",
    [None, True, 1.5, float("nan"), 10**2000, "it's", b"x", [None, [True] * 2000], {"a": 1}],
)
def test_a_result_s_text_is_celerys(result: Any) -> None:
    assert short_repr(result, 1024) == saferepr(result, 1024)


def test_a_worker_gives_it_to_its_tasks() -> None:
    app = Celery("context", set_as_current=False)
    app.conf.update(broker_url="sqs://", task_default_queue="tasks")
    seen: list[Any] = []

    @app.task(shared=False, name="look", bind=True, ignore_result=True)
    def look(self: Any) -> None:
        seen.append(self.request)

    handler = WorkerHandler(app, queues=RecordedQueues(), environ={})
    tracing: Any = trace
    assert tracing.Context is TaskContext
    handler(event(record(body("look", task_id="t1", mine="x"))))
    assert type(seen[0]) is TaskContext
    assert seen[0].headers == {"mine": "x"}
    assert isinstance(seen[0], Context)
